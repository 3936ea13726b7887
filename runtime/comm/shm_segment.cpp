#include "runtime/comm/shm_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>

#include "trivet/base/error.h"
#include "trivet/comm/communicator.h"

namespace trivet::comm {
namespace {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free && std::atomic<std::uint64_t>::is_always_lock_free);

constexpr std::size_t kPage = 4096;
constexpr std::size_t kMarkBytes = 64;  // a random text at the start, so that no other file is taken for it

std::size_t header_bytes(int ranks) {
  const std::size_t bytes = kMarkBytes * 2 + sizeof(FailureState) + static_cast<std::size_t>(ranks) * sizeof(RankState);
  return (bytes + kPage - 1) / kPage * kPage;
}

std::size_t all_bytes(int ranks) { return header_bytes(ranks) + static_cast<std::size_t>(ranks) * kSlots * kSlotBytes; }

[[noreturn]] void refuse(const std::string& doing) {
  throw Error(ErrorCode::io, fmt::format("{}: {}", doing, strerror(errno)));
}

}  // namespace

ShmSegment::ShmSegment(int ranks) : file_(memfd_create("trivet-ranks", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  if (!file_) refuse("making memory to share among ranks");
  // Sealed: nobody can cut it short under those who read it.
  if (ftruncate(file_.get(), static_cast<off_t>(all_bytes(ranks))) != 0 ||
      fcntl(file_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    refuse(fmt::format("taking {} bytes to share among ranks", all_bytes(ranks)));
  }
  const std::string mark = random_token().substr(0, kMarkBytes - 1);
  place_ = fmt::format("{} {} {}", getpid(), file_.get(), mark);
  map(ranks);
  std::memcpy(base_, mark.c_str(), mark.size() + 1);
}

ShmSegment::ShmSegment(int ranks, const std::string& place) : place_(place) {
  std::istringstream fields(place);
  long pid = 0;
  int fd = -1;
  std::string mark;
  if (!(fields >> pid >> fd >> mark)) throw Error(ErrorCode::rank, fmt::format("rank 0 shares no memory: {}", place));
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, fd);
  file_ = Descriptor(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file_) refuse(fmt::format("opening {}, the memory that rank 0 shares", path));
  struct stat status {};
  if (fstat(file_.get(), &status) != 0) refuse(path);
  if (static_cast<std::size_t>(status.st_size) != all_bytes(ranks)) {
    throw Error(ErrorCode::rank, fmt::format("{} is not the memory that rank 0 shares: it has {} bytes instead of {}",
                                             path, status.st_size, all_bytes(ranks)));
  }
  map(ranks);
  if (std::strncmp(reinterpret_cast<const char*>(base_), mark.c_str(), kMarkBytes) != 0) {
    munmap(base_, bytes_);
    throw Error(ErrorCode::rank, fmt::format("{} is not the memory that rank 0 shares", path));
  }
  file_.close();
}

// The file is zero at first, which is the state in which everything starts.
void ShmSegment::map(int ranks) {
  bytes_ = all_bytes(ranks);
  void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (mapped == MAP_FAILED) refuse(fmt::format("mapping {} bytes that ranks share", bytes_));
  base_ = static_cast<std::byte*>(mapped);
  failure_ = reinterpret_cast<FailureState*>(base_ + kMarkBytes * 2);
  ranks_ = reinterpret_cast<RankState*>(base_ + kMarkBytes * 2 + sizeof(FailureState));
  slots_ = base_ + header_bytes(ranks);
}

ShmSegment::~ShmSegment() { munmap(base_, bytes_); }

}  // namespace trivet::comm
