// A file read front to back, plain or gzip (RFC 1952), told apart by its first two bytes and not by its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace trivet {

// Reads in constant memory: nothing is inflated before it is asked for, so the caller's limits bound the work.
// A gzip file may have several members, which are read as one (RFC 1952, section 2.2).
class GzipFile {
 public:
  // Error(io) if the file is missing, unreadable or not a regular file.
  explicit GzipFile(std::filesystem::path path);
  ~GzipFile();
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  // Fills `out` from the current position. Returns the bytes written: fewer than asked only at the end, which is
  // reported only after the checksum and length of each gzip member were found right. Error(data) with the byte
  // offset in the file if the gzip data is truncated, damaged, or followed by other bytes.
  std::size_t read(std::span<std::byte> out);

  bool compressed() const;
  std::uint64_t file_bytes() const;
  // What read() can deliver at most: the file's size, or for gzip the largest expansion that deflate allows.
  std::uint64_t max_decoded_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trivet
