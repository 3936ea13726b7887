// The float types of 16 bits, as storage: arithmetic is done in f32. Plain integer code, so that it vectorises for
// every instruction set and gives the same bits on every device.
#pragma once

#include <cstdint>

namespace trivet::kernels {

struct BFloat16 {
  std::uint16_t bits;
};

struct Float16 {  // IEEE 754 binary16
  std::uint16_t bits;
};

[[gnu::always_inline]] inline float to_f32(float x) { return x; }

[[gnu::always_inline]] inline float to_f32(BFloat16 x) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}

// Subnormal numbers come out of a multiplication: 2^112 moves f16's exponent bias of 15 to f32's 127. It is exact.
[[gnu::always_inline]] inline float to_f32(Float16 x) {
  const std::uint32_t magnitude = x.bits & 0x7fffU;
  const float scaled = __builtin_bit_cast(float, magnitude << 13) * 0x1p112f;
  std::uint32_t bits = __builtin_bit_cast(std::uint32_t, scaled);
  bits |= magnitude >= 0x7c00U ? 0x7f800000U : 0U;  // infinity and NaN
  return __builtin_bit_cast(float, bits | static_cast<std::uint32_t>(x.bits & 0x8000U) << 16);
}

template <class T>
struct FromF32;

template <>
struct FromF32<float> {
  [[gnu::always_inline]] static float convert(float x) { return x; }
};

// To the nearest, ties to even. Every NaN becomes the same one.
template <>
struct FromF32<BFloat16> {
  [[gnu::always_inline]] static BFloat16 convert(float x) {
    const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x);
    const std::uint32_t rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
    return {static_cast<std::uint16_t>((x != x ? 0x7fc00000U : rounded) >> 16)};
  }
};

template <>
struct FromF32<Float16> {
  [[gnu::always_inline]] static Float16 convert(float x) {
    const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x);
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    // Normal results: round the 13 bits that fall away, then move the exponent's bias. A carry out of the fraction
    // raises the exponent, up to infinity.
    const std::uint32_t normal = (magnitude + 0xfffU + ((magnitude >> 13) & 1U) - 0x38000000U) >> 13;
    // Results below 2^-14 are multiples of 2^-24, which adding 1/2 (whose last bit is 2^-24) rounds to.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    const std::uint32_t subnormal = __builtin_bit_cast(std::uint32_t, shifted) - 0x3f000000U;
    std::uint32_t half = magnitude < 0x38800000U ? subnormal : normal;
    half = magnitude >= 0x477ff000U ? 0x7c00U : half;  // from 65520 on
    half = magnitude > 0x7f800000U ? 0x7e00U : half;   // NaN
    return {static_cast<std::uint16_t>(half | sign)};
  }
};

template <class T>
[[gnu::always_inline]] inline T from_f32(float x) {
  return FromF32<T>::convert(x);
}

// To one of the two neighbours, the nearer the likelier: the expected value is x. `random` holds 16 uniform bits.
[[gnu::always_inline]] inline BFloat16 stochastic_bf16(float x, std::uint32_t random) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x);
  const bool finite = (bits & 0x7f800000U) != 0x7f800000U;
  const std::uint32_t rounded = bits + (random & 0xffffU);
  return finite ? BFloat16{static_cast<std::uint16_t>(rounded >> 16)} : FromF32<BFloat16>::convert(x);
}

}  // namespace trivet::kernels
