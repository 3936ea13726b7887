// NumPy's .npz: a ZIP archive (PKWARE APPNOTE 6.3.10, with ZIP64) of .npy files, stored or deflated.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "trivet/base/file.h"
#include "trivet/formats/npy.h"

namespace trivet {

class NpzFile {
 public:
  // Error(io) if unreadable; Error(data) for a directory that is damaged or contradicts the file: sizes and places are
  // checked, names occur once.
  explicit NpzFile(const std::filesystem::path& path);

  // Of the arrays, without ".npy", in the file's order.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;

  // A stored array stays in the file; a deflated one is inflated into memory, or beyond data_memory_limit() into a
  // temporary file. Its checksum is verified. Error(data) if there is no such array, or it is damaged, encrypted or not
  // an .npy.
  NpyArray array(const std::string& name) const;

 private:
  struct Member {
    std::string name;
    std::uint64_t header = 0;      // where its local header lies
    std::uint64_t compressed = 0;  // bytes
    std::uint64_t size = 0;
    std::uint32_t crc = 0;
    unsigned method = 0;
    unsigned flags = 0;
  };

  const Member* find(const std::string& name) const;
  void read_directory();
  std::uint64_t read_member(std::uint64_t at, std::uint64_t end);
  DataBytes stored_bytes(const Member& member) const;
  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
  std::uint64_t directory_ = 0;  // where the directory begins, and the members have ended
  std::vector<Member> members_;
};

}  // namespace trivet
