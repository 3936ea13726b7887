#include "tests/data/samples.h"
#include "tests/formats/test_files.h"
#include "trivet/base/error.h"
#include "trivet/data/image_data.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::first_indices;
using testing::random_images;

const DataFiles kFiles{"some.images", "some.labels", {}, {}};

std::unique_ptr<DataSource> source(std::int64_t count = 20, std::int64_t height = 4, std::int64_t width = 6) {
  return image_source(random_images(count, height, width, 1), kFiles);
}

TEST(ImageSource, LearnsFromTheTrainingSamplesAlone) {
  ImageData data = random_images(4, 2, 2, 1);
  std::vector<std::uint8_t> pixels(16, 10);
  std::fill(pixels.begin() + 8, pixels.end(), std::uint8_t{250});  // samples 2 and 3
  testing::set_pixels(data, pixels);
  const auto images = image_source(std::move(data), kFiles);
  const Preparation p = images->fit(std::vector<std::int64_t>{0, 1}, {});
  EXPECT_EQ(p.kind, "images");
  EXPECT_EQ(p.values.at("mean"), nlohmann::json({10.0}));
  const auto samples = images->prepare(p, true);
  std::vector<float> x(4);
  std::byte* const inputs[] = {reinterpret_cast<std::byte*>(x.data())};
  std::int32_t y = -1;
  samples->read(3, {}, inputs, reinterpret_cast<std::byte*>(&y));
  EXPECT_EQ(x, std::vector<float>(4, 240.0F));  // a deviation of 0 counts as 1
  EXPECT_EQ(y, 3);
}

TEST(ImageSource, SaysWhatAModelIsFedWith) {
  const auto images = source();
  const auto samples = images->prepare(images->fit(first_indices(20), {}), true);
  ASSERT_EQ(samples->inputs().size(), 1u);
  EXPECT_EQ(samples->inputs()[0], (Field{"x", DType::f32, {4, 6, 1}}));
  EXPECT_EQ(samples->target_field(), (Field{"y", DType::i32, {}}));
  EXPECT_EQ(samples->target().kind, TargetKind::label);
  EXPECT_EQ(samples->target().classes, 10);
  EXPECT_EQ(samples->target().class_names[9], "9");
  EXPECT_EQ(samples->label(13), 3);
  const auto bare = images->prepare(images->fit(first_indices(20), {}), false);
  EXPECT_FALSE(bare->target_field().has_value());
  EXPECT_EQ(bare->target().kind, TargetKind::none);
  expect_error(ErrorCode::internal, {"label"}, [&] { bare->label(0); });
}

TEST(ImageSource, ShowsImagesAndWhatAModelMakesOfThem) {
  const auto images = source();
  const auto samples = images->prepare(images->fit(first_indices(20), {}), true);
  const ShownSample shown = samples->show(7);
  EXPECT_EQ(shown.height, 4);
  EXPECT_EQ(shown.width, 6);
  std::vector<float> x(24);
  std::byte* const inputs[] = {reinterpret_cast<std::byte*>(x.data())};
  samples->read(7, {}, inputs, nullptr);
  EXPECT_EQ(samples->pixels(x), shown.pixels);
  EXPECT_EQ(samples->pixels(std::vector<float>{-100.0F, 100.0F}), (std::vector<std::uint8_t>{0, 255}));
}

TEST(ImageSource, PreparationSurvivesAsText) {
  const auto images = source();
  DataConfig config;
  config.augment = {2, true};
  const Preparation p = images->fit(first_indices(20), config);
  const Preparation again{p.kind, nlohmann::json::parse(p.values.dump())};
  const auto a = images->prepare(p, true), b = images->prepare(again, true);
  std::vector<float> x(24), other(24);
  std::byte* const to_x[] = {reinterpret_cast<std::byte*>(x.data())};
  std::byte* const to_other[] = {reinterpret_cast<std::byte*>(other.data())};
  for (std::int64_t i = 0; i < 20; ++i) {
    a->read(i, {true, 5, 3}, to_x, nullptr);
    b->read(i, {true, 5, 3}, to_other, nullptr);
    EXPECT_EQ(x, other);
  }
}

TEST(ImageSource, RefusesImagesOfAnotherFormAndOtherData) {
  const auto images = source();
  const Preparation p = images->fit(first_indices(20), {});
  expect_error(ErrorCode::data, {"some.images", "[4,7,1]", "[4,6,1]", "trained on"},
               [&] { source(5, 4, 7)->prepare(p, true); });
  expect_error(ErrorCode::data, {"some.images", "table"}, [&] { images->prepare({"table", p.values}, true); });
  Preparation damaged = p;
  damaged.values.erase("width");
  expect_error(ErrorCode::checkpoint, {"width"}, [&] { images->prepare(damaged, true); });
  damaged = p;
  damaged.values["mean"] = {1.0, 2.0};
  damaged.values["stddev"] = {1.0, 2.0};
  expect_error(ErrorCode::checkpoint, {"1 channels", "for 2"}, [&] { images->prepare(damaged, true); });
}

TEST(ImageSource, RefusesLabelsThatTheModelDoesNotKnowOrThatAreMissing) {
  DataConfig config;
  config.classes = 5;
  const auto images = source();
  expect_error(ErrorCode::data, {"some.labels", "sample 5 has label 5", "5 classes", "set model.classes to 10"},
               [&] { images->prepare(images->fit(first_indices(20), config), true); });
  config.classes = 12;
  EXPECT_EQ(images->prepare(images->fit(first_indices(20), config), true)->target().classes, 12);
  ImageData data = random_images(3, 2, 2, 1);
  data.labels.clear();
  const auto bare = image_source(std::move(data), kFiles);
  const Preparation p = bare->fit(first_indices(3), {});
  EXPECT_FALSE(bare->has_target(p));
  expect_error(ErrorCode::data, {"some.images", "no labels"}, [&] { bare->prepare(p, true); });
}

TEST(ImageSource, RefusesCropsBeyondTheImageAndNumbersAsTarget) {
  DataConfig config;
  config.augment.crop_padding = 4;
  expect_error(ErrorCode::data, {"padding of 4", "4 x 6"}, [&] { source()->fit(first_indices(20), config); });
  config = {};
  config.target = "number";
  expect_error(ErrorCode::data, {"classes, not numbers"}, [&] { source()->fit(first_indices(20), config); });
}

TEST(Field, AndTargetComeBackFromJson) {
  const Field field{"x", DType::f32, {28, 28, 1}};
  EXPECT_EQ(nlohmann::json(field).get<Field>(), field);
  EXPECT_EQ(nlohmann::json(field).dump(), R"({"dtype":"f32","name":"x","shape":[28,28,1]})");
  DataTarget target;
  target.kind = TargetKind::number;
  target.target_names = {"price", "size"};
  target.mean = {1.0 / 3.0, 2};
  target.stddev = {0.1, 4};
  const DataTarget again = nlohmann::json::parse(nlohmann::json(target).dump()).get<DataTarget>();
  EXPECT_EQ(again.kind, TargetKind::number);
  EXPECT_EQ(again.target_names, target.target_names);
  EXPECT_EQ(again.mean, target.mean);
  EXPECT_EQ(again.stddev, target.stddev);
}

TEST(DataTarget, ThatContradictsItselfIsRefused) {
  DataTarget target;
  target.kind = TargetKind::label;
  target.classes = 3;
  target.class_names = {"a", "b"};
  expect_error(ErrorCode::checkpoint, {"3 classes", "2 class names"},
               [&] { nlohmann::json(target).get<DataTarget>(); });
  nlohmann::json json = target;
  json["kind"] = "word";
  expect_error(ErrorCode::checkpoint, {"word"}, [&] { json.get<DataTarget>(); });
}

}  // namespace
}  // namespace trivet
