// Matrix products for kernels that do other arithmetic between them (recurrent layers, attention), on the calling
// thread, with operands in its caches. An element of c is one chain of multiply-adds over the depth, so its bits do not
// depend on how rows are cut.
#pragma once

#include <cstdint>

#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// A tile of kTileRows x kTileVectors sums and the operands of one step fill the vector registers.
#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
inline constexpr int kTileRows = 8;
#elif defined(__AVX__)
inline constexpr int kLanes = 8;
inline constexpr int kTileRows = 4;
#else
inline constexpr int kLanes = 4;
inline constexpr int kTileRows = 4;
#endif
inline constexpr int kTileVectors = 3;
inline constexpr int kPanelColumns = kTileVectors * kLanes;

constexpr std::int64_t round_up_to_lanes(std::int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

namespace detail {

using Lanes [[gnu::vector_size(4 * kLanes), gnu::aligned(4), gnu::may_alias]] = float;

// Where sums begin: c itself, or another matrix; with stride 0 one row for all.
struct Begin {
  const float* data;
  std::int64_t stride;
};

// c (kRows, kVectors vectors) = begin + a b.
template <int kRows, int kVectors, bool kDepthFirst>
void product_tile(std::int64_t depth, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, Begin begin,
                  float* c, std::int64_t ldc) {
  Lanes sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = *reinterpret_cast<const Lanes*>(begin.data + r * begin.stride + v * kLanes);
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Lanes y[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) y[v] = *reinterpret_cast<const Lanes*>(b + k * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float x = kDepthFirst ? a[k * lda + r] : a[r * lda + k];
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[r][v] += x * y[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Lanes*>(c + r * ldc + v * kLanes) = sum[r][v];
  }
}

template <int kVectors, bool kDepthFirst>
void product_rows(std::int64_t rows, std::int64_t depth, const float* a, std::int64_t lda, const float* b,
                  std::int64_t ldb, Begin begin, float* c, std::int64_t ldc) {
  switch (rows) {
    case 1:
      return product_tile<1, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
    case 2:
      return product_tile<2, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
    case 3:
      return product_tile<3, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
    case 4:
      return product_tile<4, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
#if defined(__AVX512F__)
    case 5:
      return product_tile<5, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
    case 6:
      return product_tile<6, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
    case 7:
      return product_tile<7, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
    case 8:
      return product_tile<8, kVectors, kDepthFirst>(depth, a, lda, b, ldb, begin, c, ldc);
#endif
    default:
      return;
  }
}

template <bool kDepthFirst>
void product_block(std::int64_t rows, std::int64_t vectors, std::int64_t depth, const float* a, std::int64_t lda,
                   const float* b, std::int64_t ldb, Begin begin, float* c, std::int64_t ldc) {
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const std::int64_t step = tiles == 0 ? 1 : (rows + tiles - 1) / tiles;
  for (std::int64_t r = 0; r < rows; r += step) {
    const std::int64_t n = rows - r < step ? rows - r : step;
    const float* part = a + (kDepthFirst ? r : r * lda);
    const Begin from{begin.data + r * begin.stride, begin.stride};
    if (vectors == 3) {
      product_rows<3, kDepthFirst>(n, depth, part, lda, b, ldb, from, c + r * ldc, ldc);
    } else if (vectors == 2) {
      product_rows<2, kDepthFirst>(n, depth, part, lda, b, ldb, from, c + r * ldc, ldc);
    } else {
      product_rows<1, kDepthFirst>(n, depth, part, lda, b, ldb, from, c + r * ldc, ldc);
    }
  }
}

}  // namespace detail

// A matrix (depth, columns) as panels of kPanelColumns columns, the last one narrower: the values that a tile reads
// lie behind each other. Columns are filled up with zeros to whole vectors. Its size in floats:
constexpr std::int64_t panels_size(std::int64_t depth, std::int64_t columns) {
  return depth * round_up_to_lanes(columns);
}

// c (rows, columns) = begin + a (rows, depth) b, b in panels. Rows of c and begin are filled up to whole vectors as
// well.
inline void multiply_panels_from(detail::Begin begin, std::int64_t rows, std::int64_t depth, std::int64_t columns,
                                 const float* a, std::int64_t lda, const float* b, float* c, std::int64_t ldc) {
  for (std::int64_t first = 0; first < columns; first += kPanelColumns) {
    const std::int64_t left = round_up_to_lanes(columns) - first;
    const std::int64_t width = left < kPanelColumns ? left : kPanelColumns;
    detail::product_block<false>(rows, width / kLanes, depth, a, lda, b + first * depth, width,
                                 {begin.data + first, begin.stride}, c + first, ldc);
  }
}

// c += a b.
inline void multiply_panels(std::int64_t rows, std::int64_t depth, std::int64_t columns, const float* a,
                            std::int64_t lda, const float* b, float* c, std::int64_t ldc) {
  multiply_panels_from({c, ldc}, rows, depth, columns, a, lda, b, c, ldc);
}

// c (rows, columns) = begin + a b, b row-major with ldb floats from row to row; columns is a number of whole vectors.
// kDepthFirst: a is stored transposed, a(r, k) = a[k * lda + r].
template <bool kDepthFirst = false>
inline void multiply_from(detail::Begin begin, std::int64_t rows, std::int64_t depth, std::int64_t columns,
                          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                          std::int64_t ldc) {
  const std::int64_t vectors = columns / kLanes;
  std::int64_t first = 0;
  for (std::int64_t tiles = (vectors + kTileVectors - 1) / kTileVectors; tiles > 0; --tiles) {
    const std::int64_t width = (vectors - first + tiles - 1) / tiles;
    const detail::Begin from{begin.data + first * kLanes, begin.stride};
    detail::product_block<kDepthFirst>(rows, width, depth, a, lda, b + first * kLanes, ldb, from, c + first * kLanes,
                                       ldc);
    first += width;
  }
}

// c += a b.
template <bool kDepthFirst = false>
inline void multiply(std::int64_t rows, std::int64_t depth, std::int64_t columns, const float* a, std::int64_t lda,
                     const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  multiply_from<kDepthFirst>({c, ldc}, rows, depth, columns, a, lda, b, ldb, c, ldc);
}

// Rows between memory of type T and scratch in f32.

template <class T>
inline void load_row(const T* from, std::int64_t n, float* to) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) to[i] = to_f32(from[i]);
}

template <class T>
inline void store_row(const float* from, std::int64_t n, T* to) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) to[i] = from_f32<T>(from[i]);
}

template <class T>
inline void zero_row(T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = T{};
}

// Null where the node does not have the input.
template <class T>
const T* optional_input(const KernelArgs& args, std::size_t i) {
  return i < args.in.size() ? static_cast<const T*>(args.in[i].data) : nullptr;
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
