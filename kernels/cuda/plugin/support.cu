#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/plugin/cuda_check.h"
#include "kernels/cuda/plugin/support.h"

namespace trivet::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kRowsOfABlock = 256;

std::int64_t blocks(std::int64_t n, std::int64_t each) { return (n + each - 1) / each; }

// Reads 4 and writes 2 bytes for each element: bound by memory.
__global__ void round_to_bf16_kernel(const float* from, __nv_bfloat16* to, std::int64_t elements) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < elements) to[i] = __float2bfloat16_rn(from[i]);
}

__device__ float as_float(float x) { return x; }
__device__ float as_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void store(float* to, float x) { *to = x; }
__device__ void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

// Each thread adds one column's elements of kRowsOfABlock rows; neighbours read neighbours. Reads the matrix once:
// bound by memory. The number of blocks depends on the shape alone, and so do the sums' bits.
template <class T>
__global__ void partial_sums_kernel(const T* x, std::int64_t rows, std::int64_t columns, float* partial) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= columns) return;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kRowsOfABlock;
  const std::int64_t last = min(rows, first + kRowsOfABlock);
  float sum = 0;
  for (std::int64_t row = first; row < last; ++row) sum += as_float(x[row * columns + column]);
  partial[static_cast<std::int64_t>(blockIdx.y) * columns + column] = sum;
}

template <class T>
__global__ void add_partial_sums_kernel(const float* partial, std::int64_t parts, std::int64_t columns, T* sums) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= columns) return;
  float sum = 0;
  for (std::int64_t part = 0; part < parts; ++part) sum += partial[part * columns + column];
  store(sums + column, sum);
}

}  // namespace

void round_to_bf16(const float* from, void* to, std::int64_t elements, void* stream) {
  if (elements == 0) return;
  round_to_bf16_kernel<<<static_cast<unsigned>(blocks(elements, kThreads)), kThreads, 0,
                         static_cast<cudaStream_t>(stream)>>>(from, static_cast<__nv_bfloat16*>(to), elements);
  check(cudaGetLastError(), "round_to_bf16_kernel");
}

// A grid has at most 65,535 blocks in its second direction: enough for 16 million rows.
std::size_t column_sums_workspace(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(blocks(rows, kRowsOfABlock) * columns) * sizeof(float);
}

void column_sums(const View& x, std::int64_t rows, std::int64_t columns, void* partial, const View& sums,
                 void* stream) {
  const std::int64_t parts = blocks(rows, kRowsOfABlock);
  const dim3 grid(static_cast<unsigned>(blocks(columns, kThreads)), static_cast<unsigned>(parts));
  const auto s = static_cast<cudaStream_t>(stream);
  auto* const p = static_cast<float*>(partial);
  if (x.dtype == DType::bf16) {
    partial_sums_kernel<<<grid, kThreads, 0, s>>>(x.as<const __nv_bfloat16>(), rows, columns, p);
  } else {
    partial_sums_kernel<<<grid, kThreads, 0, s>>>(x.as<const float>(), rows, columns, p);
  }
  check(cudaGetLastError(), "partial_sums_kernel");
  if (sums.dtype == DType::bf16) {
    add_partial_sums_kernel<<<grid.x, kThreads, 0, s>>>(p, parts, columns, sums.as<__nv_bfloat16>());
  } else {
    add_partial_sums_kernel<<<grid.x, kThreads, 0, s>>>(p, parts, columns, sums.as<float>());
  }
  check(cudaGetLastError(), "add_partial_sums_kernel");
}

}  // namespace trivet::kernels::cuda
