// The bytes of data sets, which may be larger than memory: files that are mapped, and buffers that become files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace trivet {

// A quarter of the machine's memory: what data take before they go to a file.
std::size_t data_memory_limit();

// Bytes that are written once, front to back, and then read at random: in memory up to a limit, and beyond it in a
// temporary file that is mapped.
class SpillBuffer {
 public:
  explicit SpillBuffer(std::size_t memory_limit = data_memory_limit()) : limit_(memory_limit) {}
  SpillBuffer(const SpillBuffer&) = delete;
  SpillBuffer& operator=(const SpillBuffer&) = delete;
  ~SpillBuffer();

  // Beyond the limit, what there is goes to a file without a name in $TMPDIR, else in /var/tmp, which disappears with
  // this object or the process. Error(io) with the folder if that fails, a full disk among others; Error(memory).
  void append(std::span<const std::byte> bytes);

  // After the last append(), before bytes().
  void finish();

  // What was appended; valid as long as this object.
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  bool in_file() const { return fd_ >= 0; }
  // What stays in memory: nothing once it is in the file, whose pages the system takes back as it needs them.
  std::size_t resident_bytes() const { return in_file() ? 0 : size_; }

 private:
  friend class DataBytes;
  void grow(std::size_t bytes);
  void spill();
  void write_out();

  std::size_t limit_;
  std::byte* data_ = nullptr;  // mapped memory, or in the end the mapped file
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;     // of all that was appended
  std::size_t pending_ = 0;  // with a file: the bytes in memory that are not written yet
  int fd_ = -1;
};

// The largest file whose reads go through a mapping: see DataBytes.
inline constexpr std::size_t kLargestMapping = std::size_t{64} << 20;

// Bytes that are read and not written, in memory or in a file; copies share them. A file of at most `largest_mapping`
// bytes is mapped. What was read of a mapping counts as memory of the process, so a larger file is read from each time
// instead: its pages are the system's alone, and it may be larger than memory. Reading is safe from several threads.
class DataBytes {
 public:
  DataBytes() = default;
  explicit DataBytes(std::span<const std::uint8_t> bytes);  // a copy of them
  explicit DataBytes(std::shared_ptr<const SpillBuffer> buffer);
  // Error(io) if the file is missing, unreadable or not a regular file.
  static DataBytes of_file(const std::filesystem::path& path, std::size_t largest_mapping = kLargestMapping);

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // `size` bytes from `offset` on, which must be there: where they lie, or else in `scratch`, which must then outlive
  // what is done with them. Error(data) if the file has become shorter, Error(io) if it cannot be read any more.
  std::span<const std::byte> read(std::size_t offset, std::size_t size, std::vector<std::byte>& scratch) const;
  // The same as an object of its own.
  DataBytes part(std::size_t offset, std::size_t size) const;
  bool in_file() const { return file_ != nullptr; }
  std::size_t resident_bytes() const { return in_place() ? size_ : 0; }

  // Calls visit(std::span<const std::byte>) for all bytes, piece by piece.
  template <class Visit>
  void for_each_piece(Visit visit) const {
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    std::vector<std::byte> scratch;
    for (std::size_t at = 0; at < size(); at += kPiece) visit(read(at, std::min(kPiece, size() - at), scratch));
  }

 private:
  struct File;
  bool in_place() const { return data_ != nullptr; }

  std::shared_ptr<const void> owner_;  // of `data_`
  std::shared_ptr<const File> file_;   // null: in memory
  const std::byte* data_ = nullptr;    // null: to be read from the file
  std::size_t offset_ = 0;             // in the file
  std::size_t size_ = 0;
};

}  // namespace trivet
