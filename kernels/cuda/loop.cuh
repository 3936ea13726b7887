// Walks several tensors together: one dimension has one size and a stride (in elements) for each tensor. Neighbouring
// dimensions are merged where all strides allow it, so equal dense shapes become one row.
#pragma once

#include "kernels/cuda/numbers.cuh"

namespace trivet::kernels::cuda {

template <int N>
struct Loop {
  int rank = 0;
  std::int64_t elements = 1;
  std::int64_t size[kMaxRank] = {};
  std::int64_t stride[N][kMaxRank] = {};

  // Adds dimensions from the outermost to the innermost.
  void add(std::int64_t dimension, const std::int64_t (&strides)[N]) {
    elements *= dimension;
    if (dimension == 1) return;
    bool merge = rank > 0;
    for (int k = 0; k < N && merge; ++k) merge = stride[k][rank - 1] == dimension * strides[k];
    if (!merge) size[rank++] = 1;
    size[rank - 1] *= dimension;
    for (int k = 0; k < N; ++k) stride[k][rank - 1] = strides[k];
  }

  // Of the innermost dimension; a loop over one element is a row of it.
  std::int64_t row() const { return rank == 0 ? 1 : size[rank - 1]; }
  std::int64_t inner_stride(int k) const { return rank == 0 ? 1 : stride[k][rank - 1]; }
};

// Division by 64-bit numbers takes a hundred instructions; most tensors have fewer than 2^31 elements.
struct Quotient {
  std::int64_t quotient;
  std::int64_t rest;
};
TRIVET_DEVICE Quotient divide(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 31) == 0) {
    const auto a32 = static_cast<std::uint32_t>(a);
    const auto b32 = static_cast<std::uint32_t>(b);
    const std::uint32_t q = a32 / b32;
    return {static_cast<std::int64_t>(q), static_cast<std::int64_t>(a32 - q * b32)};
  }
  const std::int64_t q = a / b;
  return {q, a - q * b};
}

// Offsets, in each tensor, of item `index` of a loop over the `rank` outermost dimensions.
template <int N>
TRIVET_DEVICE void locate(const Loop<N>& loop, int rank, std::int64_t index, std::int64_t (&offset)[N]) {
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) offset[k] = 0;
  for (int d = rank - 1; d > 0; --d) {
    const Quotient q = divide(index, loop.size[d]);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) offset[k] += q.rest * loop.stride[k][d];
    index = q.quotient;
  }
  if (rank > 0) {
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) offset[k] += index * loop.stride[k][0];
  }
}

inline void dense_strides(const TensorDesc& t, std::int64_t (&strides)[kMaxRank]) {
  std::int64_t stride = 1;
  for (int d = t.rank - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= t.shape[d];
  }
}

// The output (tensor 0) with inputs that are broadcast to it: their missing and repeated dimensions have stride 0.
template <int N>
Loop<N> broadcast_loop(const TensorDesc& y, const TensorDesc* const (&inputs)[N - 1]) {
  std::int64_t strides[N][kMaxRank] = {};
  dense_strides(y, strides[0]);
  for (int k = 1; k < N; ++k) {
    const TensorDesc& x = *inputs[k - 1];
    std::int64_t stride = 1;
    for (int d = x.rank - 1; d >= 0; --d) {
      if (x.shape[d] != 1) strides[k][d + y.rank - x.rank] = stride;
      stride *= x.shape[d];
    }
  }
  Loop<N> loop;
  for (int d = 0; d < y.rank; ++d) {
    std::int64_t at[N];
    for (int k = 0; k < N; ++k) at[k] = strides[k][d];
    loop.add(y.shape[d], at);
  }
  return loop;
}

}  // namespace trivet::kernels::cuda
