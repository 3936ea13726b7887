#include "runtime/comm/shm_communicator.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "runtime/comm/process.h"
#include "runtime/comm/sum.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet::comm {
namespace {

// A rank that waits looks this often whether the others still live.
constexpr milliseconds kLook(50);
// Rounds of looking before a rank goes to sleep: about as long as it takes to wake it. With more ranks than cores the
// one that is waited for may need this very core.
constexpr int kSpins = 600;
constexpr int kSpinsWithoutCore = 20;
// Messages up to here are summed by every rank: one step less to wait for.
constexpr std::size_t kSmallBytes = 32 << 10;

int cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Numbers of steps wrap around.
bool reached(std::uint32_t now, std::uint32_t step) { return static_cast<std::int32_t>(now - step) >= 0; }

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, milliseconds time) {
  const timespec limit{time.count() / 1000, time.count() % 1000 * 1'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

// FNV-1a.
template <class... T>
std::uint64_t digest_of(T... values) {
  std::uint64_t digest = 14695981039346656037U;
  ((digest = (digest ^ static_cast<std::uint64_t>(values)) * 1099511628211U), ...);
  return digest;
}

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);  // without bytes there may be no memory
}

// How many bytes of a slot a part of a chunk has when there is one for each rank; whole cache lines.
std::size_t part_bytes(int ranks) { return kSlotBytes / static_cast<std::size_t>(ranks) / 64 * 64; }

// Calls on nothing have one chunk, too: no rank is ever further ahead of another than there are slots.
std::int64_t chunk_count(std::int64_t elements, std::int64_t of_chunk) {
  return std::max<std::int64_t>(1, (elements + of_chunk - 1) / of_chunk);
}

enum class Operation { all_reduce, reduce, reduce_scatter, all_gather, broadcast, barrier };

}  // namespace

ShmCommunicator::ShmCommunicator(int rank, int size, milliseconds deadline, std::unique_ptr<ShmSegment> segment)
    : NumberedCommunicator(rank, size, deadline, 0),
      segment_(std::move(segment)),
      spins_(size <= cores() ? kSpins : kSpinsWithoutCore) {
  begin_call("join", 0);
  wait_all(signal());
}

ShmCommunicator::~ShmCommunicator() { segment_->rank(rank()).left = 1; }

void ShmCommunicator::begin_call(const char* operation, std::uint64_t digest) {
  begin(operation);
  if (segment_->failure().state != FailureState::none) fail_as_published();
  segment_->rank(rank()).calls[number() % kRememberedCalls] = digest;
  first_step_ = steps_ + 1;
}

std::uint32_t ShmCommunicator::signal() {
  RankState& own = segment_->rank(rank());
  // Sequentially consistent, as in sleep(): either the one that goes to sleep sees the new number, or it is seen here.
  own.events.store(++steps_);
  if (own.waiters.load() != 0) futex_wake(own.events);
  return steps_;
}

void ShmCommunicator::wait(int peer, std::uint32_t step) {
  RankState& other = segment_->rank(peer);
  for (int i = 0; i < spins_; ++i) {
    if (reached(other.events.load(std::memory_order_acquire), step)) return check_call(peer);
    relax();
  }
  sleep(peer, step);
  check_call(peer);
}

void ShmCommunicator::wait_all(std::uint32_t step) {
  // Each rank begins with its neighbour, so that not all look at the same one.
  for (int i = 1; i < size(); ++i) wait((rank() + i) % size(), step);
}

void ShmCommunicator::sleep(int peer, std::uint32_t step) {
  RankState& other = segment_->rank(peer);
  for (;;) {
    other.waiters.fetch_add(1);
    const std::uint32_t now = other.events.load();
    const bool done = reached(now, step);
    if (!done) futex_wait(other.events, now, std::min(kLook, remaining(until()) + milliseconds(1)));
    other.waiters.fetch_sub(1);
    if (done || reached(other.events.load(), step)) return;
    check_peer(peer, step);
    if (remaining(until()) == milliseconds(0)) fail_late(peer);
  }
}

// A rank that makes another call than this one would send what nobody expects.
void ShmCommunicator::check_call(int peer) {
  const std::size_t index = number() % kRememberedCalls;
  RankState& other = segment_->rank(peer);
  if (!reached(other.events.load(std::memory_order_relaxed), first_step_)) return;  // it is still in the call before
  if (other.calls[index].load(std::memory_order_relaxed) == segment_->rank(rank()).calls[index]) return;
  publish({peer, fmt::format("made another call than rank {}, or the same with other sizes or types", rank())});
  fail_as_published();
}

void ShmCommunicator::check_peer(int peer, std::uint32_t step) {
  if (segment_->failure().state != FailureState::none) fail_as_published();
  const std::optional<Verdict> fault = fault_of(peer);
  if (!fault) return;
  if (reached(segment_->rank(peer).events.load(), step)) return;  // it went after it had done what is waited for
  publish(*fault);
  fail_as_published();
}

// If it is no longer there.
std::optional<Verdict> ShmCommunicator::fault_of(int peer) const {
  const RankState& other = segment_->rank(peer);
  if (other.left != 0) return Verdict{peer, "has left the run before"};
  if (start_time(other.pid) == other.start_time) return std::nullopt;
  return Verdict{peer, fmt::format("(process {}) has ended", other.pid)};
}

std::optional<Verdict> ShmCommunicator::verdict() {
  for (int r = 0; r < size() && segment_->failure().state == FailureState::none; ++r) {
    if (r == rank()) continue;
    if (const std::optional<Verdict> fault = fault_of(r)) publish(*fault);
  }
  if (segment_->failure().state == FailureState::none) return std::nullopt;
  return published();
}

// The others find out at nearly the same time that they are stuck, too: who has not said so after a while is at fault.
Verdict ShmCommunicator::blame(const std::string& text) {
  constexpr milliseconds kPatience(300);
  segment_->rank(rank()).stuck = 1;
  std::vector<std::string> silent;
  int last = -1;
  for (const TimePoint until = Clock::now() + kPatience; remaining(until) > milliseconds(0);) {
    if (const std::optional<Verdict> known = verdict()) return *known;
    silent.clear();
    for (int r = 0; r < size(); ++r) {
      if (segment_->rank(r).stuck != 0) continue;
      silent.push_back(std::to_string(r));
      last = r;
    }
    if (silent.empty()) break;
    std::this_thread::sleep_for(milliseconds(5));
  }
  if (silent.empty()) {
    publish({-1, text + ", though all ranks run: do all make the same calls?"});
  } else if (silent.size() == 1) {
    publish({last, fmt::format("(process {}) {}", segment_->rank(last).pid, text)});
  } else {
    publish({-1, fmt::format("ranks {} {}", trivet::join(silent, ", "), text)});
  }
  return published();
}

// At fault are those that are furthest behind: the others wait for them.
void ShmCommunicator::fail_late(int peer) {
  const auto behind = [this](int r) { return static_cast<std::int32_t>(steps_ - segment_->rank(r).events.load()); };
  std::vector<std::string> last;
  int worst = peer;
  for (int r = 0; r < size(); ++r) worst = behind(r) > behind(worst) ? r : worst;
  for (int r = 0; r < size(); ++r) {
    if (behind(r) == behind(worst)) last.push_back(std::to_string(r));
  }
  const std::string text =
      fmt::format("did not come within {}", format_seconds(static_cast<double>(deadline().count()) / 1e3));
  if (last.size() == 1) {
    publish({worst, fmt::format("(process {}) {}", segment_->rank(worst).pid, text)});
  } else {
    publish({-1, fmt::format("ranks {} {}", trivet::join(last, ", "), text)});
  }
  fail_as_published();
}

// The first failure is the one that all report.
void ShmCommunicator::publish(const Verdict& verdict) noexcept {
  FailureState& failure = segment_->failure();
  std::uint32_t expected = FailureState::none;
  if (failure.state.compare_exchange_strong(expected, FailureState::being_written)) {
    failure.rank = verdict.rank;
    const std::size_t length = std::min(verdict.text.size(), kReasonBytes);
    std::memcpy(failure.text, verdict.text.data(), length);
    failure.text[length] = '\0';
    failure.state = FailureState::written;
  }
  for (int r = 0; r < size(); ++r) futex_wake(segment_->rank(r).events);
}

Verdict ShmCommunicator::published() const {
  const FailureState& failure = segment_->failure();
  for (int i = 0; i < 100 && failure.state != FailureState::written; ++i) std::this_thread::sleep_for(milliseconds(1));
  if (failure.state != FailureState::written) return {-1, "a rank has failed, and ended before it could say why"};
  return {failure.rank, std::string(failure.text, strnlen(failure.text, kReasonBytes))};
}

void ShmCommunicator::abort(const std::string& reason) noexcept { publish({rank(), "failed: " + reason}); }

ShmCommunicator::Chunk ShmCommunicator::next_chunk() {
  Chunk chunk;
  chunk.slot = chunks_++ % kSlots;
  if (chunks_ > kSlots) wait_all(free_at_[chunk.slot]);
  return chunk;
}

void ShmCommunicator::release(const Chunk& chunk) { free_at_[chunk.slot] = signal(); }

void ShmCommunicator::all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) {
  check_reducible(dtype);
  const PieceList message(pieces, dtype);
  begin_call("all_reduce", digest_of(Operation::all_reduce, message.elements(), dtype, op));
  reduce_message(message, dtype, op, kAllRanks);
}

void ShmCommunicator::reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) {
  check_root(root);
  check_reducible(dtype);
  const PieceList message(pieces, dtype);
  begin_call("reduce", digest_of(Operation::reduce, message.elements(), dtype, op, root));
  reduce_message(message, dtype, op, root);
}

void ShmCommunicator::reduce_message(const PieceList& message, DType dtype, ReduceOp op, int root) {
  const std::size_t bytes = static_cast<std::size_t>(message.elements()) * dtype_size(dtype);
  if (bytes * static_cast<std::size_t>(size() - 1) <= kSmallBytes) return reduce_small(message, dtype, op, root);
  reduce_large(message, dtype, op, root);
}

void ShmCommunicator::reduce_small(const PieceList& message, DType dtype, ReduceOp op, int root) {
  const std::size_t element = dtype_size(dtype);
  Chunk chunk = next_chunk();
  message.for_range(0, message.elements(), [&](std::byte* memory, std::int64_t begin, std::int64_t count) {
    std::memcpy(mine(chunk) + static_cast<std::size_t>(begin) * element, memory,
                static_cast<std::size_t>(count) * element);
  });
  chunk.staged = signal();
  wait_all(chunk.staged);
  if (!takes(root)) return release(chunk);
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  message.for_range(0, message.elements(), [&](std::byte* memory, std::int64_t begin, std::int64_t count) {
    for (int r = 0; r < size(); ++r) {
      sources[static_cast<std::size_t>(r)] = of(r, chunk) + static_cast<std::size_t>(begin) * element;
    }
    reduce_tree(memory, nullptr, sources, count, dtype, op);
  });
  release(chunk);
}

void ShmCommunicator::reduce_large(const PieceList& message, DType dtype, ReduceOp op, int root) {
  const std::size_t element = dtype_size(dtype);
  const std::int64_t chunk_elements = static_cast<std::int64_t>(part_bytes(size()) / element) * size();
  const std::int64_t count = chunk_count(message.elements(), chunk_elements);
  Chunk chunks[kSlots];
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  const auto first = [&](std::int64_t i) { return i * chunk_elements; };
  const auto parts = [&](std::int64_t i) {
    return Parts(std::min(chunk_elements, message.elements() - first(i)), size(), element);
  };
  const auto chunk_of = [&](std::int64_t i) -> Chunk& { return chunks[static_cast<std::size_t>(i) % kSlots]; };

  const auto stage = [&](std::int64_t i) {
    Chunk& chunk = chunk_of(i) = next_chunk();
    const Parts part = parts(i);
    const auto put = [&](std::byte* memory, std::int64_t begin, std::int64_t n) {
      std::memcpy(mine(chunk) + static_cast<std::size_t>(begin - first(i)) * element, memory,
                  static_cast<std::size_t>(n) * element);
    };
    message.for_range(first(i), first(i) + part.begin(rank()), put);
    message.for_range(first(i) + part.end(rank()), first(i) + part.elements, put);
    chunk.staged = signal();
  };
  const auto reduce = [&](std::int64_t i) {
    Chunk& chunk = chunk_of(i);
    const Parts part = parts(i);
    wait_all(chunk.staged);
    const auto add = [&](std::byte* memory, std::int64_t begin, std::int64_t n) {
      const std::size_t offset = static_cast<std::size_t>(begin - first(i)) * element;
      for (int r = 0; r < size(); ++r) sources[static_cast<std::size_t>(r)] = of(r, chunk) + offset;
      sources[static_cast<std::size_t>(rank())] = memory;
      reduce_tree(memory, mine(chunk) + offset, sources, n, dtype, op);
    };
    message.for_range(first(i) + part.begin(rank()), first(i) + part.end(rank()), add);
    chunk.reduced = signal();
  };
  const auto take = [&](std::int64_t i) {
    const Chunk& chunk = chunk_of(i);
    const Parts part = parts(i);
    for (int k = 1; k < size() && takes(root); ++k) {
      const int r = (rank() + k) % size();
      wait(r, chunk.reduced);
      const auto get = [&](std::byte* memory, std::int64_t begin, std::int64_t n) {
        std::memcpy(memory, of(r, chunk) + static_cast<std::size_t>(begin - first(i)) * element,
                    static_cast<std::size_t>(n) * element);
      };
      message.for_range(first(i) + part.begin(r), first(i) + part.end(r), get);
    }
    release(chunk);
  };
  for (std::int64_t i = 0; i < count + 2; ++i) {
    if (i < count) stage(i);
    if (i >= 1 && i <= count) reduce(i - 1);
    if (i >= 2) take(i - 2);
  }
}

void ShmCommunicator::reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) {
  check_reducible(dtype);
  begin_call("reduce_scatter", digest_of(Operation::reduce_scatter, elements, dtype, op));
  const std::size_t element = dtype_size(dtype);
  const auto* from = static_cast<const std::byte*>(in);
  auto* to = static_cast<std::byte*>(out);
  const std::size_t room = part_bytes(size());
  const auto chunk_elements = static_cast<std::int64_t>(room / element);
  const std::int64_t count = chunk_count(elements, chunk_elements);
  Chunk chunks[kSlots];
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  const auto length = [&](std::int64_t i) { return std::min(chunk_elements, elements - i * chunk_elements); };
  const auto stage = [&](std::int64_t i) {
    Chunk& chunk = chunks[static_cast<std::size_t>(i) % kSlots] = next_chunk();
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      copy_bytes(mine(chunk) + static_cast<std::size_t>(r) * room,
                 from + static_cast<std::size_t>(r * elements + i * chunk_elements) * element,
                 static_cast<std::size_t>(length(i)) * element);
    }
    chunk.staged = signal();
  };
  const auto reduce = [&](std::int64_t i) {
    const Chunk& chunk = chunks[static_cast<std::size_t>(i) % kSlots];
    wait_all(chunk.staged);
    for (int r = 0; r < size(); ++r) {
      sources[static_cast<std::size_t>(r)] = of(r, chunk) + static_cast<std::size_t>(rank()) * room;
    }
    sources[static_cast<std::size_t>(rank())] =
        from + static_cast<std::size_t>(rank() * elements + i * chunk_elements) * element;
    reduce_tree(to + static_cast<std::size_t>(i * chunk_elements) * element, nullptr, sources, length(i), dtype, op);
    release(chunk);
  };
  for (std::int64_t i = 0; i < count + 1; ++i) {
    if (i < count) stage(i);
    if (i >= 1) reduce(i - 1);
  }
}

void ShmCommunicator::all_gather(const void* in, void* out, std::size_t bytes) {
  begin_call("all_gather", digest_of(Operation::all_gather, bytes));
  const auto* from = static_cast<const std::byte*>(in);
  auto* to = static_cast<std::byte*>(out);
  const auto place = [&](int r) { return to + static_cast<std::size_t>(r) * bytes; };
  const std::size_t count = std::max<std::size_t>(1, (bytes + kSlotBytes - 1) / kSlotBytes);
  Chunk chunks[kSlots];
  const auto length = [&](std::size_t i) { return std::min(kSlotBytes, bytes - i * kSlotBytes); };
  for (std::size_t i = 0; i < count + 1; ++i) {
    if (i < count) {
      Chunk& chunk = chunks[i % kSlots] = next_chunk();
      copy_bytes(mine(chunk), from + i * kSlotBytes, length(i));
      chunk.staged = signal();
    }
    if (i == 0) continue;
    const Chunk& chunk = chunks[(i - 1) % kSlots];
    for (int k = 1; k < size(); ++k) {
      const int r = (rank() + k) % size();
      wait(r, chunk.staged);
      copy_bytes(place(r) + (i - 1) * kSlotBytes, of(r, chunk), length(i - 1));
    }
    release(chunk);
  }
  if (bytes > 0 && place(rank()) != from) std::memmove(place(rank()), from, bytes);
}

void ShmCommunicator::broadcast(void* data, std::size_t bytes, int root) {
  check_root(root);
  begin_call("broadcast", digest_of(Operation::broadcast, bytes, root));
  auto* memory = static_cast<std::byte*>(data);
  std::size_t at = 0;
  do {
    const std::size_t length = std::min(kSlotBytes, bytes - at);
    Chunk chunk = next_chunk();
    if (rank() == root) copy_bytes(mine(chunk), memory + at, length);
    chunk.staged = signal();
    if (rank() != root) {
      wait(root, chunk.staged);
      copy_bytes(memory + at, of(root, chunk), length);
    }
    release(chunk);
    at += length;
  } while (at < bytes);
}

void ShmCommunicator::barrier() {
  begin_call("barrier", digest_of(Operation::barrier));
  wait_all(signal());
}

}  // namespace trivet::comm
