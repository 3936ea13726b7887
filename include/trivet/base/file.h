// Files: whole reads with a limit, and writes that are never half there.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace trivet {

namespace fs = std::filesystem;

// Throws Error(io) naming the file if it cannot be read or is larger than `limit` bytes.
std::string read_file(const fs::path& path, std::size_t limit);

// A file under a temporary name beside `path`, which takes its place at commit(): the data is synced, renamed,
// and the folder synced. Destroyed without commit, or if the process dies, `path` stays as it was.
// Every failure (disk full, no permission) is Error(io) with the path and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  void flush();
  void write_through(std::string_view text);
  void discard();

  fs::path path_;
  fs::path temporary_;
  int fd_ = -1;
  std::string buffer_;
};

void write_file_atomic(const fs::path& path, std::string_view text);

// Makes `path`'s entry in its folder durable.
void sync_directory(const fs::path& directory);

// A file mapped read-only. Empty files have an empty span.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace trivet
