#include "trivet/launcher/events.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <type_traits>

namespace trivet {

namespace {

using nlohmann::json;

constexpr std::size_t kLongestText = 8 * 1024;  // six times as long in JSON at worst, which fits kLongestEvent

constexpr std::size_t kLongestWord = 100;

std::string cut(const std::string& text) { return text.substr(0, kLongestText); }
std::string cut_word(const std::string& text) { return text.substr(0, kLongestWord); }

json to_json(const WorkerEvent& event) {
  if (const auto* p = std::get_if<Progress>(&event)) {
    json out = {{"event", "progress"}, {"phase", cut_word(p->phase)}, {"epoch", p->epoch},     {"epochs", p->epochs},
                {"step", p->step},     {"steps", p->steps},           {"samples", p->samples}, {"total", p->total},
                {"rate", p->rate},     {"seconds", p->seconds},       {"left", p->left}};
    if (p->loss && std::isfinite(*p->loss)) out["loss"] = *p->loss;
    return out;
  }
  if (const auto* e = std::get_if<ErrorEvent>(&event)) {
    return {{"event", "error"}, {"code", cut_word(e->code)}, {"text", cut(e->text)}};
  }
  if (const auto* d = std::get_if<DoneEvent>(&event)) return {{"event", "done"}, {"text", cut(d->text)}};
  return {{"event", "line"}, {"text", cut(std::get<LineEvent>(event).text)}};
}

// Reads the key into `value` if it is there. False if it is there with another type.
template <class T>
bool read(const json& object, const char* key, T& value) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return true;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return false;
  } else if constexpr (std::is_integral_v<T>) {
    if (!found->is_number_integer()) return false;
  } else {
    if (!found->is_number()) return false;
  }
  value = found->get<T>();
  return true;
}

std::optional<WorkerEvent> read_progress(const json& object) {
  Progress p;
  double loss = std::nan("");
  const bool good = read(object, "phase", p.phase) && read(object, "epoch", p.epoch) &&
                    read(object, "epochs", p.epochs) && read(object, "step", p.step) &&
                    read(object, "steps", p.steps) && read(object, "samples", p.samples) &&
                    read(object, "total", p.total) && read(object, "rate", p.rate) && read(object, "loss", loss) &&
                    read(object, "seconds", p.seconds) && read(object, "left", p.left);
  if (!good) return std::nullopt;
  if (!std::isnan(loss)) p.loss = loss;
  return p;
}

}  // namespace

std::string to_json_line(const WorkerEvent& event) {
  return to_json(event).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<WorkerEvent> parse_event(std::string_view line) {
  if (line.size() > kLongestEvent) return std::nullopt;
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object()) return std::nullopt;
  std::string kind;
  std::string text;
  std::string code;
  if (!read(object, "event", kind)) return std::nullopt;
  if (kind == "progress") return read_progress(object);
  if (!read(object, "text", text) || !read(object, "code", code)) return std::nullopt;
  if (kind == "line") return LineEvent{text};
  if (kind == "error") return ErrorEvent{code, text};
  if (kind == "done") return DoneEvent{text};
  return std::nullopt;
}

EventWriter::EventWriter() {
  const char* text = std::getenv(kEventsVariable);
  if (text == nullptr) return;
  int fd = -1;
  const char* end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, fd);
  if (parsed.ec != std::errc() || parsed.ptr != end || fcntl(fd, F_GETFD) < 0) return;
  // Programs that the worker starts must not hold the pipe open.
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fd_ = fd;
}

void EventWriter::send(const WorkerEvent& event) {
  if (fd_ < 0) return;
  const std::string line = to_json_line(event) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = write(fd_, rest.data(), rest.size());
    if (written > 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      fd_ = -1;  // the launcher is gone; its death signal ends the worker in good order
      return;
    }
  }
}

}  // namespace trivet
