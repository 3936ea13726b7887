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
inline constexpr float kLn2 = 0.693147180559945309f;
inline constexpr float kLog2E = 1.44269504088896341f;
// ln 2 in two parts; the first has few bits, so its product with a small integer is exact.
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
// Adding it rounds a small float to an integer, which then stands in the low bits.
inline constexpr float kRound = 12582912.0f;

TRIVET_INLINE float from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
TRIVET_INLINE std::uint32_t to_bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }

// The same as ?:, without branches: the compiler copies what lies between branches on one condition for each outcome.
TRIVET_INLINE float select(bool condition, float if_true, float if_false) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return from_bits((to_bits(if_true) & mask) | (to_bits(if_false) & ~mask));
}

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

// An unevaluated sum; `low` is at most half of the last bit of `high`.
struct TwoFloats {
  float high;
  float low;
};

// a * b exactly.
TRIVET_INLINE TwoFloats two_product(float a, float b) {
  const float p = a * b;
#ifdef __FMA__
  return {p, __builtin_fmaf(a, b, -p)};
#else
  const float a_high = from_bits(to_bits(a) & 0xfffff000u);
  const float b_high = from_bits(to_bits(b) & 0xfffff000u);
  const float a_low = a - a_high;
  const float b_low = b - b_high;
  return {p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low};
#endif
}

// log2(x) for x >= 0 with a relative error below 3e-9: log2(m) = 2 / ln 2 * atanh(s), s = (m - 1) / (m + 1), where the
// leading term is kept in two floats and the rest of the series, at most 1 % of it, in one.
TRIVET_INLINE TwoFloats log2_two_floats(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const std::uint32_t offset = to_bits(x * select(tiny, 8388608.0f, 1.0f)) - 0x3f3504f3u;
  const float n = static_cast<float>(static_cast<std::int32_t>(offset) >> 23) - select(tiny, 23.0f, 0.0f);
  const float m = from_bits((offset & 0x007fffffu) + 0x3f3504f3u);
  const float f = m - 1.0f;
  const float d = m + 1.0f;
  const float d_low = m - (d - 1.0f);
  const float inverse = 1.0f / d;
  const float s = f * inverse;
  const TwoFloats back = two_product(s, d);
  const float s_low = (((f - back.high) - back.low) - s * d_low) * inverse;

  const float z = s * s;
  float q = 0.2623081803f;
  q = q * z + 0.3205989003f;
  q = q * z + 0.4121985734f;
  q = q * z + 0.5770780444f;
  q = q * z + 0.961796701f;
  constexpr float kScale = 2.885390043f;
  constexpr float kScaleLow = 3.851926067e-8f;
  const TwoFloats lead = two_product(kScale, s);
  const float tail = q * (z * s) + (lead.low + (kScale * s_low + kScaleLow * s));
  // n is 0 or larger than the leading term, so the sum's rounding error comes out exactly.
  const float sum = n + lead.high;
  const float rest = (lead.high - (sum - n)) + tail;
  float high = sum + rest;
  const float low = rest - (high - sum);
  high = select(x == 0.0f, -kInfinity, high);
  high = select(x == kInfinity, x, high);
  return {high, low};
}

// 2^(high + low) for |high| <= 200 and a small `low`.
TRIVET_INLINE float exp2_of_sum(float high, float low) {
  const float shifted = high + kRound;
  const float r = (high - (shifted - kRound)) + low;
  float p = 0.0001535315387f;
  p = p * r + 0.001339913229f;
  p = p * r + 0.009618439712f;
  p = p * r + 0.05550331995f;
  p = p * r + 0.2402264774f;
  p = p * r + 0.6931471825f;
  const std::int32_t n = static_cast<std::int32_t>(to_bits(shifted) - to_bits(kRound));
  const std::int32_t half = n >> 1;
  return ((p * r + 1.0f) * power_of_two(half)) * power_of_two(n - half);
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

// To the nearest integer, ties to even. Numbers from 2^23 on are integers.
TRIVET_INLINE float round_f32(float x) {
#if defined(__SSE4_1__) || defined(__aarch64__)
  return __builtin_rintf(x);  // one instruction
#else
  const float magnitude = abs_f32(x);
  const float rounded = (magnitude + 8388608.0f) - 8388608.0f;
  return copysign_f32(magnitude < 8388608.0f ? rounded : magnitude, x);
#endif
}

TRIVET_INLINE float floor_f32(float x) {
  const float rounded = round_f32(x);
  return rounded > x ? rounded - 1.0f : rounded;
}

TRIVET_INLINE float ceil_f32(float x) { return -floor_f32(-x); }

namespace detail {

// e^x 2^shift for a small `shift`; x is limited to [-105, 90].
TRIVET_INLINE float scaled_exp(float x, std::int32_t shift) {
  const ExpParts p = exp_parts(clamp_f32(x, -105.0f, 90.0f));
  // In two steps, because 2^n alone overflows at the upper end and is not normal at the lower one.
  const std::int32_t n = p.n + shift;
  const std::int32_t half = n >> 1;
  return ((p.expm1 + 1.0f) * power_of_two(half)) * power_of_two(n - half);
}

}  // namespace detail

TRIVET_INLINE float exp_f32(float x) { return detail::scaled_exp(x, 0); }

// e^x - 1 for x <= 40.
TRIVET_INLINE float expm1_f32(float x) { return detail::expm1_bounded(x < -40.0f ? -40.0f : x); }

namespace detail {

// log(x) for positive x in the normal range.
TRIVET_INLINE float log_normal_range(float x) {
  // Takes the exponent relative to sqrt(1/2), so that the mantissa lies between sqrt(1/2) and sqrt(2).
  const std::uint32_t offset = to_bits(x) - 0x3f3504f3u;
  const float n = static_cast<float>(static_cast<std::int32_t>(offset) >> 23);
  const float f = from_bits((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = -7.634067577e-2f;
  p = p * f + 0.1276132576f;
  p = p * f - 0.131602269f;
  p = p * f + 0.1420179697f;
  p = p * f - 0.1662335681f;
  p = p * f + 0.2000122516f;
  p = p * f - 0.2500082101f;
  p = p * f + 0.3333333172f;
  const float square = f * f;
  const float tail = p * (square * f) + n * kLn2Low;
  return (tail - 0.5f * square) + f + n * kLn2High;
}

}  // namespace detail

TRIVET_INLINE float log_f32(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float lifted = x * detail::select(tiny, 8388608.0f, 1.0f);
  float y = detail::log_normal_range(lifted) - detail::select(tiny, 15.9423851528787f, 0.0f);
  y = detail::select(x == detail::kInfinity, x, y);
  y = detail::select(x == 0.0f, -detail::kInfinity, y);
  return detail::select(x >= 0.0f, y, detail::kNan);
}

// log(1 + x): the logarithm of the rounded sum and what the rounding lost.
TRIVET_INLINE float log1p_f32(float x) {
  const float u = 1.0f + x;
  const float lost = (x - (u - 1.0f)) / u;
  const float y = log_f32(u);
  return y + detail::select(abs_f32(y) < detail::kInfinity, lost, 0.0f);
}

// log(1 + e^x)
TRIVET_INLINE float softplus_f32(float x) {
  const float e = exp_f32(-abs_f32(x));
  const float u = 1.0f + e;
  const float lost = (e - (u - 1.0f)) / u;
  return detail::select(x > 0.0f, x, 0.0f) + (detail::log_normal_range(u) + lost);
}

// With t = e^(2|x|) - 1, tanh |x| = t / (t + 2): exact to the last bits near 0 too.
TRIVET_INLINE float tanh_f32(float x) {
  const float t = detail::expm1_bounded(clamp_f32(2.0f * abs_f32(x), 0.0f, 20.0f));
  return copysign_f32(t / (t + 2.0f), x);
}

// e^|x| / 2 is formed at once: e^|x| alone would overflow before its half does.
TRIVET_INLINE float sinh_f32(float x) {
  const float magnitude = abs_f32(x);
  const float half = detail::scaled_exp(magnitude, -1);
  const float t = detail::expm1_bounded(clamp_f32(magnitude, 0.0f, 1.0f));
  const float y = magnitude < 1.0f ? 0.5f * (t + t / (t + 1.0f)) : half - 0.25f / half;
  return copysign_f32(y, x);
}

TRIVET_INLINE float cosh_f32(float x) {
  const float half = detail::scaled_exp(abs_f32(x), -1);
  return half + 0.25f / half;
}

// log(|x| + sqrt(x^2 + 1)). Where the square could overflow, log(2 |x|).
TRIVET_INLINE float asinh_f32(float x) {
  const float magnitude = abs_f32(x);
  const bool large = magnitude > 1e9f;
  const float square = magnitude * magnitude;
  const float excess = magnitude + square / (1.0f + __builtin_sqrtf(square + 1.0f));
  return copysign_f32(log1p_f32(detail::select(large, magnitude, excess)) + detail::select(large, detail::kLn2, 0.0f),
                      x);
}

TRIVET_INLINE float acosh_f32(float x) {
  const bool large = x > 1e9f;
  const float t = x - 1.0f;
  const float excess = t + __builtin_sqrtf(t * (t + 2.0f));
  const float y = log1p_f32(detail::select(large, x, excess)) + detail::select(large, detail::kLn2, 0.0f);
  return detail::select(x >= 1.0f, y, detail::kNan);
}

TRIVET_INLINE float atanh_f32(float x) {
  const float magnitude = abs_f32(x);
  return copysign_f32(0.5f * log1p_f32(2.0f * magnitude / (1.0f - magnitude)), x);
}

TRIVET_INLINE float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

TRIVET_INLINE float erf_f32(float x) {
  const float y = clamp_f32(detail::minus_log_erfc(abs_f32(x)), 0.0f, 40.0f);
  return copysign_f32(-detail::expm1_bounded(-y), x);
}

namespace detail {

// 2^x / 2 for -120 <= x <= 0, with a relative error below 2e-7.
TRIVET_INLINE float half_exp2(float x) {
  const float shifted = x + kRound;
  const float r = x - (shifted - kRound);
  float p = 6.638179044e-4f;
  p = p * r + 4.837827805e-3f;
  p = p * r + 2.775357241e-2f;
  p = p * r + 0.1201105881f;
  p = p * r + 0.3465734829f;
  p = p * r + 0.5f;
  // The integer stands in the low bits; all others of kRound leave on the left.
  return from_bits(to_bits(p) + (to_bits(shifted) << 23));
}

// -log2(erfc(x / sqrt 2)) for x >= 0: x times a polynomial, as minus_log_erfc. From 24 on it stays the same.
TRIVET_INLINE float minus_log2_two_tails(float x) {
  const float t = x > 5.586143571f ? 5.586143571f : x;
  float g = -5.899485498e-7f;
  g = g * t + 1.060473108e-5f;
  g = g * t - 8.068360633e-5f;
  g = g * t + 3.005904139e-4f;
  g = g * t - 4.085691766e-5f;
  g = g * t - 6.908043301e-3f;
  g = g * t + 5.242387155e-2f;
  g = g * t + 0.4592238112f;
  g = g * t + 1.151104104f;
  return g * (x > 24.0f ? 24.0f : x);
}

}  // namespace detail

// The standard normal distribution function, (1 + erf(x / sqrt 2)) / 2, for a number x. Absolute error below 1e-7.
TRIVET_INLINE float normal_cdf_f32(float x) {
  const float tail = detail::half_exp2(-detail::minus_log2_two_tails(abs_f32(x)));
  return x > 0.0f ? 1.0f - tail : tail;
}

// The density of the same; 0 is given as 3e-37.
TRIVET_INLINE float normal_density_f32(float x) {
  const float exponent = (-0.5f * detail::kLog2E * x) * x;
  return 0.797884560802865356f * detail::half_exp2(exponent < -120.0f ? -120.0f : exponent);
}

// x^y as C's powf: 1 for y = 0 and for x = 1 even if the other is NaN, NaN for x < 0 unless y is an integer. An error
// of log2(x) is multiplied by y, so the logarithm and the product are sums of two floats (Dekker, "A floating-point
// technique for extending the available precision", 1971).
TRIVET_INLINE float pow_f32(float x, float y) {
  const float magnitude = abs_f32(x);
  const detail::TwoFloats log = detail::log2_two_floats(magnitude);
  const detail::TwoFloats product = detail::two_product(y, log.high);
  const bool bounded = abs_f32(product.high) <= 200.0f;  // beyond, the result is 0 or infinity
  const float high = detail::select(bounded, product.high, copysign_f32(200.0f, product.high));
  float result = detail::exp2_of_sum(high, detail::select(bounded, product.low + y * log.low, 0.0f));
  result = detail::select(magnitude == 1.0f, 1.0f, result);  // also for an infinite y

  // Infinities count as even integers. Arithmetic on 0 and 1 keeps the loop free of branches.
  const float half = 0.5f * y;
  const std::uint32_t integer = round_f32(y) == y;
  const std::uint32_t odd = integer & static_cast<std::uint32_t>(round_f32(half) != half);
  result = detail::from_bits(detail::to_bits(result) | (detail::to_bits(x) & (odd << 31)));
  const std::uint32_t undefined = static_cast<std::uint32_t>(x < 0.0f) & (integer ^ 1u) &
                                  static_cast<std::uint32_t>(magnitude != detail::kInfinity);
  result = detail::select(undefined != 0, detail::kNan, result);
  result = detail::select((x != x) | (y != y), detail::kNan, result);
  return detail::select((x == 1.0f) | (y == 0.0f), 1.0f, result);
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
