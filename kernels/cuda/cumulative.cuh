// Running sums along one dimension, in double, or in 64 bits that wrap around. Bound: x read once and y written once;
// rows that are long enough to be cut into pieces are read twice.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/scan.cuh"

namespace trivet::kernels::cuda {

TRIVET_DEVICE double widen_sum(float x) { return static_cast<double>(x); }
TRIVET_DEVICE double widen_sum(BFloat16 x) { return static_cast<double>(widen(x)); }
TRIVET_DEVICE double widen_sum(Float16 x) { return static_cast<double>(widen(x)); }
template <class T>
TRIVET_DEVICE std::uint64_t widen_sum(T x) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(x));
}
template <class T>
TRIVET_DEVICE T narrow_sum(double sum) {
  return narrow<T>(static_cast<float>(sum));
}
template <class T>
TRIVET_DEVICE T narrow_sum(std::uint64_t sum) {
  return static_cast<T>(sum);
}

// Rows that are cut into pieces of kPiece elements, which depends on their length alone.
struct SumRows {
  static constexpr std::int64_t kPiece = 32768;
  std::int64_t rows;
  std::int64_t n;
  std::int64_t pieces;
  bool exclusive;
  bool reverse;

  // Where item i of a row, counted in the direction of the sum and in packs, is in memory.
  TRIVET_DEVICE std::int64_t place(std::int64_t i, std::int64_t packs) const { return reverse ? packs - 1 - i : i; }
};

// The sum of each piece but the last: (rows, pieces).
template <int N, class T, class Sum>
__global__ void __launch_bounds__(kBlock, 2) sum_pieces_kernel(const T* x, Sum* sums, SumRows s) {
  const std::int64_t packs = s.n / N;
  for (std::int64_t unit = blockIdx.x; unit < s.rows * s.pieces; unit += gridDim.x) {
    const Quotient at = divide(unit, s.pieces);
    if (at.rest == s.pieces - 1) continue;
    Sum sum = 0;
    const std::int64_t first = at.rest * (SumRows::kPiece / N);
    for (std::int64_t i = first + threadIdx.x; i < first + SumRows::kPiece / N; i += kBlock) {
      const Pack<T, N> pack = load_pack<N>(x + at.quotient * s.n + s.place(i, packs) * N);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) sum += widen_sum(pack.v[k]);
    }
    sum = join_group<kBlock>(sum, Sum{0}, Plus{});
    if (threadIdx.x == 0) sums[unit] = sum;
  }
}

// y of one piece by a group of threads. y may be x: each thread reads what it writes.
template <int kGroup, int N, class T, class Sum>
__global__ void __launch_bounds__(kBlock, 2) sum_rows_kernel(const T* x, T* y, const Sum* sums, SumRows s) {
  const int lane = static_cast<int>(threadIdx.x) % kGroup;
  const std::int64_t packs = s.n / N;
  for (std::int64_t unit = first_row<kGroup>(); unit < s.rows * s.pieces; unit += row_step<kGroup>()) {
    const Quotient at = divide(unit, s.pieces);
    Sum total = 0;
    if (s.pieces > 1) {
      for (std::int64_t p = lane; p < at.rest; p += kGroup) total += sums[at.quotient * s.pieces + p];
      total = join_group<kGroup>(total, Sum{0}, Plus{});
    }
    const std::int64_t begin = at.rest * (SumRows::kPiece / N);
    const std::int64_t end = at.rest + 1 < s.pieces ? begin + SumRows::kPiece / N : packs;
    for (std::int64_t i = begin; i < end; i += kGroup) {
      const bool inside = i + lane < end;
      const std::int64_t element = inside ? at.quotient * s.n + s.place(i + lane, packs) * N : 0;
      Pack<T, N> pack{};
      Sum running[N];
      Sum mine = 0;
      if (inside) pack = load_pack<N>(x + element);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        const Sum v = inside ? widen_sum(s.reverse ? pack.v[N - 1 - k] : pack.v[k]) : Sum{0};
        running[k] = s.exclusive ? mine : mine + v;
        mine += v;
      }
      Sum of_group = 0;
      const Sum start = total + scan_before<kGroup>(mine, of_group);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) pack.v[k] = narrow_sum<T>(start + (s.reverse ? running[N - 1 - k] : running[k]));
      if (inside) store_pack(y + element, pack);
      total += of_group;
    }
  }
}

// Along another dimension than the last: a thread for each column, neighbours take neighbours.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    sum_columns_kernel(const T* x, T* y, Extents e, bool exclusive, bool reverse) {
  using Sum = decltype(widen_sum(T{}));
  for (std::int64_t i = global_thread(); i < e.outer * e.inner; i += global_threads()) {
    const Quotient at = divide(i, e.inner);
    const std::int64_t first = at.quotient * e.size * e.inner + at.rest;
    Sum total = 0;
    for (std::int64_t k = 0; k < e.size; ++k) {
      const std::int64_t element = first + (reverse ? e.size - 1 - k : k) * e.inner;
      const Sum next = total + widen_sum(x[element]);
      y[element] = narrow_sum<T>(exclusive ? total : next);
      total = next;
    }
  }
}

}  // namespace trivet::kernels::cuda
