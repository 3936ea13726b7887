#include "trivet/data/augment.h"

#include <gtest/gtest.h>

#include "tests/data/samples.h"

namespace trivet {
namespace {

using testing::random_images;

std::vector<std::uint8_t> augmented(const ImageData& data, const AugmentDraw& draw) {
  std::vector<std::uint8_t> out(data.sample_elements(), 77);
  std::vector<std::byte> scratch;
  augment_image(data, draw, data.sample(0, scratch), out.data());
  return out;
}

TEST(Augment, IsDefinedPixelByPixel) {
  for (const std::int64_t channels : {1, 3}) {
    const ImageData data = random_images(1, 5, 4, channels);
    const std::vector<std::uint8_t> pixels = testing::pixels_of(data);
    for (std::int64_t dy = -6; dy <= 6; ++dy) {
      for (std::int64_t dx = -6; dx <= 6; ++dx) {
        for (const bool flip : {false, true}) {
          std::vector<std::uint8_t> expected;
          for (std::int64_t y = 0; y < 5; ++y) {
            for (std::int64_t x = 0; x < 4; ++x) {
              const std::int64_t sy = y + dy;
              const std::int64_t sx = (flip ? 3 - x : x) + dx;
              const bool inside = sy >= 0 && sy < 5 && sx >= 0 && sx < 4;
              for (std::int64_t c = 0; c < channels; ++c) {
                expected.push_back(inside ? pixels[static_cast<std::size_t>((sy * 4 + sx) * channels + c)]
                                          : std::uint8_t{0});
              }
            }
          }
          EXPECT_EQ(augmented(data, {dy, dx, flip}), expected) << dy << " " << dx << " " << flip;
        }
      }
    }
  }
}

TEST(Augment, DrawsEveryCropAndFlipEquallyOften) {
  const AugmentConfig config{2, true};
  std::map<std::tuple<std::int64_t, std::int64_t, bool>, double> times;
  for (std::int64_t sample = 0; sample < 50000; ++sample) {
    const AugmentDraw draw = draw_augmentation(config, 3, 1, sample);
    times[{draw.dy, draw.dx, draw.flip}] += 1;
  }
  ASSERT_EQ(times.size(), 50u);
  double chi_square = 0;
  for (const auto& [place, t] : times) {
    EXPECT_LE(std::abs(std::get<0>(place)), 2);
    EXPECT_LE(std::abs(std::get<1>(place)), 2);
    chi_square += (t - 1000.0) * (t - 1000.0) / 1000.0;
  }
  EXPECT_LT(chi_square, 110.0);  // 49 degrees of freedom: 1e-6 lies above 108
}

TEST(Augment, IsAFunctionOfSeedEpochAndSample) {
  const AugmentConfig config{1000, true};
  const AugmentDraw draw = draw_augmentation(config, 1, 2, 3);
  EXPECT_EQ(draw_augmentation(config, 1, 2, 3), draw);
  EXPECT_NE(draw_augmentation(config, 2, 2, 3), draw);
  EXPECT_NE(draw_augmentation(config, 1, 3, 3), draw);
  EXPECT_NE(draw_augmentation(config, 1, 2, 4), draw);
}

TEST(Augment, CropsTheSameWithAndWithoutFlips) {
  for (std::int64_t sample = 0; sample < 100; ++sample) {
    AugmentDraw with = draw_augmentation({4, true}, 1, 1, sample);
    with.flip = false;
    EXPECT_EQ(with, draw_augmentation({4, false}, 1, 1, sample));
  }
}

TEST(Augment, DoesNothingUnlessAsked) {
  for (std::int64_t sample = 0; sample < 100; ++sample) {
    EXPECT_EQ(draw_augmentation({}, 1, 1, sample), AugmentDraw{});
  }
}

}  // namespace
}  // namespace trivet
