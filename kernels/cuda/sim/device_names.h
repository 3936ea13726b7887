// The names of CUDA C++ that kernels use, on top of the simulator. A waiting call records where it stands in the
// source, for the report of a deadlock.
#pragma once

#include <math.h>

#include <atomic>

#include "kernels/cuda/sim/simulator.h"

using cudaStream_t = void*;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
// A __shared__ variable would silently be private to each thread: kernels say TRIVET_SHARED.
#define __shared__ error_say_TRIVET_SHARED

#define threadIdx (::trivet::kernels::cuda::sim::thread_index())
#define blockIdx (::trivet::kernels::cuda::sim::block_index())
#define blockDim (::trivet::kernels::cuda::sim::block_size())
#define gridDim (::trivet::kernels::cuda::sim::grid_size())

namespace trivet::kernels::cuda {

inline void __syncthreads(const sim::Place& place = sim::Place::current()) { sim::barrier(false, place); }
inline int __syncthreads_or(int predicate, const sim::Place& place = sim::Place::current()) {
  return sim::barrier(predicate != 0, place) != 0 ? 1 : 0;
}
inline void __syncwarp(unsigned mask = sim::kAllLanes, const sim::Place& place = sim::Place::current()) {
  sim::warp_barrier(mask, place);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, const sim::Place& place = sim::Place::current()) {
  const unsigned group = static_cast<unsigned>(width);
  const unsigned first = sim::lane_index() / group * group;
  return sim::exchange_value(mask, value, first + static_cast<unsigned>(source) % group, place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, const sim::Place& place = sim::Place::current()) {
  return sim::exchange_value(mask, value, sim::lane_index() ^ static_cast<unsigned>(bits), place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, const sim::Place& place = sim::Place::current()) {
  const unsigned lane = sim::lane_index();
  return sim::exchange_value(mask, value, lane >= delta ? lane - delta : lane, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, const sim::Place& place = sim::Place::current()) {
  const unsigned source = sim::lane_index() + delta;
  return sim::exchange_value(mask, value, source < sim::kWarpSize ? source : sim::lane_index(), place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const sim::Place& place = sim::Place::current()) {
  return sim::vote(mask, predicate != 0, place);
}

template <class T>
T atomicAdd(T* address, T value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

// The sum of c and the products of four signed bytes.
inline int __dp4a(int a, int b, int c) {
  for (int shift = 0; shift < 32; shift += 8) {
    c += static_cast<signed char>((a >> shift) & 0xFF) * static_cast<signed char>((b >> shift) & 0xFF);
  }
  return c;
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float sinpif(float x) { return static_cast<float>(sin(3.14159265358979324 * static_cast<double>(x))); }
inline float cospif(float x) { return static_cast<float>(cos(3.14159265358979324 * static_cast<double>(x))); }
inline float normcdff(float x) { return 0.5f * erfcf(-0.707106781186547524f * x); }

}  // namespace trivet::kernels::cuda
