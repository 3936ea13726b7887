#include "trivet/data/loader.h"

#include <cstring>

#include "tests/data/samples.h"
#include "tests/formats/test_files.h"
#include "trivet/data/split.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::first_indices;
using testing::random_images;

// A batch that owns what it holds.
struct Copy {
  std::int64_t index;
  std::vector<float> x;
  std::vector<std::int32_t> y;
  std::vector<std::int64_t> sample;
  bool operator==(const Copy&) const = default;
};

std::vector<Copy> rest_of_epoch(Loader& loader) {
  std::vector<Copy> copies;
  Batch b;
  while (loader.next(b)) {
    EXPECT_EQ(b.count, static_cast<std::int64_t>(b.sample.size()));
    copies.push_back({b.index, {b.x.begin(), b.x.end()}, {b.y.begin(), b.y.end()}, {b.sample.begin(), b.sample.end()}});
  }
  return copies;
}

LoaderConfig config_for(const ImageData& data, std::int64_t batch, std::int64_t prefetch = 3) {
  LoaderConfig config;
  config.batch = batch;
  config.prefetch = prefetch;
  config.normalization = compute_normalization(data, first_indices(data.count));
  return config;
}

TEST(Loader, GivesEverySampleNormalizedWithItsLabel) {
  for (const std::int64_t channels : {1, 2, 3, 4}) {
    for (const std::int64_t batch : {1, 7, 33, 100}) {
      const ImageData data = random_images(33, 3, 5, channels);
      const LoaderConfig config = config_for(data, batch);
      Loader loader(data, config);
      const auto order = shuffled(first_indices(33), 1, 0);
      loader.start(order, 0);
      const std::vector<Copy> batches = rest_of_epoch(loader);
      ASSERT_EQ(static_cast<std::int64_t>(batches.size()), batch_count(33, batch));
      std::size_t position = 0;
      for (std::size_t b = 0; b < batches.size(); ++b) {
        EXPECT_EQ(batches[b].index, static_cast<std::int64_t>(b));
        EXPECT_EQ(batches[b].x.size(), batches[b].sample.size() * data.sample_elements());
        for (std::size_t i = 0; i < batches[b].sample.size(); ++i, ++position) {
          const std::int64_t sample = order[position];
          ASSERT_EQ(batches[b].sample[i], sample);
          EXPECT_EQ(batches[b].y[i], data.labels[static_cast<std::size_t>(sample)]);
          for (std::size_t e = 0; e < data.sample_elements(); ++e) {
            const std::size_t c = e % static_cast<std::size_t>(channels);
            const double expected =
                (data.sample(sample)[e] - config.normalization.mean[c]) / config.normalization.stddev[c];
            ASSERT_EQ(batches[b].x[i * data.sample_elements() + e], static_cast<float>(expected));
          }
        }
      }
      EXPECT_EQ(position, 33u);
    }
  }
}

TEST(Loader, GivesTheSameFromTheMiddleAsWhenItSkips) {
  const ImageData data = random_images(50, 6, 6, 1);
  LoaderConfig config = config_for(data, 8);
  config.augment = {2, true};
  const auto order = shuffled(first_indices(50), 9, 4);
  Loader whole(data, config);
  whole.start(order, 4);
  const std::vector<Copy> all = rest_of_epoch(whole);
  ASSERT_EQ(all.size(), 7u);
  EXPECT_EQ(all.back().sample.size(), 2u);
  for (std::size_t first = 0; first <= all.size(); ++first) {
    Loader loader(data, config);
    loader.start(order, 4, static_cast<std::int64_t>(first));
    EXPECT_EQ(rest_of_epoch(loader), std::vector<Copy>(all.begin() + static_cast<std::ptrdiff_t>(first), all.end()));
  }
}

TEST(Loader, GivesTheSameForAnyPrefetch) {
  const ImageData data = random_images(40, 4, 4, 3);
  std::vector<std::vector<Copy>> results;
  for (const std::int64_t prefetch : {0, 1, 2, 16}) {
    LoaderConfig config = config_for(data, 6, prefetch);
    config.augment = {1, true};
    Loader loader(data, config);
    loader.start(first_indices(40), 1);
    results.push_back(rest_of_epoch(loader));
    EXPECT_EQ(results.back(), results.front()) << prefetch;
  }
}

TEST(Loader, AugmentsASampleTheSameInAnyBatch) {
  const ImageData data = random_images(30, 8, 8, 1);
  const auto images = [&](std::int64_t batch, const std::vector<std::int64_t>& order, std::int64_t epoch,
                          std::uint64_t seed) {
    LoaderConfig config = config_for(data, batch);
    config.augment = {3, true};
    config.seed = seed;
    Loader loader(data, config);
    loader.start(order, epoch);
    std::map<std::int64_t, std::vector<float>> by_sample;
    for (const Copy& copy : rest_of_epoch(loader)) {
      for (std::size_t i = 0; i < copy.sample.size(); ++i) {
        by_sample[copy.sample[i]].assign(copy.x.begin() + static_cast<std::ptrdiff_t>(64 * i),
                                         copy.x.begin() + static_cast<std::ptrdiff_t>(64 * (i + 1)));
      }
    }
    return by_sample;
  };
  const auto reference = images(30, first_indices(30), 2, 5);
  ASSERT_EQ(reference.size(), 30u);
  EXPECT_EQ(images(1, first_indices(30), 2, 5), reference);
  EXPECT_EQ(images(7, shuffled(first_indices(30), 1, 1), 2, 5), reference);
  EXPECT_NE(images(30, first_indices(30), 3, 5), reference);
  EXPECT_NE(images(30, first_indices(30), 2, 6), reference);
}

TEST(Loader, FillsCropsWithTheRawPixelZero) {
  ImageData data = random_images(64, 5, 5, 1);
  std::fill(data.pixels.begin(), data.pixels.end(), std::uint8_t{200});
  LoaderConfig config;
  config.batch = 64;
  config.normalization = {{100.0}, {50.0}};
  config.augment = {4, false};
  Loader loader(data, config);
  loader.start(first_indices(64), 0);
  Batch b;
  ASSERT_TRUE(loader.next(b));
  std::set<float> values(b.x.begin(), b.x.end());
  EXPECT_EQ(values, (std::set<float>{-2.0f, 2.0f}));
}

TEST(Loader, ServesManyEpochsAndGivesUpOneInTheMiddle) {
  const ImageData data = random_images(64, 4, 4, 1);
  Loader loader(data, config_for(data, 5));
  Batch b;
  EXPECT_FALSE(loader.next(b));
  for (std::int64_t epoch = 0; epoch < 50; ++epoch) {
    const auto order = shuffled(first_indices(64), 1, epoch);
    loader.start(order, epoch);
    // Leaves off after some batches, at times before the first.
    for (std::int64_t i = 0; i < epoch % 7; ++i) {
      ASSERT_TRUE(loader.next(b));
      EXPECT_EQ(b.index, i);
      EXPECT_TRUE(std::ranges::equal(b.sample, std::span(order).subspan(static_cast<std::size_t>(5 * i), 5)));
    }
  }
  loader.start(first_indices(64), 99);
  EXPECT_EQ(rest_of_epoch(loader).size(), 13u);
  EXPECT_FALSE(loader.next(b));
  loader.start({}, 100);
  EXPECT_FALSE(loader.next(b));
}

TEST(Loader, LeavesTheBatchInUseAlone) {
  const ImageData data = random_images(200, 4, 4, 1);
  Loader loader(data, config_for(data, 2, 1));
  loader.start(first_indices(200), 0);
  Batch b;
  ASSERT_TRUE(loader.next(b));
  const std::vector<float> before(b.x.begin(), b.x.end());
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_TRUE(std::ranges::equal(b.x, before));
  EXPECT_EQ(b.sample[1], 1);
}

TEST(Loader, SurfacesAnErrorOfTheThreadInItsPlaceAndRecovers) {
  const ImageData data = random_images(10, 2, 2, 1);
  Loader loader(data, config_for(data, 2));
  for (const std::int64_t bad : {std::int64_t{10}, std::int64_t{-1}}) {
    std::vector<std::int64_t> order = first_indices(10);
    order[5] = bad;
    loader.start(order, 0);
    Batch b;
    EXPECT_TRUE(loader.next(b));
    EXPECT_TRUE(loader.next(b));
    for (int i = 0; i < 2; ++i) {
      expect_error(ErrorCode::data, {fmt::format("sample {}", bad), "out of range"}, [&] { loader.next(b); });
    }
    loader.start(first_indices(10), 1);
    EXPECT_EQ(rest_of_epoch(loader).size(), 5u);
  }
}

TEST(Loader, StopsWhileTheThreadIsBusyOrWaiting) {
  const ImageData data = random_images(500, 8, 8, 1);
  for (int i = 0; i < 50; ++i) {
    Loader loader(data, config_for(data, 100, i % 3));
    loader.start(first_indices(500), 0);
    Batch b;
    if (i % 2 == 0) {
      ASSERT_TRUE(loader.next(b));
    }
  }
}

TEST(Loader, WorksWithoutLabelsAndAlignsItsBuffers) {
  ImageData data = random_images(9, 3, 3, 1);
  data.labels.clear();
  Loader loader(data, config_for(data, 2));
  loader.start(first_indices(9), 0);
  Batch b;
  int batches = 0;
  while (loader.next(b)) {
    ++batches;
    EXPECT_TRUE(b.y.empty());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.x.data()) % 64, 0u);
  }
  EXPECT_EQ(batches, 5);
}

TEST(Loader, CountsItsBuffers) {
  // Batch 10 of 784: x 31,360 bytes, y 64 (40 rounded up), sample 128 (80 rounded up); one batch in use and 4 ready;
  // and an image, rounded up to 832.
  EXPECT_EQ(Loader::buffer_bytes(784, 10, 4), 5u * (31360 + 64 + 128) + 832);
  expect_error(ErrorCode::memory, {"overflow"}, [] { Loader::buffer_bytes(784, std::int64_t{1} << 60, 4); });
  expect_error(ErrorCode::memory, {"overflow"}, [] { Loader::buffer_bytes(784, 128, std::int64_t{1} << 50); });
}

TEST(Loader, RefusesWhatDoesNotFitTheData) {
  const ImageData data = random_images(10, 4, 6, 1);
  LoaderConfig config = config_for(data, 2);
  config.normalization = Normalization::unit(3);
  expect_error(ErrorCode::data, {"1 channels", "for 3"}, [&] { Loader(data, config); });
  config = config_for(data, 2);
  config.augment.crop_padding = 4;
  expect_error(ErrorCode::data, {"padding of 4", "4 x 6"}, [&] { Loader(data, config); });
  config = config_for(data, 0);
  expect_error(ErrorCode::internal, {"batch 0"}, [&] { Loader(data, config); });
  Loader loader(data, config_for(data, 4));
  expect_error(ErrorCode::state, {"batch 4", "3 batches"}, [&] { loader.start(first_indices(10), 0, 4); });
  expect_error(ErrorCode::state, {"batch -1"}, [&] { loader.start(first_indices(10), 0, -1); });
}

}  // namespace
}  // namespace trivet
