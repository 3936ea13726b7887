#include "trivet/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "runtime/base/mapping_list.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

[[noreturn]] void fail(const std::string& doing, const fs::path& path, int error, const std::string& hint = {}) {
  std::string advice = hint;
  if (advice.empty() && error == ENOSPC) advice = "free space on that file system, or choose another place";
  if (advice.empty() && (error == EACCES || error == EPERM || error == EROFS))
    advice = "check the permissions of the folder";
  throw Error(ErrorCode::io, fmt::format("cannot {} {}: {}", doing, path.string(), std::strerror(error)), advice);
}

// Closes on scope exit; for descriptors whose close cannot lose data.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

int open_regular(const fs::path& path, struct stat& info) {
  // Without O_NONBLOCK, opening a FIFO would wait for a writer that never comes.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail("read", path, errno);
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    fail("read", path, error);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error(ErrorCode::io, fmt::format("cannot read {}: it is not a regular file", path.string()));
  }
  return fd;
}

constexpr std::size_t kBuffer = 1 << 16;

}  // namespace

std::string read_file(const fs::path& path, std::size_t limit) {
  struct stat info {};
  const Descriptor file{open_regular(path, info)};
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size > limit) {
    throw Error(ErrorCode::io, fmt::format("{} has {}, more than the {} allowed here", path.string(),
                                           format_bytes(size), format_bytes(limit)));
  }
  // One byte more than stated, so that a file which grows meanwhile is seen.
  std::string text(size + 1, '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    const ssize_t n = ::read(file.fd, text.data() + got, text.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", path, errno);
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  if (got != size) throw Error(ErrorCode::io, fmt::format("{} changed while it was read", path.string()));
  text.resize(size);
  return text;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  static std::atomic<unsigned> counter{0};
  // A killed process may have left its temporary behind, and in a container the next one has the same id.
  for (int tries = 0; fd_ < 0 && tries < 1000; ++tries) {
    temporary_ = path_;
    temporary_ += fmt::format(".tmp-{}-{}", ::getpid(), counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  if (fd_ < 0) fail("write", path_, errno);
  buffer_.reserve(kBuffer);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ < 0) return;
  ::close(std::exchange(fd_, -1));
  ::unlink(temporary_.c_str());
}

void AtomicFile::write_through(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      discard();  // a caller who goes on after this error must not commit a part
      fail("write", path_, error);
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::write(std::string_view text) {
  if (buffer_.size() + text.size() <= kBuffer) {
    buffer_.append(text);
    return;
  }
  flush();
  if (text.size() > kBuffer) {
    write_through(text);
  } else {
    buffer_.append(text);
  }
}

void AtomicFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (::fsync(fd_) != 0) fail("write", path_, errno);
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail("write", path_, error);
  }
  sync_directory(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

void write_file_atomic(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void sync_directory(const fs::path& directory) {
  const Descriptor d{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (d.fd < 0 || ::fsync(d.fd) != 0) fail("sync the folder", directory, errno);
}

MappedFile::MappedFile(const fs::path& path) {
  struct stat info {};
  const Descriptor file{open_regular(path, info)};
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (p == MAP_FAILED) fail("map", path, errno);
  data_ = static_cast<const std::byte*>(p);
  list_mapping(data_, size_, path);
}

MappedFile::~MappedFile() {
  if (!data_) return;
  unlist_mapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace trivet
