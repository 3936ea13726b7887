#include "kernels/math/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>

namespace trivet::math {
namespace {

using ::testing::ElementsAre;

// The known answers for philox4x32-10 that Random123 is tested with (kat_vectors of its examples).
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_THAT(philox(0, 0, 0).v, ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  constexpr std::uint64_t kOnes = ~std::uint64_t{0};
  EXPECT_THAT(philox(kOnes, kOnes, kOnes).v, ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  // Counter 243f6a88 85a308d3 13198a2e 03707344 and key a4093822 299f31d0, the digits of pi; low words first.
  EXPECT_THAT(philox(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u).v,
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Philox, ChangesWithEveryPartOfKeyAndCounter) {
  std::set<std::array<std::uint32_t, 4>> blocks;
  const auto add = [&](std::uint64_t key, std::uint64_t high, std::uint64_t low) {
    const Philox4 p = philox(key, high, low);
    return blocks.insert({p.v[0], p.v[1], p.v[2], p.v[3]}).second;
  };
  EXPECT_TRUE(add(0, 0, 0));
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t flipped = std::uint64_t{1} << bit;
    EXPECT_TRUE(add(flipped, 0, 0)) << bit;
    EXPECT_TRUE(add(0, flipped, 0)) << bit;
    EXPECT_TRUE(add(0, 0, flipped)) << bit;
  }
}

TEST(UniformFloat, IsAtLeastZeroAndBelowOne) {
  EXPECT_EQ(uniform_float(0), 0.0F);
  EXPECT_EQ(uniform_float(0xffu), 0.0F);  // the lowest 8 bits are not used
  EXPECT_EQ(uniform_float(0x100u), 0x1p-24F);
  EXPECT_EQ(uniform_float(0x80000000u), 0.5F);
  EXPECT_EQ(uniform_float(std::numeric_limits<std::uint32_t>::max()), 1.0F - 0x1p-24F);
}

TEST(UniformFloat, OfPhiloxIsSpreadEvenly) {
  constexpr int kBlocks = 1 << 16;
  constexpr int kBins = 64;
  std::array<int, kBins> bins{};
  double sum = 0;
  for (int i = 0; i < kBlocks; ++i) {
    for (const std::uint32_t bits : philox(42, 7, static_cast<std::uint64_t>(i)).v) {
      const float u = uniform_float(bits);
      ASSERT_TRUE(u >= 0.0F && u < 1.0F) << u;
      sum += static_cast<double>(u);
      ++bins[static_cast<std::size_t>(u * kBins)];
    }
  }
  constexpr double kDraws = 4.0 * kBlocks;
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  double chi_square = 0;
  for (const int count : bins) chi_square += std::pow(count - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_GT(chi_square, 24.0);  // 63 degrees of freedom: outside with a probability of about 2e-6 on each side
  EXPECT_LT(chi_square, 125.0);
}

// The mean count of bits of mix_key that change with bit `bit` of a or of b, over near and far values of both.
double changed_bits(int bit, bool of_a) {
  const std::uint64_t flipped = std::uint64_t{1} << bit;
  int changed = 0;
  int samples = 0;
  for (std::uint64_t i = 0; i < 512; ++i) {
    const Philox4 p = philox(1, 2, i);
    const bool near = i % 2 == 0;
    const std::uint64_t a = near ? i / 2 % 16 : (std::uint64_t{p.v[0]} << 32) | p.v[1];
    const std::uint64_t b = near ? i / 32 : (std::uint64_t{p.v[2]} << 32) | p.v[3];
    const std::uint64_t other = of_a ? mix_key(a ^ flipped, b) : mix_key(a, b ^ flipped);
    changed += std::popcount(mix_key(a, b) ^ other);
    ++samples;
  }
  return static_cast<double>(changed) / samples;
}

TEST(MixKey, ChangesHalfOfItsBitsWithAnyBitOfItsParts) {
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_NEAR(changed_bits(bit, true), 32.0, 2.0) << "bit " << bit << " of a";
    EXPECT_NEAR(changed_bits(bit, false), 32.0, 2.0) << "bit " << bit << " of b";
  }
}

TEST(MixKey, GivesNearPartsKeysOfTheirOwn) {
  std::set<std::uint64_t> keys;
  for (std::uint64_t a = 0; a < 64; ++a) {
    for (std::uint64_t b = 0; b < 64; ++b) EXPECT_TRUE(keys.insert(mix_key(a, b)).second) << a << ", " << b;
  }
}

// SplitMix64 started at 0 gives these first values (the reference implementation by Vigna, splitmix64.c).
TEST(MixKey, OfZeroIsTheSequenceOfSplitMix64) {
  EXPECT_EQ(mix_key(0, 0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(mix_key(0, 1), 0x6e789e6aa1b965f4u);
  EXPECT_EQ(mix_key(0, 2), 0x06c45d188009454fu);
}

}  // namespace
}  // namespace trivet::math
