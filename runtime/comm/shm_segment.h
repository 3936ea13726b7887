// The memory that the ranks of one host share.
//
// Rank 0 makes it as a file without a name (memfd_create(2)), which the others open through rank 0's /proc/PID/fd:
// there is no name to clean up, and the kernel frees the memory with the last process that has it, however these end.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "runtime/comm/socket.h"

namespace trivet::comm {

inline constexpr std::size_t kSlots = 4;              // messages of a rank that others may still be reading
inline constexpr std::size_t kSlotBytes = 256 << 10;  // a chunk of a message: those of all ranks stay in the caches
inline constexpr std::size_t kRememberedCalls = 8;    // more than a rank can be ahead of another
inline constexpr std::size_t kReasonBytes = 1000;

// What a rank shows to the others. Only this rank writes it, but for `waiters`.
struct alignas(128) RankState {
  // Steps that it has done since the start, wrapping around. Others sleep on it (futex(2)).
  std::atomic<std::uint32_t> events;
  std::atomic<std::uint32_t> waiters;
  std::atomic<std::uint32_t> left;
  std::atomic<std::uint32_t> stuck;                    // in what it does with the others by other means
  std::atomic<std::uint64_t> calls[kRememberedCalls];  // digests of its last calls
  std::int64_t pid;
  std::uint64_t start_time;
};

// The first failure of any rank.
struct alignas(128) FailureState {
  enum : std::uint32_t { none, being_written, written };
  std::atomic<std::uint32_t> state;
  std::int32_t rank;  // -1: not known
  char text[kReasonBytes + 1];
};

class ShmSegment {
 public:
  // Rank 0: makes the memory. Error(io) with the system's reason.
  explicit ShmSegment(int ranks);
  // Other ranks: maps what rank 0 says in `place`.
  ShmSegment(int ranks, const std::string& place);
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;
  ~ShmSegment();

  // How other processes find it; they can until opened().
  const std::string& place() const { return place_; }
  // All have it.
  void opened() { file_.close(); }

  RankState& rank(int r) const { return ranks_[r]; }
  FailureState& failure() const { return *failure_; }
  std::byte* slot(int r, std::size_t index) const {
    return slots_ + (static_cast<std::size_t>(r) * kSlots + index) * kSlotBytes;
  }

 private:
  void map(int ranks);

  Descriptor file_;
  std::string place_;
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
  RankState* ranks_ = nullptr;
  FailureState* failure_ = nullptr;
  std::byte* slots_ = nullptr;
};

}  // namespace trivet::comm
