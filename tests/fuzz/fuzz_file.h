// The bytes of a fuzz target as a file.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

namespace trivet::testing {

using Bytes = std::span<const std::uint8_t>;

inline std::string text_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

inline void write_bytes(const std::filesystem::path& path, Bytes bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// A path of this process alone, in memory where the system has such a folder.
inline std::filesystem::path fuzz_path(const std::string& end) {
  static const std::filesystem::path kFolder =
      std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
  return kFolder / ("trivet-fuzz-" + std::to_string(::getpid()) + end);
}

class FuzzFile {
 public:
  explicit FuzzFile(Bytes bytes, const char* extension = "") : path_(fuzz_path(extension)) {
    write_bytes(path_, bytes);
  }
  ~FuzzFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class FuzzFolder {
 public:
  FuzzFolder() : path_(fuzz_path(".d")) { std::filesystem::create_directories(path_); }
  ~FuzzFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  FuzzFolder(const FuzzFolder&) = delete;
  FuzzFolder& operator=(const FuzzFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace trivet::testing
