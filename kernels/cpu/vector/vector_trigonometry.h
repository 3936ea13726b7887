// Trigonometric functions in float32 and their inverses, in the manner of vector_math.h. Relative error below 3e-7
// (measured over the whole range against float64).
//
// sin, cos and tan are functions of a reduced argument: x = quadrant * pi / 2 + r with |r| <= pi / 4. reduce_quadrant()
// is right up to kReducible and vectorises; beyond, reduce_huge() multiplies with as many bits of 2 / pi as it takes
// (Payne and Hanek, "Radian reduction for trigonometric functions", 1983).
#pragma once

#include "kernels/cpu/vector/vector_math.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

#define TRIVET_INLINE [[gnu::always_inline]] inline

struct Reduced {
  std::uint32_t quadrant;  // modulo 4
  float r;
};

inline constexpr float kReducible = 1048576.0f;

// In double, with pi / 2 in two parts: the first has 31 bits, so its product with the quadrant's number is exact.
TRIVET_INLINE Reduced reduce_quadrant(float x) {
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  constexpr double kHalfPiHigh = 0x1.921fb544p+0;
  constexpr double kHalfPiLow = 0x1.0b4611a626331p-34;
  constexpr double kRound = 6755399441055744.0;  // adding it rounds to an integer, which then stands in the low bits
  const double wide = static_cast<double>(x);
  const double shifted = wide * kTwoOverPi + kRound;
  const double n = shifted - kRound;
  const double r = (wide - n * kHalfPiHigh) - n * kHalfPiLow;
  return {static_cast<std::uint32_t>(__builtin_bit_cast(std::uint64_t, shifted)), static_cast<float>(r)};
}

// For finite |x| above kReducible. With |x| = m 2^e, the bits of 2 / pi that give multiples of 4 are left out, and the
// 96 bits from there on are taken. The error is below 2^-62 of a quarter turn, where m has used up 24 bits and the
// multiple of pi / 2 that is nearest to any float32 another 30.
TRIVET_INLINE Reduced reduce_huge(float x) {
  // A word of zeros stands before the point.
  constexpr std::uint32_t kTwoOverPi[] = {0,           0xa2f9836eu, 0x4e441529u, 0xfc2757d1u,
                                          0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu};
  const std::uint32_t bits = detail::to_bits(x);
  const std::uint64_t m = (bits & 0x007fffffu) | 0x00800000u;
  const std::int32_t e = static_cast<std::int32_t>((bits >> 23) & 0xffu) - 150;
  const std::int32_t first = e + 30;  // the bit of weight 2^(1 - e), counted from the first word's highest one
  const std::int32_t word = first / 32;
  const int shift = first % 32;
  std::uint64_t part[3];
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t two = (std::uint64_t{kTwoOverPi[word + i]} << 32) | kTwoOverPi[word + i + 1];
    part[i] = (two << shift) >> 32;
  }
  // |x| 2 / pi modulo 4, in units of 2^-62.
  const std::uint64_t turn = ((m * part[0]) << 32) + m * part[1] + ((m * part[2]) >> 32);
  const std::uint64_t quadrant = (turn + (std::uint64_t{1} << 61)) >> 62;
  const auto rest = static_cast<std::int64_t>(turn - (quadrant << 62));
  const float r = static_cast<float>(static_cast<double>(rest) * (0x1.921fb54442d18p+0 * 0x1p-62));
  const auto positive = static_cast<std::uint32_t>(quadrant);
  return (bits >> 31) != 0 ? Reduced{0u - positive, -r} : Reduced{positive, r};
}

namespace detail {

// For |r| <= pi / 4.
TRIVET_INLINE float sin_near_0(float r) {
  const float z = r * r;
  float p = -0.0001951521845f;
  p = p * z + 0.008332160302f;
  p = p * z - 0.1666665524f;
  return p * (z * r) + r;
}

TRIVET_INLINE float cos_near_0(float r) {
  const float z = r * r;
  float p = 2.443308222e-05f;
  p = p * z - 0.001388731529f;
  p = p * z + 0.04166664556f;
  return p * (z * z) + (1.0f - 0.5f * z);
}

// The part of pi / 2 that its float leaves out.
inline constexpr float kHalfPi = 1.57079637f;
inline constexpr float kHalfPiRest = -4.37113883e-8f;

// asin for x with |x| <= 1/2, given x^2.
TRIVET_INLINE float asin_near_0(float x, float square) {
  float p = 0.04216630757f;
  p = p * square + 0.0241795145f;
  p = p * square + 0.04547037557f;
  p = p * square + 0.07495297492f;
  p = p * square + 0.166667521f;
  return p * (square * x) + x;
}

}  // namespace detail

TRIVET_INLINE float sin_of(Reduced a) {
  const float y = (a.quadrant & 1u) != 0 ? detail::cos_near_0(a.r) : detail::sin_near_0(a.r);
  return detail::from_bits(detail::to_bits(y) ^ ((a.quadrant & 2u) << 30));
}

TRIVET_INLINE float cos_of(Reduced a) { return sin_of({a.quadrant + 1u, a.r}); }

TRIVET_INLINE float tan_of(Reduced a) {
  const float z = a.r * a.r;
  float p = 0.009387658909f;
  p = p * z + 0.003116164356f;
  p = p * z + 0.02443244122f;
  p = p * z + 0.05341064557f;
  p = p * z + 0.1333880723f;
  p = p * z + 0.3333315551f;
  const float y = p * (z * a.r) + a.r;
  return (a.quadrant & 1u) != 0 ? -1.0f / y : y;
}

// Near 1: asin(x) = pi / 2 - 2 asin(sqrt((1 - x) / 2)).
TRIVET_INLINE float asin_f32(float x) {
  const float magnitude = abs_f32(x);
  const bool near_1 = magnitude > 0.5f;
  const float square = near_1 ? 0.5f * (1.0f - magnitude) : magnitude * magnitude;
  const float p = detail::asin_near_0(near_1 ? __builtin_sqrtf(square) : magnitude, square);
  return copysign_f32(near_1 ? (detail::kHalfPi - 2.0f * p) + detail::kHalfPiRest : p, x);
}

TRIVET_INLINE float acos_f32(float x) {
  const float magnitude = abs_f32(x);
  const bool near_1 = magnitude > 0.5f;
  const float square = near_1 ? 0.5f * (1.0f - magnitude) : magnitude * magnitude;
  const float p = detail::asin_near_0(near_1 ? __builtin_sqrtf(square) : x, square);
  const float middle = (detail::kHalfPi - p) + detail::kHalfPiRest;
  const float end = x > 0.0f ? 2.0f * p : (2.0f * detail::kHalfPi - 2.0f * p) + 2.0f * detail::kHalfPiRest;
  return near_1 ? end : middle;
}

// atan(x) = base + atan(t) with |t| <= tan(pi / 8): t is x, (x - 1) / (x + 1) or -1 / x.
TRIVET_INLINE float atan_f32(float x) {
  const float magnitude = abs_f32(x);
  const bool large = magnitude > 2.41421356f;
  const bool middle = magnitude > 0.414213562f;
  const float above = large ? -1.0f : (middle ? magnitude - 1.0f : magnitude);
  const float below = large ? magnitude : (middle ? magnitude + 1.0f : 1.0f);
  const float turns = large ? 1.0f : (middle ? 0.5f : 0.0f);
  const float t = above / below;
  const float z = t * t;
  float p = 0.0805323422f;
  p = p * z - 0.1387753785f;
  p = p * z + 0.1997769773f;
  p = p * z - 0.3333294988f;
  const float y = p * (z * t) + t;
  return copysign_f32(turns * detail::kHalfPi + (turns * detail::kHalfPiRest + y), x);
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
