#include "trivet/formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

constexpr std::size_t kSmallest = std::size_t{1} << 16;
constexpr std::size_t kWriteBytes = std::size_t{4} << 20;  // with a file, what is gathered before it is written

std::string folder() {
  const char* chosen = std::getenv("TMPDIR");
  return chosen && *chosen ? chosen : "/var/tmp";
}

[[noreturn]] void fail_io(int error, std::size_t bytes) {
  throw Error(ErrorCode::io,
              fmt::format("cannot keep data of {} in a temporary file in {}: {}", format_bytes(bytes), folder(),
                          std::strerror(error)),
              "name a folder with more room in the environment variable TMPDIR");
}

}  // namespace

std::size_t data_memory_limit() {
  return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 4;
}

SpillBuffer::~SpillBuffer() {
  if (data_) ::munmap(data_, capacity_);
  if (fd_ >= 0) ::close(fd_);
}

// Moving pages instead of bytes, so that growing costs nothing.
void SpillBuffer::grow(std::size_t bytes) {
  if (bytes <= capacity_) return;
  const std::size_t capacity = std::max({bytes, 2 * capacity_, kSmallest});
  void* p = data_ ? ::mremap(data_, capacity_, capacity, MREMAP_MAYMOVE)
                  : ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw Error(ErrorCode::memory, fmt::format("no memory for data of {}", format_bytes(bytes)));
  data_ = static_cast<std::byte*>(p);
  capacity_ = capacity;
}

void SpillBuffer::append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (!in_file() && size_ + bytes.size() > limit_) spill();
  std::size_t& used = in_file() ? pending_ : size_;
  grow(used + bytes.size());
  std::memcpy(data_ + used, bytes.data(), bytes.size());
  used += bytes.size();
  if (!in_file()) return;
  size_ += bytes.size();
  if (pending_ >= kWriteBytes) write_out();
}

void SpillBuffer::spill() {
  std::string name = folder() + "/trivet-data-XXXXXX";
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) fail_io(errno, size_);
  ::unlink(name.c_str());
  pending_ = size_;
  write_out();
}

void SpillBuffer::write_out() {
  for (std::size_t done = 0; done < pending_;) {
    const ssize_t n = ::write(fd_, data_ + done, pending_ - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(errno, size_);
    done += static_cast<std::size_t>(n);
  }
  pending_ = 0;
}

void SpillBuffer::finish() {
  if (!in_file()) return;
  write_out();
  ::munmap(data_, capacity_);
  data_ = nullptr;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_, 0);
  if (p == MAP_FAILED) fail_io(errno, size_);
  data_ = static_cast<std::byte*>(p);
  capacity_ = size_;
}

}  // namespace trivet
