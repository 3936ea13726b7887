#include "trivet/data/loader.h"

#include <cstring>

#include "tests/data/samples.h"
#include "tests/formats/test_files.h"
#include "trivet/base/error.h"
#include "trivet/data/image_data.h"
#include "trivet/data/normalization.h"
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
    const auto x = b.input<float>(0);
    const auto y = b.targets<std::int32_t>();
    copies.push_back({b.index, {x.begin(), x.end()}, {y.begin(), y.end()}, {b.sample.begin(), b.sample.end()}});
  }
  return copies;
}

// Images, prepared.
struct Images {
  explicit Images(ImageData data, const AugmentConfig& augment = {})
      : labels(data.labels), with_labels(!labels.empty()), source(image_source(std::move(data), {})) {
    DataConfig config;
    config.augment = augment;
    preparation = source->fit(first_indices(source->count()), config);
    samples = source->prepare(preparation, with_labels);
  }

  std::vector<std::int32_t> labels;
  bool with_labels;
  std::unique_ptr<DataSource> source;
  Preparation preparation;
  std::unique_ptr<Dataset> samples;
};

LoaderConfig config_for(std::int64_t batch, std::int64_t prefetch = 3, bool train = false, std::uint64_t seed = 0) {
  return {batch, prefetch, train, seed};
}

TEST(Loader, GivesEverySampleNormalizedWithItsLabel) {
  for (const std::int64_t channels : {1, 2, 3, 4}) {
    for (const std::int64_t batch : {1, 7, 33, 100}) {
      const ImageData data = random_images(33, 3, 5, channels);
      const Normalization normalization = compute_normalization(data, first_indices(33));
      const Images images(data);
      Loader loader(*images.samples, config_for(batch));
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
          std::vector<std::byte> scratch;
          const std::uint8_t* raw = data.sample(sample, scratch);
          for (std::size_t e = 0; e < data.sample_elements(); ++e) {
            const std::size_t c = e % static_cast<std::size_t>(channels);
            const double expected = (raw[e] - normalization.mean[c]) / normalization.stddev[c];
            ASSERT_EQ(batches[b].x[i * data.sample_elements() + e], static_cast<float>(expected));
          }
        }
      }
      EXPECT_EQ(position, 33u);
    }
  }
}

TEST(Loader, GivesTheSameFromTheMiddleAsWhenItSkips) {
  const Images images(random_images(50, 6, 6, 1), {2, true});
  const LoaderConfig config = config_for(8, 3, true);
  const auto order = shuffled(first_indices(50), 9, 4);
  Loader whole(*images.samples, config);
  whole.start(order, 4);
  const std::vector<Copy> all = rest_of_epoch(whole);
  ASSERT_EQ(all.size(), 7u);
  EXPECT_EQ(all.back().sample.size(), 2u);
  for (std::size_t first = 0; first <= all.size(); ++first) {
    Loader loader(*images.samples, config);
    loader.start(order, 4, static_cast<std::int64_t>(first));
    EXPECT_EQ(rest_of_epoch(loader), std::vector<Copy>(all.begin() + static_cast<std::ptrdiff_t>(first), all.end()));
  }
}

TEST(Loader, GivesTheSameForAnyPrefetch) {
  const Images images(random_images(40, 4, 4, 3), {1, true});
  std::vector<std::vector<Copy>> results;
  for (const std::int64_t prefetch : {0, 1, 2, 16}) {
    Loader loader(*images.samples, config_for(6, prefetch, true));
    loader.start(first_indices(40), 1);
    results.push_back(rest_of_epoch(loader));
    EXPECT_EQ(results.back(), results.front()) << prefetch;
  }
}

TEST(Loader, AugmentsASampleTheSameInAnyBatch) {
  const Images data(random_images(30, 8, 8, 1), {3, true});
  const auto images = [&](std::int64_t batch, const std::vector<std::int64_t>& order, std::int64_t epoch,
                          std::uint64_t seed) {
    Loader loader(*data.samples, config_for(batch, 3, true, seed));
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
  testing::set_pixels(data, std::vector<std::uint8_t>(data.pixels.size(), 200));
  Images images(std::move(data), {4, false});
  images.preparation.values["mean"] = {100.0};
  images.preparation.values["stddev"] = {50.0};
  images.samples = images.source->prepare(images.preparation, true);
  Loader loader(*images.samples, config_for(64, 3, true));
  loader.start(first_indices(64), 0);
  Batch b;
  ASSERT_TRUE(loader.next(b));
  const auto x = b.input<float>(0);
  const std::set<float> values(x.begin(), x.end());
  EXPECT_EQ(values, (std::set<float>{-2.0f, 2.0f}));
}

TEST(Loader, ServesManyEpochsAndGivesUpOneInTheMiddle) {
  const Images images(random_images(64, 4, 4, 1));
  Loader loader(*images.samples, config_for(5));
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
  const Images images(random_images(200, 4, 4, 1));
  Loader loader(*images.samples, config_for(2, 1));
  loader.start(first_indices(200), 0);
  Batch b;
  ASSERT_TRUE(loader.next(b));
  const auto x = b.input<float>(0);
  const std::vector<float> before(x.begin(), x.end());
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_TRUE(std::ranges::equal(b.input<float>(0), before));
  EXPECT_EQ(b.sample[1], 1);
}

TEST(Loader, SurfacesAnErrorOfTheThreadInItsPlaceAndRecovers) {
  const Images images(random_images(10, 2, 2, 1));
  Loader loader(*images.samples, config_for(2));
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
  const Images images(random_images(500, 8, 8, 1));
  for (int i = 0; i < 50; ++i) {
    Loader loader(*images.samples, config_for(100, i % 3));
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
  const Images images(std::move(data));
  Loader loader(*images.samples, config_for(2));
  loader.start(first_indices(9), 0);
  Batch b;
  int batches = 0;
  while (loader.next(b)) {
    ++batches;
    EXPECT_TRUE(b.y.empty());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.inputs[0].data()) % 64, 0u);
  }
  EXPECT_EQ(batches, 5);
}

TEST(Loader, CountsItsBuffers) {
  // Batch 10 of 784: x 31,360 bytes, y 64 (40 rounded up), sample 128 (80 rounded up); one batch in use and 4 ready.
  const Images images(random_images(2, 28, 28, 1));
  const Dataset& data = *images.samples;
  EXPECT_EQ(Loader::buffer_bytes(data, 10, 4), 5u * (31360 + 64 + 128));
  expect_error(ErrorCode::memory, {"overflow"}, [&] { Loader::buffer_bytes(data, std::int64_t{1} << 60, 4); });
  expect_error(ErrorCode::memory, {"overflow"}, [&] { Loader::buffer_bytes(data, 128, std::int64_t{1} << 50); });
}

// Samples of two inputs and two numbers to predict; sample 6 cannot be read.
class TwoInputs final : public Dataset {
 public:
  std::int64_t count() const override { return 9; }
  const std::vector<Field>& inputs() const override { return inputs_; }
  const std::optional<Field>& target_field() const override { return target_field_; }
  const DataTarget& target() const override { return target_; }
  std::vector<std::int64_t> category_sizes(std::size_t) const override { return {}; }
  void read(std::int64_t sample, const SampleDraw& draw, std::span<std::byte* const> inputs,
            std::byte* y) const override {
    if (sample == 6) throw Error(ErrorCode::data, "sample 6: a cell is NaN");
    for (int i = 0; i < 3; ++i) reinterpret_cast<float*>(inputs[0])[i] = static_cast<float>(sample * 10 + i);
    *reinterpret_cast<std::int32_t*>(inputs[1]) = static_cast<std::int32_t>(sample);
    reinterpret_cast<float*>(y)[0] = static_cast<float>(draw.seed);
    reinterpret_cast<float*>(y)[1] = static_cast<float>(draw.train ? draw.epoch : -1);
  }
  std::int64_t label(std::int64_t) const override { return 0; }
  ShownSample show(std::int64_t) const override { return {}; }

 private:
  const std::vector<Field> inputs_{{"x", DType::f32, {3}}, {"categories", DType::i32, {1}}};
  const std::optional<Field> target_field_{{"y", DType::f32, {2}}};
  const DataTarget target_{};
};

TEST(Loader, GivesEachInputItsOwnBufferAndHandsTheDrawOn) {
  const TwoInputs data;
  Loader loader(data, config_for(4, 2, true, 77));
  loader.start({5, 1, 8, 0, 3}, 12);
  Batch b;
  ASSERT_TRUE(loader.next(b));
  EXPECT_TRUE(std::ranges::equal(b.input<float>(0), std::vector<float>{50, 51, 52, 10, 11, 12, 80, 81, 82, 0, 1, 2}));
  EXPECT_TRUE(std::ranges::equal(b.input<std::int32_t>(1), std::vector<std::int32_t>{5, 1, 8, 0}));
  EXPECT_TRUE(std::ranges::equal(b.targets<float>(), std::vector<float>{77, 12, 77, 12, 77, 12, 77, 12}));
  ASSERT_TRUE(loader.next(b));
  EXPECT_TRUE(std::ranges::equal(b.input<std::int32_t>(1), std::vector<std::int32_t>{3}));
  EXPECT_FALSE(loader.next(b));
}

TEST(Loader, PassesOnWhyASampleCannotBeUsed) {
  const TwoInputs data;
  Loader loader(data, config_for(2));
  loader.start(first_indices(9), 0);
  Batch b;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(loader.next(b));
  expect_error(ErrorCode::data, {"sample 6", "NaN"}, [&] { loader.next(b); });
}

TEST(Loader, RefusesABatchOfNothingAndBatchesBeyondTheEpoch) {
  const Images images(random_images(10, 4, 6, 1));
  expect_error(ErrorCode::internal, {"batch 0"}, [&] { Loader(*images.samples, config_for(0)); });
  Loader loader(*images.samples, config_for(4));
  expect_error(ErrorCode::state, {"batch 4", "3 batches"}, [&] { loader.start(first_indices(10), 0, 4); });
  expect_error(ErrorCode::state, {"batch -1"}, [&] { loader.start(first_indices(10), 0, -1); });
}

}  // namespace
}  // namespace trivet
