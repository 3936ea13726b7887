#include "trivet/data/image_data.h"

#include "tests/data/samples.h"
#include "tests/formats/test_files.h"
#include "trivet/base/hash.h"
#include "trivet/data/normalization.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::gzip;
using testing::idx;
using testing::TempDir;

const std::vector<std::uint8_t> kPixels{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255};

TEST(ImageData, HoldsPixelsLabelsAndClasses) {
  const TempDir dir;
  const DataFiles source{dir.write("i", idx({3, 2, 2}, kPixels)),
                         dir.write("l", idx({3}, std::vector<std::uint8_t>{4, 200, 0}))};
  const ImageData data = load_images(source);
  EXPECT_EQ(data.count, 3);
  EXPECT_EQ(data.height, 2);
  EXPECT_EQ(data.width, 2);
  EXPECT_EQ(data.channels, 1);
  EXPECT_EQ(testing::pixels_of(data), kPixels);
  EXPECT_EQ(data.labels, (std::vector<std::int32_t>{4, 200, 0}));
  EXPECT_EQ(data.classes, 201);
  std::vector<std::byte> scratch;
  EXPECT_EQ(*data.sample(1, scratch), 4);
}

TEST(ImageData, ReadsChannelsAndWorksWithoutLabels) {
  const TempDir dir;
  const ImageData data = load_images({dir.write("i", idx({2, 1, 2, 3}, kPixels)), {}});
  EXPECT_EQ(data.channels, 3);
  EXPECT_EQ(data.sample_elements(), 6u);
  EXPECT_TRUE(data.labels.empty());
  EXPECT_EQ(data.classes, 0);
}

TEST(ImageData, HasTheDigestOfTheUncompressedFiles) {
  const TempDir dir;
  const std::string images = idx({3, 2, 2}, kPixels);
  const std::string labels = idx({3}, std::vector<std::uint8_t>{1, 2, 3});
  const std::string digest = load_images({dir.write("i", images), dir.write("l", labels)}).digest;
  EXPECT_EQ(digest, sha256_hex(images + labels));
  EXPECT_EQ(load_images({dir.write("i.gz", gzip(images)), dir.write("l.gz", gzip(labels))}).digest, digest);
  EXPECT_EQ(load_images({dir / "i", {}}).digest, sha256_hex(images));
  const std::string others = idx({3}, std::vector<std::uint8_t>{1, 2, 4});
  EXPECT_NE(load_images({dir / "i", dir.write("m", others)}).digest, digest);
}

TEST(ImageData, RefusesAnotherNumberOfLabelsNamingBothFiles) {
  const TempDir dir;
  const DataFiles source{dir.write("images", idx({3, 2, 2}, kPixels)),
                         dir.write("labels", idx({2}, std::vector<std::uint8_t>{1, 2}))};
  expect_error(ErrorCode::data, {"images holds 3 images", "labels holds 2 labels"}, [&] { load_images(source); });
}

TEST(ImageData, ReadsFashionMnist) {
  const std::filesystem::path folder = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "Debian's package dataset-fashion-mnist is not installed";
  const ImageData train = load_images({folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"});
  EXPECT_EQ(train.count, 60000);
  EXPECT_EQ(train.height, 28);
  EXPECT_EQ(train.width, 28);
  EXPECT_EQ(train.channels, 1);
  EXPECT_EQ(train.classes, 10);
  std::vector<int> per_class(10, 0);
  for (const std::int32_t label : train.labels) ++per_class[static_cast<std::size_t>(label)];
  EXPECT_EQ(per_class, std::vector<int>(10, 6000));
  std::vector<std::int64_t> all(60000);
  std::iota(all.begin(), all.end(), std::int64_t{0});
  // The figures that are published for this set, as shares of 255.
  const Normalization normalization = compute_normalization(train, all);
  EXPECT_NEAR(normalization.mean[0] / 255, 0.2860, 5e-5);
  EXPECT_NEAR(normalization.stddev[0] / 255, 0.3530, 5e-5);
}

}  // namespace
}  // namespace trivet
