#include "trivet/data/split.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/data/samples.h"
#include "tests/formats/test_files.h"
#include "trivet/data/random.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::first_indices;

TEST(Split, IsDisjointAndComplete) {
  for (const std::int64_t n : {0, 1, 2, 3, 10, 33, 1000, 1025}) {
    for (const double share : {0.0, 0.001, 0.1, 0.5, 0.999}) {
      for (const std::uint64_t seed : {0, 1, 12345}) {
        const Split split = split_indices(n, share, seed);
        std::vector<std::int64_t> all = split.train;
        all.insert(all.end(), split.validation.begin(), split.validation.end());
        EXPECT_TRUE(std::is_sorted(split.train.begin(), split.train.end()));
        EXPECT_TRUE(std::is_sorted(split.validation.begin(), split.validation.end()));
        std::sort(all.begin(), all.end());
        EXPECT_EQ(all, first_indices(n)) << n << " " << share << " " << seed;
      }
    }
  }
}

TEST(Split, HoldsOutTheShare) {
  const auto held_out = [](std::int64_t n, double share) { return split_indices(n, share, 1).validation.size(); };
  EXPECT_EQ(held_out(60000, 0.1), 6000u);
  EXPECT_EQ(held_out(105, 0.1), 10u);
  EXPECT_EQ(held_out(100, 0.29), 29u);  // 0.29 * 100 is 28.999999999999996 in double
  EXPECT_EQ(held_out(100, 0.0), 0u);
  EXPECT_EQ(held_out(5, 0.01), 1u);
  EXPECT_EQ(held_out(2, 0.99), 1u);
  EXPECT_EQ(held_out(1, 0.5), 0u);
  EXPECT_EQ(held_out(0, 0.5), 0u);
  EXPECT_EQ(held_out(3, std::nextafter(1.0, 0.0)), 2u);
}

TEST(Split, DependsOnTheSeedAlone) {
  const Split a = split_indices(1000, 0.2, 7);
  EXPECT_EQ(split_indices(1000, 0.2, 7).validation, a.validation);
  EXPECT_NE(split_indices(1000, 0.2, 8).validation, a.validation);
}

TEST(Split, HoldsOutEverySampleEquallyOften) {
  constexpr std::int64_t kSamples = 20;
  constexpr std::uint64_t kSeeds = 4000;
  std::vector<double> times(kSamples, 0.0);
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const std::int64_t i : split_indices(kSamples, 0.25, seed).validation) times[static_cast<std::size_t>(i)] += 1;
  }
  // Binomial with mean 1000 and deviation 27.4.
  for (const double t : times) EXPECT_NEAR(t, 1000.0, 6 * 27.4);
}

TEST(Split, RefusesAShareOutOfRange) {
  for (const double share : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()}) {
    expect_error(ErrorCode::data, {"[0, 1)"}, [&] { split_indices(10, share, 0); });
  }
  expect_error(ErrorCode::data, {"-1 samples"}, [&] { split_indices(-1, 0.5, 0); });
}

TEST(Shuffle, IsAPermutationOfItsInput) {
  for (const std::size_t n : {0, 1, 2, 33, 1025}) {
    std::vector<std::int64_t> indices;
    for (std::size_t i = 0; i < n; ++i) indices.push_back(static_cast<std::int64_t>(3 * i + 5));
    std::vector<std::int64_t> order = shuffled(indices, 3, 4);
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, indices);
  }
}

TEST(Shuffle, IsAFunctionOfSeedAndEpoch) {
  const auto indices = first_indices(500);
  std::set<std::vector<std::int64_t>> orders;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
      const auto order = shuffled(indices, seed, epoch);
      EXPECT_EQ(shuffled(indices, seed, epoch), order);
      EXPECT_TRUE(orders.insert(order).second) << "seed " << seed << " epoch " << epoch;
    }
  }
  EXPECT_EQ(orders.count(indices), 0u);
}

TEST(Shuffle, GivesEveryOrderOfFourEquallyOften) {
  std::map<std::vector<std::int64_t>, double> times;
  constexpr int kEpochs = 24000;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) times[shuffled(first_indices(4), 5, epoch)] += 1;
  ASSERT_EQ(times.size(), 24u);
  double chi_square = 0;
  for (const auto& [order, t] : times) chi_square += (t - 1000.0) * (t - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 70.0);  // 23 degrees of freedom: 1e-6 lies above 68
}

TEST(Balanced, VisitsClassesEquallyOftenAndTheSamplesOfAClassToo) {
  // 60 samples of class 0, 5 of class 2, 2 of class 7.
  std::vector<std::int64_t> indices;
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 67; ++i) {
    indices.push_back(1000 + i);
    labels.push_back(i < 60 ? 0 : i < 65 ? 2 : 7);
  }
  const std::vector<std::int64_t> order = balanced(indices, labels, 3, 1);
  ASSERT_EQ(order.size(), 67u);
  std::map<std::int64_t, int> visits;
  std::map<std::int32_t, int> of_class;
  for (const std::int64_t sample : order) {
    ++visits[sample];
    ++of_class[labels[static_cast<std::size_t>(sample - 1000)]];
  }
  for (const auto& [label, n] : of_class) EXPECT_TRUE(n == 22 || n == 23) << label << ": " << n;
  for (const auto& [sample, n] : visits) {
    const std::int32_t label = labels[static_cast<std::size_t>(sample - 1000)];
    const int fewest = label == 0 ? 1 : label == 2 ? 4 : 11;  // 22 or 23 visits of 60, 5, 2 samples
    EXPECT_TRUE(n == fewest || n == fewest + 1) << sample << ": " << n;
  }
  EXPECT_EQ(visits.size(), static_cast<std::size_t>(of_class[0] + 7));
}

TEST(Balanced, IsAPureFunctionOfSeedAndEpoch) {
  const std::vector<std::int64_t> indices = {4, 8, 15, 16, 23, 42};
  const std::vector<std::int32_t> labels = {0, 0, 0, 0, 1, 1};
  const auto order = balanced(indices, labels, 9, 2);
  EXPECT_EQ(balanced(indices, labels, 9, 2), order);
  std::set<std::vector<std::int64_t>> orders;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) orders.insert(balanced(indices, labels, 9, epoch));
  EXPECT_GT(orders.size(), 15u);
  EXPECT_TRUE(balanced({}, {}, 1, 1).empty());
  EXPECT_THROW(balanced(indices, {}, 1, 1), Error);
}

TEST(DrawSequence, IsUniformBelowAnyBound) {
  for (const std::uint64_t bound : {2, 3, 7, 10, 100}) {
    std::vector<double> times(bound, 0.0);
    DrawSequence draws(data_key(1, DataDraw::shuffle, bound));
    const double expected = 2000.0;
    for (std::uint64_t i = 0; i < bound * 2000; ++i) {
      const std::uint64_t value = draws.below(bound);
      ASSERT_LT(value, bound);
      times[value] += 1;
    }
    double chi_square = 0;
    for (const double t : times) chi_square += (t - expected) * (t - expected) / expected;
    const double degrees = static_cast<double>(bound - 1);
    EXPECT_LT(chi_square, degrees + 6 * std::sqrt(2 * degrees) + 12) << bound;
  }
}

TEST(DrawSequence, IsUnbiasedForABoundNearTheRange) {
  // 2^64 values do not divide into 3 * 2^62: a remainder would give the lowest third twice as often, a scaled draw
  // without rejection the multiples of 3.
  const std::uint64_t bound = std::uint64_t{3} << 62;
  std::array<double, 3> thirds{};
  std::array<double, 3> residues{};
  DrawSequence draws(99);
  for (int i = 0; i < 30000; ++i) {
    const std::uint64_t value = draws.below(bound);
    ASSERT_LT(value, bound);
    thirds[value >> 62] += 1;
    residues[value % 3] += 1;
  }
  // Binomial with deviation 82.
  for (const double t : thirds) EXPECT_NEAR(t, 10000.0, 6 * 82.0);
  for (const double t : residues) EXPECT_NEAR(t, 10000.0, 6 * 82.0);
  EXPECT_EQ(draws.below(1), 0u);
}

TEST(DrawSequence, HasUnrelatedStreams) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (std::uint64_t epoch = 0; epoch < 10; ++epoch) {
      for (const DataDraw purpose : {DataDraw::split, DataDraw::shuffle, DataDraw::augment, DataDraw::balance}) {
        for (std::uint64_t stream = 0; stream < 10; ++stream) {
          DrawSequence draws(data_key(seed, purpose, epoch), stream);
          for (int i = 0; i < 3; ++i) EXPECT_TRUE(seen.insert(draws.next()).second);
        }
      }
    }
  }
}

}  // namespace
}  // namespace trivet
