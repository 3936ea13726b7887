#include "trivet/formats/gzip.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>

#include "trivet/base/error.h"

namespace trivet {
namespace {

constexpr std::size_t kInputBytes = std::size_t{1} << 18;
// The largest expansion of deflate is 1032 to 1 (zlib's technical details, "Maximum Compression Factor").
constexpr std::uint64_t kMaxExpansion = 1032;
constexpr int kGzipWindow = 16 + MAX_WBITS;  // inflateInit2: gzip framing alone
constexpr unsigned char kMagic[2] = {0x1f, 0x8b};

[[noreturn]] void fail_io(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::io, fmt::format("cannot read {}: {}", path.string(), reason),
              "check the path and its permissions");
}

}  // namespace

struct GzipFile::Impl {
  std::filesystem::path path;
  int fd = -1;
  std::uint64_t file_bytes = 0;
  std::uint64_t fetched = 0;  // bytes of the file that have passed through `input`
  std::vector<unsigned char> input;
  z_stream z{};  // its next_in and avail_in are the unread part of `input`, for plain files too
  bool compressed = false;
  bool inflating = false;  // z holds zlib's state
  bool ended = false;

  ~Impl() {
    if (inflating) inflateEnd(&z);
    if (fd >= 0) close(fd);
  }

  std::uint64_t offset() const { return fetched - z.avail_in; }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(
        ErrorCode::data,
        fmt::format("{}: the gzip data is unusable at byte {} of {}: {}", path.string(), offset(), file_bytes, what),
        "fetch or compress the file again; `gzip -t` checks it");
  }

  void open_file() {
    // O_NONBLOCK, so that a pipe nobody writes to is refused instead of waited for.
    fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info {};
    if (fd < 0 || fstat(fd, &info) != 0) fail_io(path, std::strerror(errno));
    if (S_ISDIR(info.st_mode)) fail_io(path, "it is a directory, a file was expected");
    if (!S_ISREG(info.st_mode)) fail_io(path, "it is not a regular file");
    file_bytes = static_cast<std::uint64_t>(info.st_size);
  }

  std::size_t fetch(unsigned char* to, std::size_t bytes) {
    for (;;) {
      const ssize_t got = ::read(fd, to, bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_io(path, std::strerror(errno));
      fetched += static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    }
  }

  // Makes input available; false at the end of the file.
  bool refill() {
    if (z.avail_in == 0) {
      z.next_in = input.data();
      z.avail_in = static_cast<uInt>(fetch(input.data(), input.size()));
    }
    return z.avail_in > 0;
  }

  void detect() {
    input.resize(kInputBytes);
    refill();
    compressed = z.avail_in >= 2 && std::memcmp(z.next_in, kMagic, 2) == 0;
    if (!compressed) return;
    if (inflateInit2(&z, kGzipWindow) != Z_OK) {
      throw Error(ErrorCode::memory, fmt::format("no memory to inflate {}", path.string()));
    }
    inflating = true;
  }

  // After a member: another one, the end, or bytes that do not belong here.
  void next_member() {
    if (!refill()) {
      ended = true;
      return;
    }
    if (*z.next_in != kMagic[0]) {
      fail(fmt::format("{} bytes follow its end", file_bytes > offset() ? file_bytes - offset() : z.avail_in));
    }
    inflateReset(&z);
  }

  std::size_t read_compressed(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size() && !ended) {
      if (!refill()) fail("the file is truncated");
      const std::size_t room = std::min(out.size() - done, std::size_t{1} << 30);
      z.next_out = reinterpret_cast<Bytef*>(out.data() + done);
      z.avail_out = static_cast<uInt>(room);
      const int status = inflate(&z, Z_NO_FLUSH);
      done += room - z.avail_out;
      if (status == Z_STREAM_END) {
        next_member();
      } else if (status == Z_MEM_ERROR) {
        throw Error(ErrorCode::memory, fmt::format("no memory to inflate {}", path.string()));
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        fail(z.msg != nullptr ? z.msg : "damaged");
      }
    }
    return done;
  }

  std::size_t read_plain(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size()) {
      std::size_t got = std::min(out.size() - done, std::size_t{z.avail_in});
      if (got > 0) {
        std::memcpy(out.data() + done, z.next_in, got);
        z.next_in += got;
        z.avail_in -= static_cast<uInt>(got);
      } else {
        got = fetch(reinterpret_cast<unsigned char*>(out.data() + done), out.size() - done);
        if (got == 0) break;
      }
      done += got;
    }
    return done;
  }
};

GzipFile::GzipFile(std::filesystem::path path) : impl_(std::make_unique<Impl>()) {
  impl_->path = std::move(path);
  impl_->open_file();
  impl_->detect();
}

GzipFile::~GzipFile() = default;

std::size_t GzipFile::read(std::span<std::byte> out) {
  return impl_->compressed ? impl_->read_compressed(out) : impl_->read_plain(out);
}

bool GzipFile::compressed() const { return impl_->compressed; }

std::uint64_t GzipFile::file_bytes() const { return impl_->file_bytes; }

std::uint64_t GzipFile::max_decoded_bytes() const {
  std::uint64_t bytes = impl_->file_bytes;
  if (impl_->compressed && __builtin_mul_overflow(bytes, kMaxExpansion, &bytes)) bytes = UINT64_MAX;
  return bytes;
}

}  // namespace trivet
