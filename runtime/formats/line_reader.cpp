#include "trivet/formats/line_reader.h"

#include <climits>
#include <cstring>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/base/utf8.h"

namespace trivet {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A word with the highest bit set has a byte beyond ASCII.
bool is_ascii(std::string_view text) {
  std::size_t i = 0;
  std::uint64_t seen = 0;
  for (; i + 8 <= text.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + i, 8);
    seen |= word;
  }
  for (; i < text.size(); ++i) seen |= static_cast<unsigned char>(text[i]);
  return (seen & 0x8080808080808080ULL) == 0;
}

int clamped(std::uint64_t n) { return static_cast<int>(std::min<std::uint64_t>(n, INT_MAX)); }

}  // namespace

LineReader::LineReader(std::filesystem::path path, const TextLimits& limits)
    : path_(std::move(path)), limits_(limits), file_(path_) {}

void LineReader::fail(std::int64_t line, std::size_t column, const std::string& message,
                      const std::string& hint) const {
  const SourcePlace place{path_.string(), clamped(static_cast<std::uint64_t>(line)), clamped(column)};
  throw Error(ErrorCode::data, place, message, hint);
}

// Moves what is left to the front of the buffer and reads more behind it; false at the end of the file.
bool LineReader::refill() {
  if (ended_) return false;
  if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (buffer_.size() - end_ < kChunkBytes) buffer_.resize(std::max(buffer_.size() * 2, end_ + kChunkBytes));
  const std::size_t got = file_.read(std::as_writable_bytes(std::span(buffer_).subspan(end_)));
  digest_.update(std::string_view(buffer_.data() + end_, got));
  end_ += got;
  bytes_ += got;
  ended_ = got == 0;
  if (bytes_ > limits_.bytes) {
    fail(line_ + 1, 0, fmt::format("the text passes {}, the most that is read", format_bytes(limits_.bytes)),
         "split the file");
  }
  return !ended_;
}

bool LineReader::next(std::string_view& line) {
  std::size_t searched = 0;
  const char* newline = nullptr;
  for (;;) {
    const std::size_t size = end_ - begin_;
    if (size > searched) {
      newline = static_cast<const char*>(std::memchr(buffer_.data() + begin_ + searched, '\n', size - searched));
    }
    searched = size;
    if (newline) break;
    if (size > limits_.line) break;
    if (!refill()) break;
  }
  const char* start = buffer_.data() + begin_;
  const std::size_t length = newline ? static_cast<std::size_t>(newline - start) : end_ - begin_;
  if (!newline && length == 0) return false;
  begin_ += length + (newline ? 1 : 0);
  ++line_;
  line = std::string_view(start, length);
  if (newline && line.ends_with('\r')) line.remove_suffix(1);
  if (line_ == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  check(line);
  return true;
}

void LineReader::check(std::string_view line) const {
  if (line.size() > limits_.line) {
    fail(line_, limits_.line + 1,
         fmt::format("the line passes {}, the longest that is read", format_bytes(limits_.line)),
         "is this a text file, with line ends?");
  }
  if (line_ == 1 && (line.starts_with("\xFF\xFE") || line.starts_with("\xFE\xFF"))) {
    fail(1, 1, "the text is UTF-16, expected UTF-8", "convert it: iconv -f utf-16 -t utf-8");
  }
  if (const std::size_t zero = line.find('\0'); zero != std::string_view::npos) {
    fail(line_, zero + 1, "a zero byte, expected text", "is this a text file in UTF-8?");
  }
  if (is_ascii(line)) return;
  if (const std::size_t at = first_invalid_utf8(line); at != std::string_view::npos) {
    fail(line_, at + 1,
         fmt::format("byte 0x{:02x} is not valid UTF-8", static_cast<unsigned>(static_cast<unsigned char>(line[at]))),
         "convert the file, for example: iconv -f latin1 -t utf-8");
  }
}

}  // namespace trivet
