#include "trivet/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "trivet/base/clock.h"
#include "trivet/base/table.h"
#include "trivet/base/text.h"

namespace trivet {

namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kPlainSeconds = 10.0;
constexpr std::size_t kLongestBar = 40;
constexpr std::size_t kShortestBar = 8;
constexpr std::size_t kDefaultColumns = 80;
constexpr const char* kClearLine = "\r\x1b[K";  // to the first column, then erase to the line's end (ECMA-48)

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    std::string value = environment(name);
    if (value.empty()) continue;
    std::transform(value.begin(), value.end(), value.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return value.find("utf-8") != std::string::npos || value.find("utf8") != std::string::npos;
  }
  return false;
}

std::size_t terminal_columns(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const std::string text = environment("COLUMNS");
  std::size_t columns = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), columns);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && columns > 0 ? columns : kDefaultColumns;
}

// The part done, in [0, 1]; nothing if the number of steps is unknown.
std::optional<double> fraction_done(const Progress& p) {
  if (p.steps <= 0) return std::nullopt;
  return std::clamp(static_cast<double>(p.step) / static_cast<double>(p.steps), 0.0, 1.0);
}

std::string bar(double fraction, std::size_t columns, bool unicode) {
  const std::size_t inside = columns - 2;
  if (!unicode) {
    const auto done = static_cast<std::size_t>(fraction * static_cast<double>(inside));
    std::string out = "[";
    out.append(done, '#').append(inside - done, '.');
    return out + "]";
  }
  static constexpr std::array<const char*, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<std::size_t>(fraction * static_cast<double>(inside * 8));
  std::string out = "│";
  for (std::size_t i = 0; i < eighths / 8; ++i) out += "█";
  out += kEighths[eighths % 8];
  const std::size_t used = (eighths + 7) / 8;
  return out + std::string(inside - used, ' ') + "│";
}

std::string rate_text(double rate) {
  if (!(rate > 0) || !std::isfinite(rate)) return {};
  return rate < 100 ? fmt::format("{:.1f} samples/s", rate) : fmt::format("{:.0f} samples/s", rate);
}

std::string loss_text(const std::optional<double>& loss) { return loss ? fmt::format("loss {:.4f}", *loss) : ""; }

std::string left_text(double left) {
  if (!(left >= 0) || !std::isfinite(left)) return {};
  return fmt::format("left {}", format_seconds(std::ceil(left)));
}

void add_part(std::string& line, const std::string& part) {
  if (part.empty()) return;
  if (!line.empty()) line += "  ";
  line += part;
}

std::string plain_text(const Progress& p) {
  std::string line = p.phase;
  if (p.epochs > 0) line += fmt::format(" epoch {}/{}", p.epoch, p.epochs);
  if (p.steps > 0) line += fmt::format(" step {}/{}", p.step, p.steps);
  add_part(line, rate_text(p.rate));
  add_part(line, loss_text(p.loss));
  add_part(line, left_text(p.left));
  return printable(line);
}

}  // namespace

ProgressStyle progress_style(std::FILE* file) {
  ProgressStyle style;
  const int fd = fileno(file);
  const std::string term = environment("TERM");
  style.write = [file](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), file);
    std::fflush(file);
  };
  style.clock = steady_seconds;
  style.columns = [fd] { return terminal_columns(fd); };
  style.terminal = isatty(fd) == 1 && !term.empty() && term != "dumb";
  style.unicode = locale_is_utf8();
  style.color = style.terminal && environment("NO_COLOR").empty();
  return style;
}

ProgressBar::ProgressBar(ProgressStyle style) : style_(std::move(style)) {}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::update(const Progress& progress) {
  const double now = style_.clock();
  const double pause = style_.terminal ? kRedrawSeconds : kPlainSeconds;
  const bool early = written_at_ && now - *written_at_ < pause;
  if (style_.terminal) {
    shown_ = progress;
    if (early) return;
    draw();
  } else {
    // The first line, too, waits its turn: a short job shows only its permanent lines.
    if (!written_at_) written_at_ = now;
    if (now - *written_at_ < pause) return;
    style_.write(plain_text(progress) + "\n");
  }
  written_at_ = now;
}

void ProgressBar::line(std::string_view text) {
  std::string out = shown_ ? kClearLine : "";
  while (true) {
    const std::size_t end = text.find('\n');
    out += printable(text.substr(0, end)) + "\n";
    if (end == std::string_view::npos || end + 1 == text.size()) break;
    text.remove_prefix(end + 1);
  }
  if (shown_) out += compose(*shown_);
  style_.write(out);
}

void ProgressBar::clear() {
  if (!shown_) return;
  style_.write(kClearLine);
  shown_.reset();
  written_at_.reset();
}

void ProgressBar::draw() { style_.write(kClearLine + compose(*shown_)); }

std::string ProgressBar::compose(const Progress& p) const {
  // The last column stays free: a terminal that has filled it begins a new line.
  const std::size_t columns = std::max<std::size_t>(style_.columns(), 2) - 1;
  std::string head = printable(p.phase);
  if (p.epochs > 0) head += fmt::format(" {}/{}", p.epoch, p.epochs);
  const std::optional<double> fraction = fraction_done(p);
  const std::string percent = fraction ? fmt::format("{:3.0f} %", std::floor(*fraction * 100)) : "";
  std::vector<std::string> tail = {left_text(p.left), loss_text(p.loss), rate_text(p.rate)};

  // Where the line is too long, the rate goes first, then the loss, then the time left.
  while (true) {
    std::string after;
    add_part(after, percent);
    for (auto part = tail.rbegin(); part != tail.rend(); ++part) add_part(after, *part);
    const std::size_t text_columns = display_width(head) + display_width(after) + (after.empty() ? 1 : 2);
    const std::size_t room = columns > text_columns ? columns - text_columns : 0;
    if (fraction && room >= kShortestBar) {
      std::string drawn = bar(*fraction, std::min(room, kLongestBar), style_.unicode);
      if (style_.color) drawn = fmt::format("\x1b[36m{}\x1b[0m", drawn);
      return head + " " + drawn + " " + after;
    }
    const bool fits = text_columns <= columns;
    if (tail.empty() || (!fraction && fits))
      return std::string(fit_width(after.empty() ? head : head + "  " + after, columns));
    tail.pop_back();
  }
}

}  // namespace trivet
