// Reductions over one row of floats. The order of the additions depends on the length and the instruction set only.
#pragma once

#include <cstdint>

namespace trivet::kernels::cpu::TRIVET_ISA {

// From this length on, sums use four accumulators: one chain of additions would wait for itself.
inline constexpr std::int64_t kLongRow = 256;

struct TwoSums {
  float first;
  float second;
};

// The largest element that is not NaN; -inf if there is none.
[[gnu::always_inline]] inline float row_max(const float* x, std::int64_t n) {
  const std::int64_t half = n / 2;
  float a = -__builtin_inff();
  float b = a;
#pragma omp simd reduction(max : a, b)
  for (std::int64_t i = 0; i < half; ++i) {
    a = x[i] > a ? x[i] : a;
    b = x[i + half] > b ? x[i + half] : b;
  }
  if (2 * half < n && x[n - 1] > a) a = x[n - 1];
  return a > b ? a : b;
}

// Sum of f(i) for i in [0, n), where f is costly enough to hide the additions. f may write element i.
template <class F>
[[gnu::always_inline]] inline float row_costly_sum(std::int64_t n, const F& f) {
  float a = 0;
#pragma omp simd reduction(+ : a)
  for (std::int64_t i = 0; i < n; ++i) a += f(i);
  return a;
}

// Sum of f(i) for i in [0, n).
template <class F>
[[gnu::always_inline]] inline float row_sum(std::int64_t n, const F& f) {
  if (n < kLongRow) return row_costly_sum(n, f);
  float a = 0;
  const std::int64_t quarter = n / 4;
  float b = 0;
  float c = 0;
  float d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
  for (std::int64_t i = 0; i < quarter; ++i) {
    a += f(i);
    b += f(i + quarter);
    c += f(i + 2 * quarter);
    d += f(i + 3 * quarter);
  }
  for (std::int64_t i = 4 * quarter; i < n; ++i) a += f(i);
  return (a + b) + (c + d);
}

// Sums of the two values of f(i), a TwoSums.
template <class F>
[[gnu::always_inline]] inline TwoSums row_sums(std::int64_t n, const F& f) {
  const std::int64_t half = n < kLongRow ? 0 : n / 2;
  float a0 = 0;
  float a1 = 0;
  float b0 = 0;
  float b1 = 0;
#pragma omp simd reduction(+ : a0, a1, b0, b1)
  for (std::int64_t i = 0; i < half; ++i) {
    const TwoSums a = f(i);
    const TwoSums b = f(i + half);
    a0 += a.first;
    a1 += a.second;
    b0 += b.first;
    b1 += b.second;
  }
#pragma omp simd reduction(+ : a0, a1)
  for (std::int64_t i = 2 * half; i < n; ++i) {
    const TwoSums a = f(i);
    a0 += a.first;
    a1 += a.second;
  }
  return {a0 + b0, a1 + b1};
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
