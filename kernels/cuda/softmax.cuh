// Softmax, its logarithm and their gradients. Bound: x read once and y written once (the gradient reads dy and y). Rows
// of up to 12,288 elements wait in shared memory for their maximum and sum; longer ones are read again, mostly from the
// second cache. y may be x, dx may be dy or y.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    softmax_kernel(const T* x, T* y, std::int64_t rows, RowLayout layout, bool log) {
  TRIVET_DYNAMIC_SHARED(float, shared);
  for (std::int64_t r = first_row<kGroup>(); r < rows; r += row_step<kGroup>()) {
    Row<kGroup, N, T> row(x + r * layout.n, shared, layout);
    float largest = -infinity();
    row.load([&](float v) { largest = larger(largest, v); });
    largest = group_max<kGroup>(largest);
    float sum = 0;
    row.each([&](float v) { sum += expf(v - largest); });
    sum = group_sum<kGroup>(sum);
    const float scale = log ? logf(sum) : 1.0f / sum;
    row.write(y + r * layout.n, [&](float v) { return log ? (v - largest) - scale : expf(v - largest) * scale; });
  }
}

// With s = sum(dy y): dx = y (dy - s). Of the logarithm, with s = sum(dy): dx = dy - e^y s.
template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    softmax_backward_kernel(const T* dy, const T* y, T* dx, std::int64_t rows, RowLayout layout, bool log) {
  TRIVET_DYNAMIC_SHARED(float, shared);
  for (std::int64_t r = first_row<kGroup>(); r < rows; r += row_step<kGroup>()) {
    const T* const result = y + r * layout.n;
    Row<kGroup, N, T> row(dy + r * layout.n, shared, layout);
    float sum = 0;
    row.load_packs([&](std::int64_t c, const float(&g)[N]) {
      float v[N];
      load_floats(result + c, v);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) sum += log ? g[k] : g[k] * v[k];
    });
    sum = group_sum<kGroup>(sum);
    row.write_packs(dx + r * layout.n, [&](std::int64_t c, float(&g)[N]) {
      float v[N];
      load_floats(result + c, v);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) g[k] = log ? g[k] - expf(v[k]) * sum : v[k] * (g[k] - sum);
    });
  }
}

// Along an axis whose elements are `inner` apart: a thread for each lane, neighbours read neighbours.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    softmax_lanes_kernel(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner, bool log) {
  for (std::int64_t i = global_thread(); i < outer * inner; i += global_threads()) {
    const Quotient at = divide(i, inner);
    const std::int64_t first = at.quotient * n * inner + at.rest;
    float largest = -infinity();
    for (std::int64_t k = 0; k < n; ++k) largest = larger(largest, widen(x[first + k * inner]));
    float sum = 0;
    for (std::int64_t k = 0; k < n; ++k) sum += expf(widen(x[first + k * inner]) - largest);
    const float scale = log ? logf(sum) : 1.0f / sum;
    for (std::int64_t k = 0; k < n; ++k) {
      const float v = widen(x[first + k * inner]) - largest;
      y[first + k * inner] = narrow<T>(log ? v - scale : expf(v) * scale);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    softmax_lanes_backward_kernel(const T* dy, const T* y, T* dx, std::int64_t outer, std::int64_t n,
                                  std::int64_t inner, bool log) {
  for (std::int64_t i = global_thread(); i < outer * inner; i += global_threads()) {
    const Quotient at = divide(i, inner);
    const std::int64_t first = at.quotient * n * inner + at.rest;
    float sum = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      const float g = widen(dy[first + k * inner]);
      sum += log ? g : g * widen(y[first + k * inner]);
    }
    for (std::int64_t k = 0; k < n; ++k) {
      const float g = widen(dy[first + k * inner]);
      const float v = widen(y[first + k * inner]);
      dx[first + k * inner] = narrow<T>(log ? g - expf(v) * sum : v * (g - sum));
    }
  }
}

}  // namespace trivet::kernels::cuda
