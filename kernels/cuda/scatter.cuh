// Reading and writing at places that indices name in several dimensions; trivet/kernels/attrs_indexing.h has the rule
// for indices that are outside. Bound: gather_nd moves each element of the result once in and once out. A scatter
// copies x, sorts its updates by their targets (keys of 8 bytes), and reads each update once; an update's target is
// read and written once however many updates it has, because the thread at the first of them joins them all, in their
// order.
#pragma once

#include "kernels/cuda/indexing.cuh"

namespace trivet::kernels::cuda {

// Tuples of indices that name rows of x: (batch, per_batch, depth) into (batch, sizes.., width).
struct Tuples {
  Indices indices;
  int depth = 0;
  std::int64_t sizes[kMaxRank] = {};  // of the indexed dimensions
  std::int64_t per_batch = 1;
  std::int64_t count = 1;
  std::int64_t width = 1;  // elements that one tuple names

  Tuples(const TensorDesc& x, const View& view, std::int64_t batch_dims) : indices(indices_of(view, 1, true)) {
    const int batch = static_cast<int>(batch_dims);
    depth = static_cast<int>(view.shape[view.rank - 1]);
    for (int d = 0; d < depth; ++d) sizes[d] = x.shape[batch + d];
    for (int d = batch + depth; d < x.rank; ++d) width *= x.shape[d];
    for (int d = 0; d < view.rank - 1; ++d) {
      count *= view.shape[d];
      if (d >= batch) per_batch *= view.shape[d];
    }
  }

  // The row of x, or -1 where an index is outside.
  TRIVET_DEVICE std::int64_t row(std::int64_t t) const {
    std::int64_t row = divide(t, per_batch).quotient;
    Indices of_dimension = indices;
    for (int d = 0; d < depth; ++d) {
      of_dimension.size = sizes[d];
      const std::int64_t i = of_dimension[t * depth + d];
      if (i < 0) return -1;
      row = row * sizes[d] + i;
    }
    return row;
  }
  TRIVET_DEVICE std::int64_t target(std::int64_t t) const { return row(t); }
};

template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    gather_tuples_kernel(const T* x, T* y, const __grid_constant__ Tuples tuples, std::int64_t packs, T outside) {
  const std::int64_t across = tuples.width / N;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const Quotient at = divide(i, across);
    const std::int64_t row = tuples.row(at.quotient);
    Pack<T, N> pack;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) pack.v[k] = outside;
    if (row >= 0) pack = load_pack<N>(x + (row * across + at.rest) * N);
    store_pack(y + i * N, pack);
  }
}

// ---- scatter ----

// Updates along one axis: a loop over the indices (tensor 0) and the lines of x (tensor 1).
struct LineTargets {
  Indices indices;
  Loop<2> loop;
  std::int64_t step;  // of x along the axis

  TRIVET_DEVICE std::int64_t target(std::int64_t i) const {
    std::int64_t offset[2];
    locate(loop, loop.rank, i, offset);
    const std::int64_t index = indices[offset[0]];
    return index < 0 ? -1 : offset[1] + index * step;
  }
};

// Target in the upper half, number of the update in the lower one. What is outside comes last.
template <class Targets>
__global__ void __launch_bounds__(kBlock, 2)
    target_keys_kernel(const __grid_constant__ Targets targets, std::uint64_t* keys, std::int64_t count,
                       std::int64_t padded) {
  for (std::int64_t i = global_thread(); i < padded; i += global_threads()) {
    const std::int64_t target = i < count ? targets.target(i) : -1;
    keys[i] =
        target < 0 ? ~std::uint64_t{0} : (static_cast<std::uint64_t>(target) << 32) | static_cast<std::uint64_t>(i);
  }
}

template <class T>
TRIVET_DEVICE T value_of(T x) {
  return x;
}
TRIVET_DEVICE float value_of(BFloat16 x) { return widen(x); }
TRIVET_DEVICE float value_of(Float16 x) { return widen(x); }

struct KeepLast {
  template <class V>
  TRIVET_DEVICE V operator()(V, V b) const {
    return b;
  }
};
// Integers wrap around.
struct JoinSum {
  TRIVET_DEVICE float operator()(float a, float b) const { return a + b; }
  template <class V>
  TRIVET_DEVICE V operator()(V a, V b) const {
    return static_cast<V>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
};
struct JoinProduct {
  TRIVET_DEVICE float operator()(float a, float b) const { return a * b; }
  template <class V>
  TRIVET_DEVICE V operator()(V a, V b) const {
    return static_cast<V>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  }
};
struct JoinLargest {
  TRIVET_DEVICE float operator()(float a, float b) const { return larger(a, b); }
  template <class V>
  TRIVET_DEVICE V operator()(V a, V b) const {
    return a > b ? a : b;
  }
};
struct JoinSmallest {
  TRIVET_DEVICE float operator()(float a, float b) const { return smaller(a, b); }
  template <class V>
  TRIVET_DEVICE V operator()(V a, V b) const {
    return a < b ? a : b;
  }
};

// y (rows, width) joined with updates (count, width), in packs of N elements. The thread at the first key of a target
// takes all updates of it; 16-bit floats are joined in f32 and rounded once.
template <int N, class T, class Join>
__global__ void __launch_bounds__(kBlock, 2) join_updates_kernel(T* y, const T* updates, const std::uint64_t* keys,
                                                                 std::int64_t count, std::int64_t packs, Join join) {
  using V = decltype(value_of(T{}));
  for (std::int64_t i = global_thread(); i < count * packs; i += global_threads()) {
    const Quotient at = divide(i, packs);
    const std::uint64_t key = keys[at.quotient];
    const std::uint64_t target = key >> 32;
    if (key == ~std::uint64_t{0} || (at.quotient > 0 && keys[at.quotient - 1] >> 32 == target)) continue;
    T* const to = y + (static_cast<std::int64_t>(target) * packs + at.rest) * N;
    Pack<T, N> pack = load_pack<N>(to);
    V joined[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) joined[k] = value_of(pack.v[k]);
    TRIVET_NO_UNROLL
    for (std::int64_t p = at.quotient; p < count && keys[p] >> 32 == target; ++p) {
      const auto update = static_cast<std::int64_t>(keys[p] & 0xFFFFFFFFu);
      pack = load_pack<N>(updates + (update * packs + at.rest) * N);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) joined[k] = join(joined[k], value_of(pack.v[k]));
    }
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      if constexpr (sizeof(V) == sizeof(T)) {
        pack.v[k] = joined[k];
      } else {
        pack.v[k] = narrow<T>(joined[k]);
      }
    }
    store_pack(to, pack);
  }
}

}  // namespace trivet::kernels::cuda
