// One source for a kernel, two ways to run it: nvcc compiles it for the device, any other compiler for the simulator of
// kernels/cuda/sim, where tests run it on the CPU. Kernels keep to what both have:
//
//   TRIVET_SHARED(float, name, count)      instead of  __shared__ float name[count]
//   TRIVET_DYNAMIC_SHARED(float, name)     instead of  extern __shared__ float name[]
//   TRIVET_UNROLL, TRIVET_NO_UNROLL        instead of  #pragma unroll, #pragma unroll 1
//   TRIVET_DEVICE                          for functions that kernels call
//   TRIVET_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
//
// Kernels say __launch_bounds__(kBlock, 2): without the second number ptxas spills a few registers here and there for
// the sake of more blocks, which our gate refuses.
//
// A launch that fails throws LaunchError with the kernel's name. A kernel whose name has commas goes into parentheses.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace trivet::kernels::cuda {

struct LaunchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void check_launch(const char* kernel) {
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) {
    throw LaunchError(std::string("launch of ") + kernel + " failed: " + cudaGetErrorString(error));
  }
}

}  // namespace trivet::kernels::cuda

#define TRIVET_DEVICE __device__ __forceinline__
#define TRIVET_SHARED(T, name, count) __shared__ T name[count]
#define TRIVET_DYNAMIC_SHARED(T, name)                             \
  extern __shared__ __align__(128) unsigned char trivet_dynamic[]; \
  T* const name = reinterpret_cast<T*>(trivet_dynamic)
#define TRIVET_UNROLL _Pragma("unroll")
#define TRIVET_NO_UNROLL _Pragma("unroll 1")
#define TRIVET_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                            \
  do {                                                                                           \
    kernel<<<(grid), (block), (shared_bytes), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__); \
    ::trivet::kernels::cuda::check_launch(#kernel);                                              \
  } while (false)

#else

#include "kernels/cuda/sim/device_names.h"

#define TRIVET_DEVICE inline
#define TRIVET_SHARED(T, name, count)  \
  static constexpr char name##_site{}; \
  T* const name = static_cast<T*>(::trivet::kernels::cuda::sim::shared_array(&name##_site, sizeof(T) * (count)))
#define TRIVET_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::trivet::kernels::cuda::sim::dynamic_shared())
#define TRIVET_UNROLL
#define TRIVET_NO_UNROLL
#define TRIVET_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                             \
  do {                                                                                                            \
    static_cast<void>(stream);                                                                                    \
    ::trivet::kernels::cuda::sim::launch(#kernel, (grid), (block), (shared_bytes), [=] { kernel(__VA_ARGS__); }); \
  } while (false)

#endif

namespace trivet::kernels::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kBlock = 256;  // threads of most kernels
inline constexpr unsigned kFullMask = 0xFFFFFFFFu;

// Blocks for n items, `per_block` each. Beyond the largest number threads take several items in turn.
inline unsigned blocks_for(std::int64_t n, std::int64_t per_block = kBlock) {
  constexpr std::int64_t kMost = std::int64_t{1} << 22;
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < kMost ? blocks : kMost);
}

// The running thread among all of the grid's (x), and their number.
TRIVET_DEVICE std::int64_t global_thread() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
TRIVET_DEVICE std::int64_t global_threads() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

}  // namespace trivet::kernels::cuda
