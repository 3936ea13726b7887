// Bytes that are written once, front to back, and then read at random: in memory up to a limit, and beyond it in a
// temporary file that is mapped, so that data larger than memory can be held.
#pragma once

#include <cstddef>
#include <span>

namespace trivet {

// A quarter of the machine's memory: what data take before they go to a file.
std::size_t data_memory_limit();

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

}  // namespace trivet
