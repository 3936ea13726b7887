// Moving elements of any dtype, as words of their size. Bound: every element that is moved is read and written once.
#pragma once

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

inline constexpr int kTo = 0;
inline constexpr int kFrom = 1;

// Both dense along the innermost dimension, or one element of x for a whole row.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    copy_packs_kernel(T* to, const T* from, const __grid_constant__ Loop<2> loop, Parts parts, std::int64_t step) {
  for (std::int64_t i = global_thread(); i < parts.items; i += global_threads()) {
    const Quotient at = divide(i, parts.per_row);
    std::int64_t offset[2];
    locate(loop, loop.rank - 1, at.quotient, offset);
    const std::int64_t first = at.rest * N;
    store_part<N>(to + offset[kTo], first, parts.row, load_part<N>(from + offset[kFrom], first, parts.row, step));
  }
}

// Any strides.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    copy_elements_kernel(T* to, const T* from, const __grid_constant__ Loop<2> loop) {
  for (std::int64_t i = global_thread(); i < loop.elements; i += global_threads()) {
    std::int64_t offset[2];
    locate(loop, loop.rank, i, offset);
    to[offset[kTo]] = from[offset[kFrom]];
  }
}

inline constexpr int kTile = 32;

// A transposed matrix for each item of the outer loop: `to` is dense along the columns, `from` along the rows. Tiles
// pass through shared memory, so that neighbouring threads read and write neighbouring elements; a column more keeps
// its columns in different banks.
struct Tiles {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t to_stride;    // between rows
  std::int64_t from_stride;  // between columns
  std::int64_t across;
  std::int64_t down;
};

template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    copy_tiles_kernel(T* to, const T* from, const __grid_constant__ Loop<2> outer, Tiles t) {
  TRIVET_SHARED(T, tile, kTile * (kTile + 1));
  const int lane = static_cast<int>(threadIdx.x) % kTile;
  const int strand = static_cast<int>(threadIdx.x) / kTile;
  constexpr int kStrands = kBlock / kTile;
  for (std::int64_t unit = blockIdx.x; unit < outer.elements * t.across * t.down; unit += gridDim.x) {
    const Quotient by_tile = divide(unit, t.across * t.down);
    const Quotient place = divide(by_tile.rest, t.across);
    std::int64_t offset[2];
    locate(outer, outer.rank, by_tile.quotient, offset);
    const std::int64_t row = place.quotient * kTile;
    const std::int64_t column = place.rest * kTile;
    __syncthreads();  // the tile before has been written
    for (int c = strand; c < kTile; c += kStrands) {
      if (row + lane >= t.rows || column + c >= t.columns) continue;
      tile[c * (kTile + 1) + lane] = from[offset[kFrom] + (column + c) * t.from_stride + row + lane];
    }
    __syncthreads();
    for (int r = strand; r < kTile; r += kStrands) {
      if (row + r >= t.rows || column + lane >= t.columns) continue;
      to[offset[kTo] + (row + r) * t.to_stride + column + lane] = tile[lane * (kTile + 1) + r];
    }
  }
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2) fill_kernel(T* to, T value, std::int64_t packs) {
  Pack<T, N> pack;
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) pack.v[k] = value;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) store_pack(to + i * N, pack);
}

template <class T>
void fill(T* to, T value, std::int64_t n, void* stream) {
  if (n == 0) return;
  if (is_aligned(to) && n % kPack<T> == 0) {
    TRIVET_LAUNCH((fill_kernel<kPack<T>, T>), dim3(blocks_for(n / kPack<T>)), dim3(kBlock), 0, stream, to, value,
                  n / kPack<T>);
  } else {
    TRIVET_LAUNCH((fill_kernel<1, T>), dim3(blocks_for(n)), dim3(kBlock), 0, stream, to, value, n);
  }
}

// The loop without one of its dimensions.
inline Loop<2> without(const Loop<2>& loop, int dimension) {
  Loop<2> rest = loop;
  rest.elements /= loop.size[dimension];
  --rest.rank;
  for (int d = dimension; d < rest.rank; ++d) {
    rest.size[d] = loop.size[d + 1];
    for (int k = 0; k < 2; ++k) rest.stride[k][d] = loop.stride[k][d + 1];
  }
  return rest;
}

// Copies from any strides to any strides.
template <class T>
void copy_strided(T* to, const T* from, const Loop<2>& loop, void* stream) {
  if (loop.elements == 0) return;
  const std::int64_t step = loop.inner_stride(kFrom);
  if (loop.inner_stride(kTo) == 1 && (step == 0 || step == 1)) {
    const bool fit = packs_fit<2>(loop, kPack<T>, {to, from}, {sizeof(T), sizeof(T)});
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      const Parts parts(loop, kN);
      TRIVET_LAUNCH((copy_packs_kernel<kN, T>), dim3(blocks_for(parts.items)), dim3(kBlock), 0, stream, to, from, loop,
                    parts, step);
    };
    return fit ? launch(Size<kPack<T>>()) : launch(Size<1>());
  }
  for (int d = 0; loop.inner_stride(kTo) == 1 && d + 1 < loop.rank; ++d) {
    if (loop.stride[kFrom][d] != 1) continue;
    const int inner = loop.rank - 1;
    const std::int64_t rows = loop.size[d];
    const std::int64_t columns = loop.size[inner];
    const Tiles tiles{
        rows, columns, loop.stride[kTo][d], step, (columns + kTile - 1) / kTile, (rows + kTile - 1) / kTile};
    const Loop<2> outer = without(without(loop, inner), d);
    TRIVET_LAUNCH((copy_tiles_kernel<T>), dim3(blocks_for(outer.elements * tiles.across * tiles.down, 1)), dim3(kBlock),
                  0, stream, to, from, outer, tiles);
    return;
  }
  TRIVET_LAUNCH((copy_elements_kernel<T>), dim3(blocks_for(loop.elements)), dim3(kBlock), 0, stream, to, from, loop);
}

// A number as the element of a dtype, in the low bytes. The op's shape rule has checked that it is representable.
inline std::uint64_t element_bits(DType type, double value) {
  switch (type) {
    case DType::f32:
      return __builtin_bit_cast(std::uint32_t, static_cast<float>(value));
    case DType::f64:
      return __builtin_bit_cast(std::uint64_t, value);
    case DType::bf16:
      return from_f32<BFloat16>(static_cast<float>(value)).bits;
    case DType::f16:
      return from_f32<Float16>(static_cast<float>(value)).bits;
    case DType::boolean:
      return value != 0 ? 1 : 0;
    default:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
  }
}

}  // namespace trivet::kernels::cuda
