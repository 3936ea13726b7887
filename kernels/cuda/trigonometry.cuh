// sin, cos and tan for every float32. The device library's own functions keep an array in local memory for huge
// arguments, which our gate refuses; these do not.
#pragma once

#include "kernels/cuda/numbers.cuh"

namespace trivet::kernels::cuda {

// x = (quadrant + half_turns * 2) * pi / 2, |half_turns| <= 1 / 4: half_turns is what sinpif and cospif take.
struct Angle {
  std::uint32_t quadrant;  // modulo 4
  float half_turns;
};

// For finite |x| of 2^20 and more, as Payne and Hanek do it ("Radian reduction for trigonometric functions", 1983): of
// 2 / pi those 96 bits are taken that matter modulo 4.
TRIVET_DEVICE Angle reduce_huge_angle(float x) {
  // A word of zeros stands before the point.
  static constexpr std::uint32_t kTwoOverPi[] = {0,           0xa2f9836eu, 0x4e441529u, 0xfc2757d1u,
                                                 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu};
  const std::uint32_t bits = float_to_bits(x);
  const std::uint64_t mantissa = (bits & 0x007fffffu) | 0x00800000u;
  const int first = static_cast<int>((bits >> 23) & 0xffu) - 150 + 30;  // the bit where they begin
  const int word = first / 32;
  const int shift = first % 32;
  const auto part = [&](int i) {
    return (((std::uint64_t{kTwoOverPi[word + i]} << 32) | kTwoOverPi[word + i + 1]) << shift) >> 32;
  };
  // Quarter turns modulo 4, in units of 2^-62.
  const std::uint64_t turn = ((mantissa * part(0)) << 32) + mantissa * part(1) + ((mantissa * part(2)) >> 32);
  const std::uint64_t quadrant = (turn + (std::uint64_t{1} << 61)) >> 62;
  const auto rest = static_cast<std::int64_t>(turn - (quadrant << 62));
  const float half_turns = static_cast<float>(static_cast<double>(rest) * 0x1p-63);
  const auto positive = static_cast<std::uint32_t>(quadrant);
  return (bits >> 31) != 0 ? Angle{0u - positive, -half_turns} : Angle{positive, half_turns};
}

// Infinities and NaN give NaN.
TRIVET_DEVICE Angle reduce_angle(float x) {
  const float magnitude = fabsf(x);
  if (magnitude >= 1048576.0f && magnitude < infinity()) return reduce_huge_angle(x);
  // pi / 2 in two parts; the first has 31 bits, so its product with n is exact.
  const double wide = static_cast<double>(x);
  const double n = rint(wide * 0x1.45f306dc9c883p-1);
  const double r = (wide - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34;
  const float half_turns = static_cast<float>(r * 0.31830988618379067);
  return {magnitude < infinity() ? static_cast<std::uint32_t>(static_cast<std::int32_t>(n)) : 0u, half_turns};
}

TRIVET_DEVICE float sine(const Angle& a) {
  const float y = (a.quadrant & 1u) != 0 ? cospif(a.half_turns) : sinpif(a.half_turns);
  return (a.quadrant & 2u) != 0 ? -y : y;
}
TRIVET_DEVICE float cosine(const Angle& a) { return sine({a.quadrant + 1u, a.half_turns}); }
TRIVET_DEVICE float tangent(const Angle& a) {
  const float s = sinpif(a.half_turns);
  const float c = cospif(a.half_turns);
  return (a.quadrant & 1u) != 0 ? -c / s : s / c;
}

}  // namespace trivet::kernels::cuda
