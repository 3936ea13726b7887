// Ops that take indices; trivet/kernels/attrs_indexing.h has the rule for indices that are outside. Bound: reading ops
// move each element of the result once in and once out. The sums over the places of an index sort the places first, by
// keys of 8 bytes: no atomics, so the bits depend on nothing but the indices.
#pragma once

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/sort_keys.cuh"

namespace trivet::kernels::cuda {

struct Indices {
  const std::int32_t* narrow;  // or null
  const std::int64_t* wide;
  std::int64_t size;  // of the indexed dimension
  bool from_end;      // negative ones count from the end

  // The element that an index names, or -1 where it is outside.
  TRIVET_DEVICE std::int64_t operator[](std::int64_t i) const {
    const std::int64_t given = narrow != nullptr ? narrow[i] : wide[i];
    const std::int64_t index = from_end && given < 0 ? given + size : given;
    return index >= 0 && index < size ? index : -1;
  }
};

inline Indices indices_of(const View& v, std::int64_t size, bool from_end) {
  return {v.dtype == DType::i32 ? v.as<const std::int32_t>() : nullptr,
          v.dtype == DType::i32 ? nullptr : v.as<const std::int64_t>(), size, from_end};
}

// What is read outside.
inline std::uint64_t outside_bits(DType type, bool zero) {
  return zero || !is_float(type) ? 0 : element_bits(type, __builtin_nan(""));
}

// y (outer, count, width) from x (outer, size, width), in packs of N elements.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2) gather_kernel(const T* x, Indices indices, T* y, std::int64_t rows,
                                                           std::int64_t count, std::int64_t packs, T outside) {
  for (std::int64_t i = global_thread(); i < rows * packs; i += global_threads()) {
    const Quotient at = divide(i, packs);
    const Quotient row = divide(at.quotient, count);
    const std::int64_t index = indices[row.rest];
    Pack<T, N> pack;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) pack.v[k] = outside;
    if (index >= 0) pack = load_pack<N>(x + ((row.quotient * indices.size + index) * packs + at.rest) * N);
    store_pack(y + i * N, pack);
  }
}

// An element for each index, along one axis: loop over the indices (tensor 0) and the lines of x (tensor 1).
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    gather_elements_kernel(const T* x, Indices indices, T* y, const __grid_constant__ Loop<2> loop, std::int64_t step,
                           T outside) {
  for (std::int64_t i = global_thread(); i < loop.elements; i += global_threads()) {
    std::int64_t offset[2];
    locate(loop, loop.rank, i, offset);
    const std::int64_t index = indices[offset[0]];
    y[offset[0]] = index >= 0 ? x[offset[1] + index * step] : outside;
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    one_hot_kernel(Indices indices, T* y, std::int64_t n, std::int64_t inner, T on, T off) {
  for (std::int64_t i = global_thread(); i < n; i += global_threads()) {
    const Quotient column = divide(i, inner);
    const Quotient row = divide(column.quotient, indices.size);
    y[i] = indices[row.quotient * inner + column.rest] == row.rest ? on : off;
  }
}

// ---- sums ----

// The first of the sorted keys that is not below `key`.
TRIVET_DEVICE std::int64_t lower_bound(const std::uint64_t* keys, std::int64_t count, std::uint64_t key) {
  std::int64_t low = 0;
  while (count > 0) {
    const std::int64_t half = count / 2;
    const bool below = keys[low + half] < key;
    low = below ? low + half + 1 : low;
    count = below ? count - half - 1 : half;
  }
  return low;
}

// dx (outer, size, width): the sum of dy (outer, count, width) over the places of each index, in their order; in f32
// for 64 places, then in double, because a frequent index has very many.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    sum_places_kernel(const T* dy, const std::uint64_t* keys, T* dx, std::int64_t rows, std::int64_t size,
                      std::int64_t count, std::int64_t packs) {
  for (std::int64_t i = global_thread(); i < rows * packs; i += global_threads()) {
    const Quotient at = divide(i, packs);
    const Quotient row = divide(at.quotient, size);
    const std::uint64_t key = static_cast<std::uint64_t>(row.rest) << 32;
    const T* const from = dy + row.quotient * count * packs * N + at.rest * N;
    double total[N];
    float block[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) total[k] = block[k] = 0;
    int in_block = 0;
    for (std::int64_t p = lower_bound(keys, count, key); p < count && keys[p] >> 32 == key >> 32; ++p) {
      float v[N];
      load_floats(from + static_cast<std::int64_t>(keys[p] & 0xFFFFFFFFu) * packs * N, v);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) block[k] += v[k];
      if (++in_block < 64) continue;
      in_block = 0;
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        total[k] += static_cast<double>(block[k]);
        block[k] = 0;
      }
    }
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) block[k] = static_cast<float>(total[k] + static_cast<double>(block[k]));
    store_floats(dx + i * N, block);
  }
}

}  // namespace trivet::kernels::cuda
