// Whole vector registers as values, for reductions that the compiler does not keep in registers by itself.
#pragma once

#include <cstdint>

#include "kernels/cpu/vector/storage.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t IntVector __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t BitVector __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t HalfVector __attribute__((vector_size(kLanes * 2)));

#if defined(__AVX512F__)
inline constexpr IntVector kIota = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(__AVX2__)
inline constexpr IntVector kIota = {0, 1, 2, 3, 4, 5, 6, 7};
#else
inline constexpr IntVector kIota = {0, 1, 2, 3};
#endif

// kLanes elements from any address.
[[gnu::always_inline]] inline Vector load(const float* x) {
  Vector v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}
[[gnu::always_inline]] inline Vector load(const BFloat16* x) {
  HalfVector v;
  __builtin_memcpy(&v, x, sizeof(v));
  return __builtin_bit_cast(Vector, __builtin_convertvector(v, BitVector) << 16);
}

// One element of all lanes: f joins lanes that are further and further apart halves of the register.
template <class V, class F>
[[gnu::always_inline]] inline auto join_lanes(V v, const F& f) {
  for (int half = kLanes / 2; half > 0; half /= 2) v = f(v, __builtin_shuffle(v, kIota ^ half));
  return v[0];
}

// kRows = kLanes registers to one: lane r holds the joined lanes of v[r]. Each round joins halves of two registers in
// one step, so all rows take kLanes - 1 steps. Overwrites v.
template <int kRows, class V, class F>
[[gnu::always_inline]] inline V join_rows(V* v, const F& f) {
  static_assert(kRows == kLanes);
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
    const IntVector own = (kIota & half) != 0 ? kIota + kLanes : kIota;
#pragma GCC unroll 8
    for (int r = 0; r < half; ++r) {
      v[r] = f(__builtin_shuffle(v[r], v[r + half], own), __builtin_shuffle(v[r], v[r + half], own ^ half));
    }
  }
  return v[0];
}

// Rows up to this length are taken kLanes at a time: the ends of so many rows are joined together by join_rows.
inline constexpr std::int64_t kShortRow = 256;

// Calls f(first row, pointer, rows) for groups of kLanes rows of n <= kShortRow elements, of which the last may have
// fewer. Behind the pointer kLanes rows and one register more can be read: the end of x is copied for that. `x` has
// `all` rows, of which [begin, end) are wanted.
template <class T, class F>
[[gnu::always_inline]] inline void for_each_group(const T* x, std::int64_t all, std::int64_t n, std::int64_t begin,
                                                  std::int64_t end, const F& f) {
  for (std::int64_t r = begin; r < end; r += kLanes) {
    const std::int64_t rows = end - r < kLanes ? end - r : kLanes;
    if ((all - r - kLanes) * n >= kLanes) {
      f(r, x + r * n, rows);
    } else {
      T copy[kLanes * (kShortRow + 1)] = {};
      __builtin_memcpy(copy, x + r * n, static_cast<std::size_t>(rows * n) * sizeof(T));
      f(r, static_cast<const T*>(copy), rows);
    }
  }
}

// totals[r] = step(r, ... step(r, start, first register of row r, 0) ..., last register, its place) for kLanes rows of
// n elements. Lanes behind a row's end keep what they have.
template <class V, class T, class Step>
[[gnu::always_inline]] inline void fold_rows(V* totals, V start, const T* x, std::int64_t n, const Step& step) {
  const std::int64_t whole = (n - 1) / kLanes * kLanes;
  const IntVector present = kIota < static_cast<std::int32_t>(n - whole);
  if (whole == 0) {
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) totals[r] = present ? step(r, start, load(x + r * n), std::int64_t{0}) : start;
    return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) {
    V total = start;
    for (std::int64_t i = 0; i < whole; i += kLanes) total = step(r, total, load(x + r * n + i), i);
    totals[r] = present ? step(r, total, load(x + r * n + whole), whole) : total;
  }
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
