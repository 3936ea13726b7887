// A text file line by line: plain or gzip, LF or CR LF, with or without a byte order mark, valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/base/hash.h"
#include "trivet/formats/gzip.h"

namespace trivet {

// What a file of text may hold. Beyond a limit it is refused, whatever its form.
struct TextLimits {
  std::uint64_t bytes = std::uint64_t{1} << 40;  // after gzip
  std::size_t line = std::size_t{1} << 24;       // bytes of a line, or of a row of several lines
  std::size_t columns = std::size_t{1} << 16;
};

class LineReader {
 public:
  // Error(io) if the file cannot be read.
  explicit LineReader(std::filesystem::path path, const TextLimits& limits = {});

  // The next line without its end, valid until the next call; false at the end of the file. Error(data) with line and
  // column: a line or a file beyond the limits, a zero byte, UTF-16, bytes that are not UTF-8; and what GzipFile says.
  bool next(std::string_view& line);

  std::int64_t line() const { return line_; }  // of what next() gave last, counted from 1
  const std::filesystem::path& path() const { return path_; }
  const TextLimits& limits() const { return limits_; }

  // SHA-256 of the text that was read, which at the end is the whole file: the same for plain and gzip files.
  std::string digest() { return digest_.hex(); }

  // Error(data) at a place of this file. `column` counts from 1; 0: the whole line.
  [[noreturn]] void fail(std::int64_t line, std::size_t column, const std::string& message,
                         const std::string& hint = {}) const;

 private:
  bool refill();
  void check(std::string_view line) const;

  std::filesystem::path path_;
  TextLimits limits_;
  GzipFile file_;
  Sha256 digest_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of what is not handed out yet
  std::size_t end_ = 0;
  std::uint64_t bytes_ = 0;
  std::int64_t line_ = 0;
  bool ended_ = false;
};

}  // namespace trivet
