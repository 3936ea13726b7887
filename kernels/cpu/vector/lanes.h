// Explicit vectors, where the compiler does not make them of a loop or does not keep them in registers. Expressions are
// written once, for many lanes or one: Many and One say how they read, write and hold their operands.
#pragma once

#include <cstdint>

#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/storage.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kVectorLanes = 8;
#else
inline constexpr int kVectorLanes = 4;
#endif

#define TRIVET_INLINE [[gnu::always_inline]] inline

struct Many {
  static constexpr int kLanes = kVectorLanes;
  typedef float Float __attribute__((vector_size(kVectorLanes * 4)));
  typedef std::int32_t Integer __attribute__((vector_size(kVectorLanes * 4)));
  typedef std::uint32_t Word __attribute__((vector_size(kVectorLanes * 4)));
  typedef std::uint16_t HalfWord __attribute__((vector_size(kVectorLanes * 2)));

  TRIVET_INLINE static Float load(const float* x) {
    Float v;
    __builtin_memcpy(&v, x, sizeof(v));
    return v;
  }
  TRIVET_INLINE static Float load(const BFloat16* x) {
    HalfWord v;
    __builtin_memcpy(&v, x, sizeof(v));
    return __builtin_bit_cast(Float, __builtin_convertvector(v, Word) << 16);
  }
  TRIVET_INLINE static Integer load(const std::int32_t* x) {
    Integer v;
    __builtin_memcpy(&v, x, sizeof(v));
    return v;
  }
  TRIVET_INLINE static void store(float* y, Float v) { __builtin_memcpy(y, &v, sizeof(v)); }
  TRIVET_INLINE static void store(std::int32_t* y, Integer v) { __builtin_memcpy(y, &v, sizeof(v)); }
  // As FromF32<BFloat16> rounds.
  TRIVET_INLINE static void store(BFloat16* y, Float v) {
    const Word bits = __builtin_bit_cast(Word, v);
    const Word rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
    const Word chosen = v != v ? Word{} + 0x7fc00000U : rounded;
    const HalfWord half = __builtin_convertvector(chosen >> 16, HalfWord);
    __builtin_memcpy(y, &half, sizeof(half));
  }
};

struct One {
  static constexpr int kLanes = 1;
  using Float = float;
  using Integer = std::int32_t;

  template <class T>
  TRIVET_INLINE static float load(const T* x) {
    return to_f32(*x);
  }
  TRIVET_INLINE static std::int32_t load(const std::int32_t* x) { return *x; }
  template <class T>
  TRIVET_INLINE static void store(T* y, float v) {
    *y = from_f32<T>(v);
  }
  TRIVET_INLINE static void store(std::int32_t* y, std::int32_t v) { *y = v; }
};

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

// Calls f(lanes, count, i) for consecutive parts of [0, n), each of `count` times Lanes::kLanes items from i on: as few
// and as large ones as stay in registers.
template <class F>
TRIVET_INLINE void for_each_block(std::int64_t n, const F& f) {
  constexpr std::int64_t kLanes = Many::kLanes;
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) f(Many(), Count<4>(), i);
  for (; i + kLanes <= n; i += kLanes) f(Many(), Count<1>(), i);
  for (; i < n; ++i) f(One(), Count<1>(), i);
}

// ---- sums over a row ----

typedef float FourFloats __attribute__((vector_size(16)));
TRIVET_INLINE float sum_of_lanes(FourFloats v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#if defined(__AVX2__)
typedef float EightFloats __attribute__((vector_size(32)));
TRIVET_INLINE float sum_of_lanes(EightFloats v) {
  return sum_of_lanes(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
#endif
#if defined(__AVX512F__)
typedef float SixteenFloats __attribute__((vector_size(64)));
TRIVET_INLINE float sum_of_lanes(SixteenFloats v) {
  return sum_of_lanes(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif

template <class V>
struct Pair {
  V first;
  V second;
};
template <class V>
Pair(V, V) -> Pair<V>;

// Sums of the two values of f(lanes, i), a Pair, for i in [0, n). For short rows, of which the compiler makes little.
// The order of the additions depends on the length and the instruction set only.
template <class F>
TRIVET_INLINE TwoSums lane_sums(std::int64_t n, const F& f) {
  constexpr std::int64_t kLanes = Many::kLanes;
  Pair<Many::Float> even{};
  Pair<Many::Float> odd{};
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const auto a = f(Many(), i);
    const auto b = f(Many(), i + kLanes);
    even.first += a.first;
    even.second += a.second;
    odd.first += b.first;
    odd.second += b.second;
  }
  if (i + kLanes <= n) {
    const auto a = f(Many(), i);
    even.first += a.first;
    even.second += a.second;
    i += kLanes;
  }
  TwoSums rest{0, 0};
  for (; i < n; ++i) {
    const auto a = f(One(), i);
    rest.first += a.first;
    rest.second += a.second;
  }
  return {sum_of_lanes(even.first + odd.first) + rest.first, sum_of_lanes(even.second + odd.second) + rest.second};
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
