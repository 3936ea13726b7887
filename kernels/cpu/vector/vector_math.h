// Elementary functions in float32, branch-free so that loops over them vectorise, and always inlined so that each
// instruction set has its own copy. Relative error below 3e-7 over the whole range (measured over all of it against
// float64); infinities, NaN and overflow as in C, results below the normal range may be rounded to 0.
//
// Method: argument reduction (Cody and Waite, "Software Manual for the Elementary Functions", 1980) and polynomials
// fitted by ourselves to the least maximal relative error (Lawson's iterated weights).
#pragma once

#include <cstdint>

namespace trivet::kernels::cpu::TRIVET_ISA {

#define TRIVET_INLINE [[gnu::always_inline]] inline

namespace detail {

inline constexpr float kInfinity = __builtin_inff();
inline constexpr float kNan = __builtin_nanf("");
inline constexpr float kLog2E = 1.44269504088896341f;
// ln 2 in two parts; the first has few bits, so its product with a small integer is exact.
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
// Adding it rounds a small float to an integer, which then stands in the low bits.
inline constexpr float kRound = 12582912.0f;

TRIVET_INLINE float from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
TRIVET_INLINE std::uint32_t to_bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }

// 2^n for -126 <= n <= 127.
TRIVET_INLINE float power_of_two(std::int32_t n) { return from_bits((static_cast<std::uint32_t>(n) + 127u) << 23); }

// x = n ln 2 + r with |r| <= ln 2 / 2; `expm1` is e^r - 1.
struct ExpParts {
  std::int32_t n;
  float expm1;
};

TRIVET_INLINE ExpParts exp_parts(float x) {
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float q = 1.38830429e-3f;
  q = q * r + 8.366540644e-3f;
  q = q * r + 4.166719177e-2f;
  q = q * r + 0.1666654347f;
  q = q * r + 0.4999999818f;
  return {static_cast<std::int32_t>(to_bits(shifted) - to_bits(kRound)), q * (r * r) + r};
}

// e^x - 1 for |x| <= 40 (and NaN).
TRIVET_INLINE float expm1_bounded(float x) {
  const ExpParts p = exp_parts(x);
  const float scale = power_of_two(p.n);
  return scale * p.expm1 + (scale - 1.0f);
}

// -log(erfc(x)) for x >= 0: x times a polynomial. Above 3.95, where erf is 1 in float32, it grows linearly.
TRIVET_INLINE float minus_log_erfc(float x) {
  const float t = x > 3.95f ? 3.95f : x;
  float g = -9.252829923e-6f;
  g = g * t + 1.176102312e-4f;
  g = g * t - 6.327260972e-4f;
  g = g * t + 1.666827183e-3f;
  g = g * t - 1.60201305e-4f;
  g = g * t - 1.915316295e-2f;
  g = g * t + 0.102777854f;
  g = g * t + 0.6366193799f;
  g = g * t + 1.128379172f;
  return g * x;
}

}  // namespace detail

TRIVET_INLINE float abs_f32(float x) { return detail::from_bits(detail::to_bits(x) & 0x7fffffffu); }

TRIVET_INLINE float copysign_f32(float magnitude, float sign) {
  return detail::from_bits((detail::to_bits(magnitude) & 0x7fffffffu) | (detail::to_bits(sign) & 0x80000000u));
}

// NaN if either is; the order of the comparison keeps a NaN in x.
TRIVET_INLINE float max_f32(float x, float y) { return (x > y || x != x) ? x : y; }
TRIVET_INLINE float min_f32(float x, float y) { return (x < y || x != x) ? x : y; }

// Limits x to [low, high]; NaN stays.
TRIVET_INLINE float clamp_f32(float x, float low, float high) {
  const float y = x < low ? low : x;
  return y > high ? high : y;
}

TRIVET_INLINE float exp_f32(float x) {
  const detail::ExpParts p = detail::exp_parts(clamp_f32(x, -105.0f, 89.0f));
  // In two steps, because 2^n alone overflows at the upper end and is not normal at the lower one.
  const std::int32_t half = p.n >> 1;
  return ((p.expm1 + 1.0f) * detail::power_of_two(half)) * detail::power_of_two(p.n - half);
}

TRIVET_INLINE float log_f32(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const std::uint32_t bits = detail::to_bits(tiny ? x * 8388608.0f : x);
  // Takes the exponent relative to sqrt(1/2), so that the mantissa lies between sqrt(1/2) and sqrt(2).
  const std::uint32_t offset = bits - 0x3f3504f3u;
  const std::int32_t exponent = static_cast<std::int32_t>(offset) >> 23;
  const float f = detail::from_bits((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float n = static_cast<float>(exponent) - (tiny ? 23.0f : 0.0f);
  float p = -7.634067577e-2f;
  p = p * f + 0.1276132576f;
  p = p * f - 0.131602269f;
  p = p * f + 0.1420179697f;
  p = p * f - 0.1662335681f;
  p = p * f + 0.2000122516f;
  p = p * f - 0.2500082101f;
  p = p * f + 0.3333333172f;
  const float square = f * f;
  const float tail = p * (square * f) + n * detail::kLn2Low;
  float y = (tail - 0.5f * square) + f + n * detail::kLn2High;
  y = x == detail::kInfinity ? x : y;
  y = x == 0.0f ? -detail::kInfinity : y;
  return x >= 0.0f ? y : detail::kNan;
}

// With t = e^(2|x|) - 1, tanh |x| = t / (t + 2): exact to the last bits near 0 too.
TRIVET_INLINE float tanh_f32(float x) {
  const float t = detail::expm1_bounded(clamp_f32(2.0f * abs_f32(x), 0.0f, 20.0f));
  return copysign_f32(t / (t + 2.0f), x);
}

TRIVET_INLINE float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

TRIVET_INLINE float erf_f32(float x) {
  const float y = clamp_f32(detail::minus_log_erfc(abs_f32(x)), 0.0f, 40.0f);
  return copysign_f32(-detail::expm1_bounded(-y), x);
}

// The standard normal distribution function, (1 + erf(x / sqrt 2)) / 2. Absolute error below 1e-7.
TRIVET_INLINE float normal_cdf_f32(float x) {
  const float half_erfc = 0.5f * exp_f32(-detail::minus_log_erfc(abs_f32(x) * 0.707106781186547524f));
  return x > 0.0f ? 1.0f - half_erfc : half_erfc;
}

TRIVET_INLINE float normal_density_f32(float x) { return 0.398942280401432678f * exp_f32(-0.5f * x * x); }

// x^y as C's powf: 1 for y = 0 and for x = 1 even if the other is NaN, NaN for x < 0 unless y is an integer. Inner
// steps in double, because an error of log(x) is multiplied by y.
TRIVET_INLINE float pow_f32(float x, float y) {
  const float magnitude = abs_f32(x);
  const bool tiny = magnitude < 1.17549435e-38f;
  const std::uint32_t offset = detail::to_bits(tiny ? magnitude * 8388608.0f : magnitude) - 0x3f3504f3u;
  const std::int32_t exponent = (static_cast<std::int32_t>(offset) >> 23) - (tiny ? 23 : 0);
  const double m = static_cast<double>(detail::from_bits((offset & 0x007fffffu) + 0x3f3504f3u));
  // log m = 2 atanh(s) with s = (m - 1) / (m + 1), |s| <= 0.172: the series' next term is below 1e-12.
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double series = 1.0 / 13.0;
  series = series * z + 1.0 / 11.0;
  series = series * z + 1.0 / 9.0;
  series = series * z + 1.0 / 7.0;
  series = series * z + 1.0 / 5.0;
  series = series * z + 1.0 / 3.0;
  series = series * z + 1.0;
  constexpr double kLn2 = 0.693147180559945309;
  double log_x = static_cast<double>(exponent) * kLn2 + 2.0 * s * series;
  log_x = magnitude == 0.0f ? -static_cast<double>(detail::kInfinity) : log_x;
  log_x = magnitude == detail::kInfinity ? static_cast<double>(detail::kInfinity) : log_x;

  double t = static_cast<double>(y) * log_x;
  t = t < -110.0 ? -110.0 : t;
  t = t > 90.0 ? 90.0 : t;
  constexpr double kRound = 6755399441055744.0;
  const double shifted = t * 1.44269504088896341 + kRound;
  const double r = t - (shifted - kRound) * kLn2;
  double e = 1.0 / 3628800.0;
  e = e * r + 1.0 / 362880.0;
  e = e * r + 1.0 / 40320.0;
  e = e * r + 1.0 / 5040.0;
  e = e * r + 1.0 / 720.0;
  e = e * r + 1.0 / 120.0;
  e = e * r + 1.0 / 24.0;
  e = e * r + 1.0 / 6.0;
  e = e * r + 0.5;
  e = e * r + 1.0;
  e = e * r + 1.0;
  const std::uint64_t n = __builtin_bit_cast(std::uint64_t, shifted) - __builtin_bit_cast(std::uint64_t, kRound);
  float result = static_cast<float>(e * __builtin_bit_cast(double, (n + 1023u) << 52));
  result = magnitude == 1.0f ? 1.0f : result;  // also for an infinite y
  result = (magnitude != magnitude) ? x : result;

  // Infinities count as even integers. Arithmetic on 0 and 1 keeps the loop free of branches.
  const float half = 0.5f * y;
  const std::uint32_t integer = __builtin_truncf(y) == y;
  const std::uint32_t odd = integer & static_cast<std::uint32_t>(__builtin_truncf(half) != half);
  result = detail::from_bits(detail::to_bits(result) | (detail::to_bits(x) & (odd << 31)));
  const std::uint32_t undefined = static_cast<std::uint32_t>(x < 0.0f) & (integer ^ 1u) &
                                  static_cast<std::uint32_t>(magnitude != detail::kInfinity);
  result = undefined != 0 ? detail::kNan : result;
  result = y != y ? y : result;
  result = x == 1.0f ? 1.0f : result;
  return y == 0.0f ? 1.0f : result;
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
