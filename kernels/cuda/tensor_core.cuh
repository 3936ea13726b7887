// Products of small matrices by one warp: of 16-bit floats on the tensor cores (mma.sync, m16n8k16), of f32 with fused
// multiply-adds. Operands lie in shared memory, sums in registers. In the simulator the lanes exchange their operands.
//
// A warp holds a matrix of 16 rows and 8 kTiles columns as c[kTiles][4]: lane l has, of tile n, the elements
// (l / 4, 8 n + 2 (l % 4)), its right neighbour, and the same two of row l / 4 + 8.
#pragma once

#include <cstring>

#include "kernels/cuda/numbers.cuh"

namespace trivet::kernels::cuda {

// The running thread's place in a fragment.
struct FragmentPlace {
  int row = static_cast<int>(threadIdx.x) % kWarp / 4;
  int column = static_cast<int>(threadIdx.x) % 4 * 2;
};

#if defined(__CUDACC__)

template <class T>
TRIVET_DEVICE std::uint32_t load_pair(const T* from) {
  static_assert(sizeof(T) == 2);
  return *reinterpret_cast<const std::uint32_t*>(from);
}

// c (16, 8) += a (16, 16) b (16, 8), one tile.
TRIVET_DEVICE void multiply_fragments(BFloat16, float (&c)[4], const std::uint32_t (&a)[4],
                                      const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
TRIVET_DEVICE void multiply_fragments(Float16, float (&c)[4], const std::uint32_t (&a)[4],
                                      const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Rows [0, 16) of eight columns, as the right operand. Lane l names row l % 16.
template <class T>
TRIVET_DEVICE void load_columns(std::uint32_t (&b)[2], const T* from, int stride) {
  const T* const row = from + static_cast<int>(threadIdx.x) % 16 * stride;
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(b[0]), "=r"(b[1])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

#else

template <class T>
std::uint32_t load_pair(const T* from) {
  static_assert(sizeof(T) == 2);
  std::uint32_t bits = 0;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

template <class T>
float half_of(std::uint32_t pair, int k) {
  T element;
  element.bits = static_cast<std::uint16_t>(k == 0 ? pair & 0xFFFFu : pair >> 16);
  return widen(element);
}

// Adds in the order of k; the hardware's order is another one.
template <class T>
void multiply_fragments(T, float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  const FragmentPlace at;
  const auto word = [](std::uint32_t low, std::uint32_t high) { return low | std::uint64_t{high} << 32; };
  float products[4] = {};
  for (int upper = 0; upper < 2; ++upper) {
    for (int k = 0; k < 4; ++k) {
      const std::uint64_t rows = __shfl_sync(kFullMask, word(a[2 * upper], a[2 * upper + 1]), at.row * 4 + k);
      const std::uint64_t left = __shfl_sync(kFullMask, std::uint64_t{b[upper]}, at.column * 4 + k);
      const std::uint64_t right = __shfl_sync(kFullMask, std::uint64_t{b[upper]}, (at.column + 1) * 4 + k);
      for (int e = 0; e < 4; ++e) {
        const auto x = static_cast<std::uint32_t>(e < 2 ? rows : rows >> 32);
        const auto y = static_cast<std::uint32_t>(e % 2 == 0 ? left : right);
        for (int i = 0; i < 2; ++i) products[e] += half_of<T>(x, i) * half_of<T>(y, i);
      }
    }
  }
  for (int e = 0; e < 4; ++e) c[e] += products[e];
}

template <class T>
void load_columns(std::uint32_t (&b)[2], const T* from, int stride) {
  const FragmentPlace at;
  for (int upper = 0; upper < 2; ++upper) {
    const T* const first = from + (8 * upper + at.column) * stride + at.row;
    b[upper] = first[0].bits | std::uint32_t{first[stride].bits} << 16;
  }
}

#endif

// The left operand: 16 rows of 16 columns.
template <class T>
TRIVET_DEVICE void load_rows(std::uint32_t (&a)[4], const T* from, int stride) {
  const FragmentPlace at;
  const T* const first = from + at.row * stride + at.column;
  a[0] = load_pair(first);
  a[1] = load_pair(first + 8 * stride);
  a[2] = load_pair(first + 8);
  a[3] = load_pair(first + 8 * stride + 8);
}

// c += a b^T: a (16, kDepth), b (8 kTiles, kDepth).
template <int kDepth, int kTiles, class T>
TRIVET_DEVICE void multiply_by_rows(float (&c)[kTiles][4], const T* a, int a_stride, const T* b, int b_stride) {
  const FragmentPlace at;
  if constexpr (sizeof(T) == 2) {
    TRIVET_UNROLL
    for (int k = 0; k < kDepth; k += 16) {
      std::uint32_t left[4];
      load_rows(left, a + k, a_stride);
      TRIVET_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        const T* const from = b + (8 * n + at.row) * b_stride + k + at.column;
        const std::uint32_t right[2] = {load_pair(from), load_pair(from + 8)};
        multiply_fragments(T{}, c[n], left, right);
      }
    }
  } else {
    TRIVET_NO_UNROLL
    for (int k = 0; k < kDepth; k += 4) {
      float left[2][4];
      load_floats(a + at.row * a_stride + k, left[0]);
      load_floats(a + (at.row + 8) * a_stride + k, left[1]);
      TRIVET_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        TRIVET_UNROLL
        for (int e = 0; e < 2; ++e) {
          float right[4];
          load_floats(b + (8 * n + at.column + e) * b_stride + k, right);
          TRIVET_UNROLL
          for (int i = 0; i < 4; ++i) {
            c[n][e] += left[0][i] * right[i];
            c[n][2 + e] += left[1][i] * right[i];
          }
        }
      }
    }
  }
}

// c += a b: a (16, kDepth), b (kDepth, 8 kTiles).
template <int kDepth, int kTiles, class T>
TRIVET_DEVICE void multiply_by_columns(float (&c)[kTiles][4], const T* a, int a_stride, const T* b, int b_stride) {
  const FragmentPlace at;
  if constexpr (sizeof(T) == 2) {
    TRIVET_UNROLL
    for (int k = 0; k < kDepth; k += 16) {
      std::uint32_t left[4];
      load_rows(left, a + k, a_stride);
      TRIVET_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        std::uint32_t right[2];
        load_columns(right, b + k * b_stride + 8 * n, b_stride);
        multiply_fragments(T{}, c[n], left, right);
      }
    }
  } else {
    TRIVET_NO_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      const float left[2] = {a[at.row * a_stride + k], a[(at.row + 8) * a_stride + k]};
      TRIVET_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        float right[2];
        load_floats(b + k * b_stride + 8 * n + at.column, right);
        TRIVET_UNROLL
        for (int e = 0; e < 4; ++e) c[n][e] += left[e / 2] * right[e % 2];
      }
    }
  }
}

}  // namespace trivet::kernels::cuda
