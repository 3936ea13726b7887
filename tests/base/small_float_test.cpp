// Conversions of the 16-bit floats, over every value of 16 bits and against a search among them.
#include "kernels/math/small_float.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/math/philox.h"

namespace trivet::kernels {
namespace {

// The value of a binary float with a sign bit, `exponent_bits` and `fraction_bits`, from the definition (IEEE 754-2019,
// section 3.4).
double value_of(std::uint32_t bits, int exponent_bits, int fraction_bits) {
  const std::uint32_t fraction = bits & ((1U << fraction_bits) - 1);
  const int biased = static_cast<int>(bits >> fraction_bits & ((1U << exponent_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> (exponent_bits + fraction_bits) != 0 ? -1 : 1;
  if (biased == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
  if (biased == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1U << fraction_bits) + fraction, biased - bias - fraction_bits);
}

struct BFloat {
  using Type = BFloat16;
  static double value(std::uint32_t bits) { return value_of(bits, 8, 7); }
};
struct Half {
  using Type = Float16;
  static double value(std::uint32_t bits) { return value_of(bits, 5, 10); }
};

template <class F>
class SmallFloat : public ::testing::Test {};
using Formats = ::testing::Types<BFloat, Half>;
TYPED_TEST_SUITE(SmallFloat, Formats);

TYPED_TEST(SmallFloat, HasTheValueOfItsDefinition) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float found = to_f32(typename TypeParam::Type{static_cast<std::uint16_t>(bits)});
    const double expected = TypeParam::value(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(found)) << std::hex << bits;
    } else {
      ASSERT_EQ(static_cast<double>(found), expected) << std::hex << bits;
      ASSERT_EQ(std::signbit(found), std::signbit(expected)) << std::hex << bits;
    }
  }
}

TYPED_TEST(SmallFloat, ComesBackFromF32WithTheSameBits) {
  using T = typename TypeParam::Type;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float x = to_f32(T{static_cast<std::uint16_t>(bits)});
    const T back = from_f32<T>(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(to_f32(back))) << std::hex << bits;
    } else {
      ASSERT_EQ(back.bits, bits) << std::hex << bits;
    }
  }
}

// The bits of the nearest value, found by search; of two equally near ones that with an even last bit. Beyond the
// largest value, infinity from half a step on.
template <class F>
std::uint32_t nearest_bits(double x) {
  static const std::vector<double> positive = [] {
    std::vector<double> values;
    for (std::uint32_t bits = 0; std::isfinite(F::value(bits)); ++bits) values.push_back(F::value(bits));
    values.push_back(2 * values.back() - values[values.size() - 2]);  // where infinity stands
    return values;
  }();
  const double magnitude = std::abs(x);
  const auto above = std::lower_bound(positive.begin(), positive.end(), magnitude);
  auto bits = static_cast<std::uint32_t>(above - positive.begin());
  if (above == positive.end()) {
    bits = static_cast<std::uint32_t>(positive.size() - 1);
  } else if (bits > 0) {
    const double to_above = *above - magnitude, to_below = magnitude - *(above - 1);
    if (to_below < to_above || (to_below == to_above && bits % 2 == 1)) --bits;
  }
  return bits | (std::signbit(x) ? 0x8000U : 0U);
}

template <class F>
void expect_nearest(float x) {
  const std::uint32_t expected = nearest_bits<F>(static_cast<double>(x));
  ASSERT_EQ(from_f32<typename F::Type>(x).bits, expected) << std::hexfloat << x;
}

// Every value of 16 bits, every middle between two of them, and the float32 on either side of each.
TYPED_TEST(SmallFloat, RoundsToTheNearestWithTiesToEven) {
  for (std::uint32_t bits = 0; bits + 1 < 0x8000; ++bits) {
    const double low = TypeParam::value(bits), high = TypeParam::value(bits + 1);
    if (!std::isfinite(low)) break;
    const double step = low - (bits > 0 ? TypeParam::value(bits - 1) : 0);
    const double middle = std::isfinite(high) ? (low + high) / 2 : low + step / 2;
    for (const double x : {low, middle}) {
      const auto f = static_cast<float>(x);
      ASSERT_EQ(static_cast<double>(f), x);
      for (const float y : {f, std::nextafter(f, INFINITY), std::nextafter(f, -INFINITY)}) {
        expect_nearest<TypeParam>(y);
        expect_nearest<TypeParam>(-y);
      }
    }
  }
}

TYPED_TEST(SmallFloat, RoundsRandomNumbersToTheNearest) {
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const float x = std::bit_cast<float>(math::philox(3, 0, i).v[0]);
    if (!std::isnan(x)) expect_nearest<TypeParam>(x);
  }
}

TYPED_TEST(SmallFloat, OverflowsToInfinityAndKeepsNan) {
  using T = typename TypeParam::Type;
  const auto rounded = [](float x) { return to_f32(from_f32<T>(x)); };
  EXPECT_EQ(rounded(std::numeric_limits<float>::max()), INFINITY);
  EXPECT_EQ(rounded(std::numeric_limits<float>::lowest()), -INFINITY);
  EXPECT_EQ(rounded(INFINITY), INFINITY);
  EXPECT_EQ(rounded(-INFINITY), -INFINITY);
  // NaNs of every payload, among them those whose upper bits alone would be infinity.
  for (const std::uint32_t payload : {1U, 0x7fffU, 0x8000U, 0xffffU, 0x10000U, 0x3fffffU, 0x400000U, 0x7fffffU}) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(sign | 0x7f800000U | payload)))) << std::hex << payload;
    }
  }
}

TEST(StochasticBf16, TakesTheUpperNeighbourAsOftenAsXIsNearToIt) {
  for (const float x : {1.0F + 0x1p-9F, -3.141592F, 1e-39F, 6.55e33F, -0x1.01p-20F}) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    const float low = std::bit_cast<float>(bits & 0xffff0000U);
    const float high = std::bit_cast<float>((bits & 0xffff0000U) + 0x10000U);
    double sum = 0;
    for (std::uint32_t random = 0; random < 0x10000; ++random) {
      const float y = to_f32(stochastic_bf16(x, random));
      ASSERT_TRUE(y == low || y == high) << x << " becomes " << y;
      sum += static_cast<double>(y) / 0x10000;
    }
    // Exactly unbiased over all draws; the sum itself is rounded.
    EXPECT_NEAR(sum, static_cast<double>(x), 1e-12 * std::abs(static_cast<double>(x)));
  }
}

TEST(StochasticBf16, UsesTheLowerSixteenBitsOfTheDrawOnly) {
  EXPECT_EQ(stochastic_bf16(3.141592F, 0x1234U).bits, stochastic_bf16(3.141592F, 0xabcd1234U).bits);
}

TEST(StochasticBf16, LeavesWhatBf16HoldsExactlyAlone) {
  for (const float x : {0.0F, -0.0F, 1.0F, -2.5F, INFINITY, -INFINITY}) {
    for (const std::uint32_t random : {0U, 1U, 0x8000U, 0xffffU}) {
      const float y = to_f32(stochastic_bf16(x, random));
      EXPECT_EQ(y, x);
      EXPECT_EQ(std::signbit(y), std::signbit(x));
    }
  }
  EXPECT_TRUE(std::isnan(to_f32(stochastic_bf16(std::numeric_limits<float>::quiet_NaN(), 0xffffU))));
  EXPECT_TRUE(std::isnan(to_f32(stochastic_bf16(std::bit_cast<float>(0x7f800001U), 0xffffU))));
}

}  // namespace
}  // namespace trivet::kernels
