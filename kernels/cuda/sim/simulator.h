// Runs CUDA kernels on the CPU, so that results, memory errors, missing barriers and races are found on machines
// without a GPU. One thread of a block is one fiber; the blocks of a launch run one after the other on the calling
// thread of the system. A fiber runs until it waits at a barrier or in a warp collective; the scheduler opens these
// when all who must come have come, and reports a deadlock, with file and line, when nobody can go on.
//
//  - Schedules: seed 0 runs all warps in step. With another seed one warp runs ahead until it has to wait, in an order
//    that changes with the seed; so do the orders of blocks and lanes.
//  - Shared memory is NaN (all bits set) where a block has not written. It lies on the heap, where the address
//  sanitizer
//    sees an access beyond its end.
//  - The thread sanitizer sees each fiber as a thread and only the order that CUDA promises: that of a launch's begin
//    and end, of block barriers and of __syncwarp. Shuffles and votes exchange registers and order nothing.
//  - A launch that breaks a rule throws SimulationError, with block, thread, file and line, and the next one works.
//
// Not simulated: races between blocks, fences, clusters, wgmma, TMA, time. kernels/cuda/sim/device_names.h gives these
// functions the names that kernels call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <type_traits>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1) : x(x_size), y(y_size), z(z_size) {}
};
struct uint3 {
  unsigned x, y, z;
};

namespace trivet::kernels::cuda::sim {

struct SimulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Place = std::source_location;

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;
inline constexpr std::size_t kMaxSharedBytes = 227 * 1024;  // of one block on compute capability 9.0

void set_schedule(unsigned seed);

// Runs `kernel` in every thread of every block. `name` is for messages.
void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> kernel);

// ---- for the running thread ----

uint3 thread_index();
uint3 block_index();
dim3 block_size();
dim3 grid_size();
unsigned lane_index();

// Block barrier; gives how many threads came with a true predicate.
unsigned barrier(bool predicate, const Place& place);
// Barrier of the lanes in `mask`.
void warp_barrier(unsigned mask, const Place& place);
// Each lane offers 64 bits and gets those of lane `source`, which must be in the mask.
std::uint64_t exchange(unsigned mask, std::uint64_t offered, unsigned source, const Place& place);
// One bit for each lane of the mask whose predicate is true.
unsigned vote(unsigned mask, bool predicate, const Place& place);

// The block's array that is declared at `site`: `bytes` bytes, the same for all its threads.
void* shared_array(const void* site, std::size_t bytes);
void* dynamic_shared();

template <class T>
T exchange_value(unsigned mask, T value, unsigned source, const Place& place) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source, place);
  T result;
  std::memcpy(&result, &bits, sizeof(T));
  return result;
}

}  // namespace trivet::kernels::cuda::sim
