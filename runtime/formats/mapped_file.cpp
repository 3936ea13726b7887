#include "trivet/formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "trivet/base/error.h"
#include "trivet/base/file.h"
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

struct DataBytes::File {
  std::string name;
  std::size_t bytes = 0;
  int fd = -1;
  bool owned = true;
  std::shared_ptr<const void> owner{};  // of a descriptor that is not

  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (owned && fd >= 0) ::close(fd);
  }

  void read(std::size_t offset, std::span<std::byte> out) const {
    for (std::size_t done = 0; done < out.size();) {
      const ssize_t n = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        throw Error(ErrorCode::io, fmt::format("{} could not be read any more: {}", name, std::strerror(errno)),
                    "see the system's log about the disk or the network that it is on");
      }
      if (n == 0) {
        throw Error(ErrorCode::data,
                    fmt::format("{} was cut short while it was in use: it ends before byte {}, expected {} bytes", name,
                                offset + out.size(), bytes),
                    "put it back as it was; write new data to another file and rename it");
      }
      done += static_cast<std::size_t>(n);
    }
  }
};

DataBytes::DataBytes(std::span<const std::uint8_t> bytes) {
  const auto copy = std::make_shared<const std::vector<std::uint8_t>>(bytes.begin(), bytes.end());
  data_ = std::as_bytes(std::span(*copy)).data();
  size_ = copy->size();
  owner_ = copy;
}

DataBytes::DataBytes(std::shared_ptr<const SpillBuffer> buffer) {
  size_ = buffer->bytes().size();
  if (buffer->in_file()) {
    const auto file = std::make_shared<File>();
    file->name = "a temporary file of data";
    file->bytes = size_;
    file->fd = buffer->fd_;
    file->owned = false;
    file->owner = std::move(buffer);
    file_ = file;
    return;
  }
  data_ = buffer->bytes().data();
  owner_ = std::move(buffer);
}

DataBytes DataBytes::of_file(const std::filesystem::path& path, std::size_t largest_mapping) {
  DataBytes result;
  const auto file = std::make_shared<File>();
  file->name = path.string();
  file->fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // does not wait for the writer of a pipe
  struct stat info {};
  if (file->fd < 0 || ::fstat(file->fd, &info) != 0) {
    throw Error(ErrorCode::io, fmt::format("cannot read {}: {}", file->name, std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    throw Error(ErrorCode::io, fmt::format("cannot read {}: it is not a regular file", file->name));
  }
  file->bytes = result.size_ = static_cast<std::size_t>(info.st_size);
  if (result.size_ <= largest_mapping) {
    const auto mapped = std::make_shared<const MappedFile>(path);
    result.data_ = mapped->bytes().data();
    result.size_ = mapped->bytes().size();
    result.owner_ = mapped;
    ::close(std::exchange(file->fd, -1));
  }
  result.file_ = file;
  return result;
}

std::span<const std::byte> DataBytes::read(std::size_t offset, std::size_t size,
                                           std::vector<std::byte>& scratch) const {
  if (in_place()) return {data_ + offset, size};
  scratch.resize(size);
  if (size > 0) file_->read(offset_ + offset, scratch);
  return scratch;
}

DataBytes DataBytes::part(std::size_t offset, std::size_t size) const {
  DataBytes result = *this;
  if (in_place()) result.data_ += offset;
  result.offset_ += offset;
  result.size_ = size;
  return result;
}

}  // namespace trivet
