#include "trivet/data/normalization.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/data/samples.h"
#include "tests/formats/test_files.h"
#include "trivet/data/split.h"

namespace trivet {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::first_indices;
using testing::random_images;

TEST(Normalization, IsMeanAndDeviationOfEachChannel) {
  const ImageData data = random_images(20, 3, 5, 3);
  const std::vector<std::uint8_t> pixels = testing::pixels_of(data);
  const Normalization n = compute_normalization(data, first_indices(20));
  ASSERT_EQ(n.mean.size(), 3u);
  for (std::size_t c = 0; c < 3; ++c) {
    double mean = 0;
    for (std::size_t i = c; i < pixels.size(); i += 3) mean += pixels[i] / 300.0;
    double variance = 0;
    for (std::size_t i = c; i < pixels.size(); i += 3) variance += std::pow(pixels[i] - mean, 2) / 300.0;
    EXPECT_NEAR(n.mean[c], mean, 1e-9);
    EXPECT_NEAR(n.stddev[c], std::sqrt(variance), 1e-9);
  }
}

TEST(Normalization, LearnsNothingFromTheValidationSplit) {
  ImageData data = random_images(50, 4, 4, 2);
  const Split split = split_indices(50, 0.3, 5);
  const Normalization before = compute_normalization(data, split.train);
  std::vector<std::uint8_t> pixels = testing::pixels_of(data);
  for (const std::int64_t i : split.validation) std::fill_n(pixels.begin() + i * 32, 32, std::uint8_t{255});
  testing::set_pixels(data, pixels);
  EXPECT_EQ(compute_normalization(data, split.train), before);
  EXPECT_NE(compute_normalization(data, first_indices(50)), before);
}

TEST(Normalization, IsTheSameToTheLastBitInAnyOrder) {
  const ImageData data = random_images(200, 3, 3, 1);
  const auto indices = first_indices(200);
  const Normalization n = compute_normalization(data, indices);
  for (std::int64_t epoch = 0; epoch < 10; ++epoch) {
    EXPECT_EQ(compute_normalization(data, shuffled(indices, 1, epoch)), n);
  }
}

TEST(Normalization, TakesAConstantChannelToZero) {
  ImageData data = random_images(4, 2, 2, 1);
  testing::set_pixels(data, std::vector<std::uint8_t>(16, 9));
  const Normalization n = compute_normalization(data, first_indices(4));
  EXPECT_EQ(n.stddev[0], 1.0);
  EXPECT_EQ(n.table()[9], 0.0f);
}

TEST(Normalization, TabulatesEveryValue) {
  const Normalization n{{10.0, 100.0}, {2.0, 50.0}};
  const std::vector<float> table = n.table();
  ASSERT_EQ(table.size(), 512u);
  EXPECT_EQ(table[0], -5.0f);
  EXPECT_EQ(table[255], 122.5f);
  EXPECT_EQ(table[256], -2.0f);
  EXPECT_EQ(table[256 + 150], 1.0f);
  const std::vector<float> unit = Normalization::unit(1).table();
  EXPECT_EQ(unit[0], 0.0f);
  EXPECT_EQ(unit[255], 1.0f);
  EXPECT_EQ(unit[51], 0.2f);
}

TEST(Normalization, ComesBackFromJsonToTheLastBit) {
  const Normalization n = compute_normalization(random_images(7, 3, 3, 3), first_indices(7));
  EXPECT_EQ(json::parse(json(n).dump()).get<Normalization>(), n);
}

TEST(Normalization, RefusesJsonThatCannotBeUsed) {
  for (const char* text :
       {"{}", "[]", "null", R"({"mean":[1]})", R"({"mean":[],"stddev":[]})", R"({"mean":[1,2],"stddev":[1]})",
        R"({"mean":[1],"stddev":[0]})", R"({"mean":[1],"stddev":[-1]})", R"({"mean":[1],"stddev":["1"]})",
        R"({"mean":[null],"stddev":[1]})", R"({"mean":1,"stddev":[1]})"}) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::checkpoint, {"normalization"}, [&] { json::parse(text).get<Normalization>(); });
  }
}

TEST(Normalization, RefusesNoSamplesAndIndicesOutOfRange) {
  const ImageData data = random_images(4, 2, 2, 1);
  expect_error(ErrorCode::data, {"no samples"}, [&] { compute_normalization(data, {}); });
  for (const std::int64_t index : {std::int64_t{-1}, std::int64_t{4}}) {
    expect_error(ErrorCode::data, {"out of range"}, [&] { compute_normalization(data, std::span(&index, 1)); });
  }
}

}  // namespace
}  // namespace trivet
