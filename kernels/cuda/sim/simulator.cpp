#include "kernels/cuda/sim/simulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#define TRIVET_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define TRIVET_UNSEEN
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace trivet::kernels::cuda::sim {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kStackBytes = 64 * 1024;  // its lowest page catches an overflow
constexpr int kUnwritten = 0xFF;
constexpr unsigned kMaxThreads = 1024;

unsigned schedule_seed = 0;

// ---- what the sanitizers are told ----

// Hides the simulator's own accesses from the thread sanitizer, which is to see the kernel's only.
class Hidden {
 public:
#if defined(__SANITIZE_THREAD__)
  Hidden() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Hidden() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Hidden() {}
  ~Hidden() {}
#endif
  Hidden(const Hidden&) = delete;
  Hidden& operator=(const Hidden&) = delete;
};

// What happened before happens_before(tag) is seen by what comes after happens_after(tag).
void happens_before([[maybe_unused]] void* tag) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(tag);
#endif
}
void happens_after([[maybe_unused]] void* tag) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(tag);
#endif
}

// ---- state of a launch ----

enum class State : std::uint8_t { runnable, at_barrier, in_collective, done };

struct Thread {
  context::fcontext_t fiber{};
  char* stack = nullptr;
  void* tsan_fiber = nullptr;
  State state = State::done;
  bool started = false;
  uint3 index{};
  unsigned number = 0;  // within the block
  unsigned lane = 0;
  unsigned warp = 0;
  unsigned mask = 0;  // of the collective that it waits in
  Place place;        // of the call that it waits in
};

// A lane that goes on early may come to the next barrier before others have left this one, so tags take turns.
struct Tags {
  int tag[2] = {};
  unsigned round = 0;
  int* current() { return &tag[round % 2]; }
};

struct Warp {
  unsigned alive = 0;
  unsigned waiting = 0;
  std::uint64_t offered[kWarpSize] = {};
  std::uint64_t received[kWarpSize] = {};
  Tags tags[kWarpSize];
  unsigned joined_round[kWarpSize] = {};
};

struct SharedArray {
  const void* site;
  std::unique_ptr<std::byte[]> data;
  std::size_t bytes;
};

struct Unwind {};  // thrown in threads that still wait when their launch has failed

class Simulator {
 public:
  ~Simulator() { set_thread_count(0); }

  void run(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> kernel);

  // Called by the running thread.
  TRIVET_UNSEEN Thread& current() { return *current_; }
  void wait(State state, const Place& place);
  unsigned barrier(bool predicate, const Place& place);
  void collective(unsigned mask, const Place& place);
  void warp_barrier(unsigned mask, const Place& place);
  void* shared_array(const void* site, std::size_t bytes);
  [[noreturn]] void fail(const std::string& what, const Place& place);
  Warp& warp_of(const Thread& t) { return warps_[t.warp]; }

  dim3 grid_size;
  dim3 block_size;
  uint3 block_index{};
  std::unique_ptr<std::byte[]> dynamic_shared;

 private:
  static void fiber_main(context::transfer_t from);
  void set_thread_count(std::size_t count);
  void check(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes) const;
  void run_block();
  void start_threads();
  void end_threads(bool failed);
  bool step();
  bool run_warp(unsigned warp);
  bool finish_collectives(Warp& warp, Thread* lanes);
  bool open_barrier();
  void resume(Thread& t);
  void leave(bool finished);
  void run_kernel();
  std::string describe(const Thread& t) const;
  [[noreturn]] void report_deadlock() const;
  void shuffle(std::vector<unsigned>& order);

  std::string name_;
  std::function<void()> kernel_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<SharedArray> arrays_;
  std::size_t dynamic_bytes_ = 0;
  char* stacks_ = nullptr;
  Thread* current_ = nullptr;
  context::fcontext_t scheduler_{};
  void* tsan_scheduler_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_bytes_ = 0;
  std::string error_;
  bool unwinding_ = false;
  unsigned alive_ = 0;
  unsigned at_barrier_ = 0;
  unsigned votes_ = 0;
  unsigned opened_votes_ = 0;
  Tags barrier_tags_;
  int begin_tag_ = 0;
  int end_tag_ = 0;
  unsigned random_ = 0;
  std::vector<unsigned> warp_order_;
  std::vector<unsigned> lane_order_;
};

thread_local Simulator simulator;

std::string text_of(const Place& place) { return std::string(place.file_name()) + ":" + std::to_string(place.line()); }

std::vector<unsigned> in_order(std::size_t n) {
  std::vector<unsigned> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<unsigned>(i);
  return order;
}

std::string Simulator::describe(const Thread& t) const {
  return "thread " + std::to_string(t.number) + " of block (" + std::to_string(block_index.x) + ", " +
         std::to_string(block_index.y) + ", " + std::to_string(block_index.z) + ")";
}

// ---- fibers ----

// Fibers stay for the next launch: the thread sanitizer takes a tenth of a second for those of a block.
void Simulator::set_thread_count(std::size_t count) {
  if (threads_.size() == count) return;
#if defined(__SANITIZE_THREAD__)
  for (Thread& t : threads_) __tsan_destroy_fiber(t.tsan_fiber);
#endif
  if (stacks_ != nullptr) munmap(stacks_, threads_.size() * kStackBytes);
  stacks_ = nullptr;
  threads_.clear();
  if (count == 0) return;
  void* const memory =
      mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw SimulationError("no memory for the stacks of " + std::to_string(count) + " threads");
  stacks_ = static_cast<char*>(memory);
  threads_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    threads_[i].stack = stacks_ + i * kStackBytes;
    mprotect(threads_[i].stack, kPageBytes, PROT_NONE);
#if defined(__SANITIZE_THREAD__)
    threads_[i].tsan_fiber = __tsan_create_fiber(0);
#endif
  }
}

// From a thread back to the scheduler; a finished thread does not come back.
TRIVET_UNSEEN void Simulator::leave([[maybe_unused]] bool finished) {
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_scheduler_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(finished ? nullptr : &fake_stack, scheduler_stack_, scheduler_stack_bytes_);
#endif
  scheduler_ = context::jump_fcontext(scheduler_, nullptr).fctx;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  if (unwinding_) throw Unwind{};
}

void Simulator::resume(Thread& t) {
  current_ = &t;
  t.started = true;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(t.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, t.stack + kPageBytes, kStackBytes - kPageBytes);
#endif
  t.fiber = context::jump_fcontext(t.fiber, nullptr).fctx;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  current_ = nullptr;
}

void Simulator::run_kernel() {
  try {
    kernel_();
  } catch (const Unwind&) {
  } catch (const SimulationError& e) {
    const Hidden hidden;
    error_ = e.what();
  } catch (const std::exception& e) {
    const Hidden hidden;
    error_ = name_ + ": exception in " + describe(*current_) + ": " + e.what();
  }
}

TRIVET_UNSEEN void Simulator::fiber_main(context::transfer_t from) {
  Simulator& s = simulator;
  {
    const Hidden hidden;
    s.scheduler_ = from.fctx;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &s.scheduler_stack_, &s.scheduler_stack_bytes_);
#endif
  }
  happens_after(&s.begin_tag_);
  s.run_kernel();
  happens_before(&s.end_tag_);
  {
    const Hidden hidden;
    Thread& t = s.current();
    t.state = State::done;
    --s.alive_;
    s.warps_[t.warp].alive &= ~(1u << t.lane);
  }
  s.leave(true);
  std::terminate();
}

// ---- waiting ----

void Simulator::fail(const std::string& what, const Place& place) {
  throw SimulationError(name_ + ": " + what + ": " + describe(*current_) + " at " + text_of(place));
}

void Simulator::wait(State state, const Place& place) {
  current_->state = state;
  current_->place = place;
  leave(false);
}

unsigned Simulator::barrier(bool predicate, const Place& place) {
  const Hidden hidden;
  int* const tag = barrier_tags_.current();
  happens_before(tag);
  ++at_barrier_;
  votes_ += predicate ? 1 : 0;
  wait(State::at_barrier, place);
  happens_after(tag);
  return opened_votes_;
}

void Simulator::collective(unsigned mask, const Place& place) {
  Thread& t = *current_;
  if ((mask >> t.lane & 1u) == 0) fail("a warp collective's mask leaves out the calling lane", place);
  t.mask = mask;
  warps_[t.warp].waiting |= 1u << t.lane;
  wait(State::in_collective, place);
}

void Simulator::warp_barrier(unsigned mask, const Place& place) {
  const Hidden hidden;
  Warp& warp = warp_of(*current_);
  happens_before(warp.tags[current_->lane].current());
  collective(mask, place);
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1u) != 0) happens_after(&warp.tags[lane].tag[warp.joined_round[lane] % 2]);
  }
}

bool Simulator::finish_collectives(Warp& warp, Thread* lanes) {
  bool progress = false;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((warp.waiting >> lane & 1u) == 0) continue;
    const unsigned mask = lanes[lane].mask;
    const unsigned members = mask & warp.alive;  // lanes that have returned are not waited for
    if ((warp.waiting & members) != members) continue;
    for (unsigned member = 0; member < kWarpSize; ++member) {
      if ((members >> member & 1u) == 0) continue;
      if (lanes[member].mask != mask) {
        throw SimulationError(name_ + ": lanes of one warp collective have different masks: " +
                              describe(lanes[member]) + " at " + text_of(lanes[member].place));
      }
      warp.received[member] = warp.offered[member];
      warp.joined_round[member] = warp.tags[member].round++;
      lanes[member].state = State::runnable;
    }
    warp.waiting &= ~members;
    progress = true;
  }
  return progress;
}

bool Simulator::open_barrier() {
  if (alive_ == 0 || at_barrier_ != alive_) return false;
  const Thread* first = nullptr;
  for (Thread& t : threads_) {
    if (t.state != State::at_barrier) continue;
    if (first == nullptr) first = &t;
    if (t.place.line() != first->place.line() || std::strcmp(t.place.file_name(), first->place.file_name()) != 0) {
      throw SimulationError(name_ + ": a block barrier was reached from two lines: " + describe(*first) + " at " +
                            text_of(first->place) + ", " + describe(t) + " at " + text_of(t.place));
    }
    t.state = State::runnable;
  }
  opened_votes_ = votes_;
  votes_ = 0;
  at_barrier_ = 0;
  ++barrier_tags_.round;
  return true;
}

void Simulator::report_deadlock() const {
  std::string what = name_ + ": deadlock";
  const Thread* last = nullptr;
  for (const Thread& t : threads_) {
    if (t.state != State::at_barrier && t.state != State::in_collective) continue;
    const bool same = last != nullptr && last->state == t.state && last->place.line() == t.place.line();
    last = &t;
    if (same) continue;
    what += std::string(": ") + describe(t) + " waits in a " +
            (t.state == State::at_barrier ? "block barrier" : "warp collective") + " at " + text_of(t.place);
  }
  throw SimulationError(what);
}

// ---- the scheduler ----

void Simulator::shuffle(std::vector<unsigned>& order) {
  if (schedule_seed == 0) return;
  for (std::size_t i = order.size(); i > 1; --i) {
    random_ = random_ * 1664525u + 1013904223u;
    std::swap(order[i - 1], order[(random_ >> 8) % i]);
  }
}

void Simulator::start_threads() {
  const auto count = static_cast<unsigned>(threads_.size());
  alive_ = count;
  at_barrier_ = votes_ = 0;
  error_.clear();
  for (Warp& w : warps_) w = Warp{};
  for (unsigned i = 0; i < count; ++i) {
    Thread& t = threads_[i];
    t.state = State::runnable;
    t.started = false;
    t.number = i;
    t.lane = i % kWarpSize;
    t.warp = i / kWarpSize;
    t.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
    warps_[t.warp].alive |= 1u << t.lane;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(t.stack + kPageBytes, kStackBytes - kPageBytes);
#endif
    t.fiber = context::make_fcontext(t.stack + kStackBytes, kStackBytes - kPageBytes, fiber_main);
  }
  if (dynamic_bytes_ > 0) std::memset(dynamic_shared.get(), kUnwritten, dynamic_bytes_);
  for (SharedArray& a : arrays_) std::memset(a.data.get(), kUnwritten, a.bytes);
}

// After a failure, unwinds the stacks of the threads that still wait, so that their destructors run.
void Simulator::end_threads(bool failed) {
  unwinding_ = failed;
  for (Thread& t : threads_) {
    if (t.state != State::done && t.started) resume(t);
  }
  unwinding_ = false;
  happens_after(&end_tag_);
}

// Runs every runnable thread of a warp up to its next wait.
bool Simulator::run_warp(unsigned warp) {
  bool progress = false;
  for (const unsigned lane : lane_order_) {
    const std::size_t i = std::size_t{warp} * kWarpSize + lane;
    if (i >= threads_.size() || threads_[i].state != State::runnable) continue;
    progress = true;
    resume(threads_[i]);
    if (!error_.empty()) throw SimulationError(error_);
  }
  return progress;
}

// True if a thread moved or may now move.
bool Simulator::step() {
  shuffle(lane_order_);
  bool progress = false;
  for (const unsigned warp : warp_order_) {
    progress = run_warp(warp) || progress;
    if (progress && schedule_seed != 0) break;  // one warp runs ahead of the others
  }
  for (std::size_t w = 0; w < warps_.size(); ++w) {
    progress = finish_collectives(warps_[w], &threads_[w * kWarpSize]) || progress;
  }
  if (open_barrier()) {
    shuffle(warp_order_);
    progress = true;
  }
  return progress;
}

void Simulator::run_block() {
  happens_before(&begin_tag_);
  const Hidden hidden;
  start_threads();
  shuffle(warp_order_);
  try {
    while (alive_ > 0) {
      if (!step() && alive_ > 0) report_deadlock();
    }
  } catch (...) {
    end_threads(true);
    throw;
  }
  end_threads(false);
}

void Simulator::check(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes) const {
  const auto refuse = [name](const std::string& what) { throw SimulationError(std::string(name) + ": " + what); };
  if (current_ != nullptr) refuse("a kernel launches a kernel");
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || block.z > 64) refuse("block size is not 1 ... 1024 threads");
  if (grid.x == 0 || grid.x > 0x7FFFFFFFu || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535) {
    refuse("grid size is beyond CUDA's limits");
  }
  if (shared_bytes > kMaxSharedBytes) refuse("more shared memory than a block can have");
}

void Simulator::run(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> kernel) {
  std::vector<unsigned> blocks;
  {
    const Hidden hidden;
    check(name, grid, block, shared_bytes);
    const std::size_t count = std::size_t{block.x} * block.y * block.z;
    set_thread_count(count);
    name_ = name;
    kernel_ = std::move(kernel);
    grid_size = grid;
    block_size = block;
    dynamic_bytes_ = shared_bytes;
    dynamic_shared = std::make_unique<std::byte[]>(shared_bytes);
    arrays_.clear();
    warps_.assign((count + kWarpSize - 1) / kWarpSize, {});
    random_ = schedule_seed * 2654435761u;
    warp_order_ = in_order(warps_.size());
    lane_order_ = in_order(kWarpSize);
    blocks = in_order(std::size_t{grid.x} * grid.y * grid.z);
    shuffle(blocks);
#if defined(__SANITIZE_THREAD__)
    tsan_scheduler_ = __tsan_get_current_fiber();
#endif
  }
  for (const unsigned b : blocks) {
    block_index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block();
  }
}

void* Simulator::shared_array(const void* site, std::size_t bytes) {
  const Hidden hidden;
  for (const SharedArray& a : arrays_) {
    if (a.site == site) return a.data.get();
  }
  arrays_.push_back({site, std::make_unique<std::byte[]>(bytes), bytes});
  std::memset(arrays_.back().data.get(), kUnwritten, bytes);
  return arrays_.back().data.get();
}

}  // namespace

// ---- the interface ----

void set_schedule(unsigned seed) { schedule_seed = seed; }

void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> kernel) {
  simulator.run(name, grid, block, shared_bytes, std::move(kernel));
}

TRIVET_UNSEEN uint3 thread_index() { return simulator.current().index; }
TRIVET_UNSEEN uint3 block_index() { return simulator.block_index; }
TRIVET_UNSEEN dim3 block_size() { return simulator.block_size; }
TRIVET_UNSEEN dim3 grid_size() { return simulator.grid_size; }
TRIVET_UNSEEN unsigned lane_index() { return simulator.current().lane; }
TRIVET_UNSEEN void* dynamic_shared() { return simulator.dynamic_shared.get(); }
void* shared_array(const void* site, std::size_t bytes) { return simulator.shared_array(site, bytes); }

unsigned barrier(bool predicate, const Place& place) { return simulator.barrier(predicate, place); }
void warp_barrier(unsigned mask, const Place& place) { simulator.warp_barrier(mask, place); }

std::uint64_t exchange(unsigned mask, std::uint64_t offered, unsigned source, const Place& place) {
  const Hidden hidden;
  const Thread& t = simulator.current();
  Warp& warp = simulator.warp_of(t);
  warp.offered[t.lane] = offered;
  simulator.collective(mask, place);
  if ((mask >> (source % kWarpSize) & 1u) == 0) simulator.fail("a shuffle reads a lane that is not in its mask", place);
  return warp.received[source % kWarpSize];
}

unsigned vote(unsigned mask, bool predicate, const Place& place) {
  const Hidden hidden;
  const Thread& t = simulator.current();
  Warp& warp = simulator.warp_of(t);
  warp.offered[t.lane] = predicate ? 1 : 0;
  const unsigned voters = mask & warp.alive;
  simulator.collective(mask, place);
  unsigned result = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((voters >> lane & 1u) != 0 && warp.received[lane] != 0) result |= 1u << lane;
  }
  return result;
}

}  // namespace trivet::kernels::cuda::sim
