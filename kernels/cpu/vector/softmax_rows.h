// Parts of softmax that its kernels and those of the losses share.
#pragma once

#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/storage.h"
#include "kernels/cpu/vector/stream.h"
#include "kernels/cpu/vector/vector_math.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// e^x for x <= 0 (right up to 88), which saves a third of exp_f32. NaN stays; results below the normal range are 0.
[[gnu::always_inline]] inline float exp_nonpositive(float x) {
  using namespace detail;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.38830429e-3f;
  p = p * r + 8.366540644e-3f;
  p = p * r + 4.166719177e-2f;
  p = p * r + 0.1666654347f;
  p = p * r + 0.4999999818f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The integer stands in the low bits of the sum; all others of kRound leave on the left.
  const float e = p * from_bits((to_bits(shifted) << 23) + 0x3f800000u);
  return x < -87.3f ? 0.0f : e;
}

// The largest element that is not NaN; -inf if there is none.
template <class T>
[[gnu::always_inline]] inline float largest(const T* x, std::int64_t n) {
  const std::int64_t half = n / 2;
  float a = -detail::kInfinity;
  float b = a;
#pragma omp simd reduction(max : a, b)
  for (std::int64_t i = 0; i < half; ++i) {
    const float first = to_f32(x[i]);
    const float second = to_f32(x[i + half]);
    a = first > a ? first : a;
    b = second > b ? second : b;
  }
  if (2 * half < n && to_f32(x[n - 1]) > a) a = to_f32(x[n - 1]);
  return a > b ? a : b;
}

// Elements of a row between two requests to read ahead.
inline constexpr std::int64_t kAheadBlock = 256;

// The sum of f(i) for i in [0, n), where f has an exponential and may write element i. Meanwhile as much is read of
// what lies `ahead` bytes behind the row `x`, if that is not 0: the memory would be idle otherwise.
template <class T, class F>
[[gnu::always_inline]] inline float exponential_sum(const T* x, std::int64_t n, std::int64_t ahead, const F& f) {
  float sum = 0;
  for (std::int64_t begin = 0; begin < n; begin += kAheadBlock) {
    const std::int64_t count = n - begin < kAheadBlock ? n - begin : kAheadBlock;
    if (ahead != 0) read_ahead(x + begin, ahead, count * static_cast<std::int64_t>(sizeof(T)));
    sum += row_costly_sum(count, [&](std::int64_t i) { return f(begin + i); });
  }
  return sum;
}

// Short rows are padded to a length that the compiler knows, logits with -inf, whose exponential is 0: such loops have
// no tails, which would take most of the time.
template <int kLength>
struct PaddedRow {
  float v[kLength];

  template <class T>
  [[gnu::always_inline]] PaddedRow(const T* x, std::int64_t n, float padding) {
#pragma omp simd
    for (int c = 0; c < kLength; ++c) v[c] = c < n ? to_f32(x[c]) : padding;
  }
  template <class T>
  [[gnu::always_inline]] void store(T* y, std::int64_t n) const {
#pragma omp simd
    for (int c = 0; c < kLength; ++c) {
      if (c < n) y[c] = from_f32<T>(v[c]);
    }
  }
  [[gnu::always_inline]] float max() const {
    float a = -detail::kInfinity;
#pragma omp simd reduction(max : a)
    for (int c = 0; c < kLength; ++c) a = v[c] > a ? v[c] : a;
    return a;
  }
  // The sum of f of each element and that of another row.
  template <class F>
  [[gnu::always_inline]] float sum(const PaddedRow& other, const F& f) const {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int c = 0; c < kLength; ++c) total += f(v[c], other.v[c]);
    return total;
  }
  // Replaces each element by f of it and that of another row.
  template <class F>
  [[gnu::always_inline]] void combine(const PaddedRow& other, const F& f) {
#pragma omp simd
    for (int c = 0; c < kLength; ++c) v[c] = f(v[c], other.v[c]);
  }
  // Replaces each element by f of it, and gives the sum of the new ones.
  template <class F>
  [[gnu::always_inline]] float map(const F& f) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < kLength; ++c) {
      v[c] = f(v[c]);
      sum += v[c];
    }
    return sum;
  }
};

template <int kLength>
struct RowLength {
  static constexpr int value = kLength;
};

// Calls f(RowLength<n>) with the length that rows of n elements are padded to, 0 if they are not short.
template <class F>
[[gnu::always_inline]] inline void with_row_length(std::int64_t n, const F& f) {
  if (n <= 16) return f(RowLength<16>());
  if (n <= 32) return f(RowLength<32>());
  if (n <= 48) return f(RowLength<48>());
  if (n <= 64) return f(RowLength<64>());
  f(RowLength<0>());
}

inline std::int64_t softmax_row_grain(std::int64_t columns) {
  return columns >= 4096 ? 1 : 4096 / (columns > 0 ? columns : 1);
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
