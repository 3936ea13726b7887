#include <gmock/gmock.h>

#include "tests/data/read_samples.h"
#include "tests/formats/test_files.h"
#include "tests/formats/zip_files.h"
#include "trivet/data/dataset.h"

namespace trivet {
namespace {

using testing::all_of;
using ::testing::ElementsAre;
using testing::expect_error;
using testing::npy_file;
using testing::read_sample;
using testing::TempDir;
using testing::zip;

std::vector<float> floats(std::initializer_list<double> values) { return {values.begin(), values.end()}; }

class ArrayData : public ::testing::Test {
 protected:
  std::unique_ptr<DataSource> open(const std::string& x, const std::string& y = {}) {
    DataFiles files;
    files.file = dir_.write("x.npy", x);
    if (!y.empty()) files.targets = dir_.write("y.npy", y);
    return open_data(files, config_);
  }
  std::unique_ptr<Dataset> prepare(const std::string& x, const std::string& y = {}) {
    source_ = open(x, y);
    preparation_ = source_->fit(all_of(*source_), config_);
    return source_->prepare(preparation_, !y.empty());
  }
  void fails(const std::string& x, const std::string& y, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::data, parts, [&] { prepare(x, y); });
  }

  TempDir dir_;
  DataConfig config_;
  std::unique_ptr<DataSource> source_;
  Preparation preparation_;
  const std::string x_ = npy_file<float>(DType::f32, {2, 3}, {1, 2, 3, 3, 2, 7});
};

TEST_F(ArrayData, StandardisesEachFeature) {
  const auto data = prepare(x_, npy_file<std::int64_t>(DType::i64, {2}, {7, -1}));
  EXPECT_EQ(data->count(), 2);
  EXPECT_EQ(data->inputs(), (std::vector<Field>{{"x", DType::f32, {3}}}));
  EXPECT_EQ(read_sample(*data, 0).x, floats({-1, 0, -1}));
  EXPECT_EQ(read_sample(*data, 1).x, floats({1, 0, 1}));
  EXPECT_EQ(data->target_field(), (Field{"y", DType::i32, {}}));
  EXPECT_THAT(data->target().class_names, ElementsAre("-1", "7"));
  EXPECT_EQ(read_sample(*data, 0).label, 1);
  EXPECT_EQ(data->label(1), 0);
  EXPECT_EQ(source_->resident_bytes(), 6 * sizeof(float) + 2 * sizeof(std::int64_t) + 8);  // x, y, labels
}

TEST_F(ArrayData, LeavesValuesAsTheyAreWithoutNormalising) {
  config_.normalize = false;
  const auto data = prepare(x_);
  EXPECT_EQ(read_sample(*data, 1).x, floats({3, 2, 7}));
  EXPECT_EQ(data->target_field(), std::nullopt);
}

TEST_F(ArrayData, StandardisesTheLastDimensionOfHigherRanks) {
  const auto data = prepare(npy_file<double>(DType::f64, {1, 2, 2}, {1, 10, 3, 30}));
  EXPECT_EQ(data->inputs()[0].shape, (Shape{2, 2}));
  EXPECT_EQ(read_sample(*data, 0).x, floats({-1, -1, 1, 1}));
}

TEST_F(ArrayData, KeepsThePrecisionOfLargeNumbersUntilTheyAreScaled) {
  const auto data = prepare(npy_file<double>(DType::f64, {2}, {1e9, 1e9 + 2}));
  EXPECT_EQ(data->inputs()[0].shape, (Shape{1}));
  EXPECT_EQ(read_sample(*data, 0).x, floats({-1}));
  const auto integers = prepare(npy_file<std::int64_t>(DType::i64, {2}, {1000000000, 1000000002}));
  EXPECT_EQ(read_sample(*integers, 1).x, floats({1}));
}

TEST_F(ArrayData, LearnsFromTheTrainingSamplesAlone) {
  const auto source = open(npy_file<float>(DType::f32, {3, 1}, {1, 3, 1000}));
  const Preparation preparation = source->fit(std::vector<std::int64_t>{0, 1}, config_);
  EXPECT_EQ(preparation.kind, "arrays");
  EXPECT_EQ(preparation.values["mean"], std::vector<double>{2});
  EXPECT_EQ(read_sample(*source->prepare(preparation, false), 2).x, floats({998}));
}

TEST_F(ArrayData, TakesBytesOfRankThreeAndFourForImages) {
  const std::vector<std::uint8_t> bytes{0, 255, 51, 102, 0, 255, 51, 102};
  auto data = prepare(npy_file(DType::u8, {2, 2, 2}, bytes));
  EXPECT_EQ(data->inputs()[0].shape, (Shape{2, 2, 1}));
  const ShownSample shown = data->show(1);
  EXPECT_EQ(shown.height * 100 + shown.width * 10 + shown.channels, 221);
  EXPECT_THAT(shown.pixels, ElementsAre(0, 255, 51, 102));
  EXPECT_EQ(data->pixels(read_sample(*data, 0).x), shown.pixels);
  data = prepare(npy_file(DType::u8, {2, 1, 2, 2}, bytes));
  EXPECT_EQ(data->inputs()[0].shape, (Shape{1, 2, 2}));
  EXPECT_EQ(preparation_.values["mean"], (std::vector<double>{25.5, 178.5}));
  config_.normalize = false;
  EXPECT_EQ(read_sample(*prepare(npy_file(DType::u8, {2, 2, 2}, bytes)), 0).x, floats({0, 1, 0.2, 0.4}));
  EXPECT_TRUE(prepare(x_)->pixels(floats({1, 2, 3})).empty());
}

TEST_F(ArrayData, PredictsSeveralNumbers) {
  const auto data = prepare(x_, npy_file<float>(DType::f32, {2, 2}, {1, 10, 3, 30}));
  EXPECT_EQ(data->target_field(), (Field{"y", DType::f32, {2}}));
  EXPECT_THAT(data->target().mean, ElementsAre(2, 20));
  EXPECT_THAT(data->target().stddev, ElementsAre(1, 10));
  EXPECT_EQ(read_sample(*data, 0).numbers, floats({-1, -1}));
  config_.target = "number";
  EXPECT_EQ(prepare(x_, npy_file<std::int64_t>(DType::i64, {2}, {5, 5}))->target().kind, TargetKind::number);
}

TEST_F(ArrayData, TakesFloatsForLabelsIfTold) {
  config_.target = "label";
  EXPECT_EQ(prepare(x_, npy_file<float>(DType::f32, {2, 1}, {4, 2}))->label(0), 1);
  fails(x_, npy_file<float>(DType::f32, {2}, {4, 2.5}), {"y.npy", "sample 1", "2.5", "whole number"});
  fails(x_, npy_file<float>(DType::f32, {2}, {4, std::nanf("")}), {"y.npy", "sample 1", "nan"});
  fails(x_, npy_file<std::int64_t>(DType::i64, {2, 2}, {4, 2, 3, 4}), {"y.npy", "one label for each sample"});
}

TEST_F(ArrayData, ChecksLabelsAgainstTheNumberOfClasses) {
  config_.classes = 5;
  EXPECT_EQ(prepare(x_, npy_file<std::int64_t>(DType::i64, {2}, {4, 2}))->target().classes, 5);
  fails(x_, npy_file<std::int64_t>(DType::i64, {2}, {4, 5}), {"y.npy", "sample 1", "label 5", "0 to 4"});
  fails(x_, npy_file<std::int64_t>(DType::i64, {2}, {-1, 4}), {"sample 0", "label -1"});
}

TEST_F(ArrayData, RefusesLabelsThatTrainingDidNotHave) {
  prepare(x_, npy_file<std::int64_t>(DType::i64, {2}, {4, 2}));
  const auto other = open(x_, npy_file<std::int64_t>(DType::i64, {2}, {4, 3}));
  expect_error(ErrorCode::data, {"sample 1", "label 3", "none of the 2 classes"},
               [&] { other->prepare(preparation_, true); });
  other->prepare(preparation_, false);
}

TEST_F(ArrayData, NamesTheSampleAndTheElementThatIsNotFinite) {
  const float nan = std::nanf("");
  const std::string x = npy_file<float>(DType::f32, {2, 3}, {1, 2, 3, 4, nan, 6});
  fails(x, {}, {"x.npy: sample 1, element 1: found nan"});
  const auto source = open(x);
  const auto data = source->prepare(source->fit(std::vector<std::int64_t>{0}, config_), false);
  read_sample(*data, 0);
  expect_error(ErrorCode::data, {"x.npy: sample 1, element 1: found nan"}, [&] { read_sample(*data, 1); });
  fails(x_, npy_file<float>(DType::f32, {2}, {1, HUGE_VALF}), {"y.npy: sample 1, element 0: found inf"});
  fails(npy_file<double>(DType::f64, {2, 1}, {1e308, -1e308}), {}, {"x.npy", "too large to standardise"});
  config_.normalize = false;
  const auto large = prepare(npy_file<double>(DType::f64, {1, 2}, {1, 1e300}));
  expect_error(ErrorCode::data, {"sample 0, element 1: found 1e+300"}, [&] { read_sample(*large, 0); });
}

TEST_F(ArrayData, GivesConstantFeaturesTheDeviationOne) {
  EXPECT_EQ(read_sample(*prepare(npy_file<float>(DType::f32, {2, 1}, {0.1f, 0.1f})), 1).x, floats({0}));
}

TEST_F(ArrayData, RefusesShapesThatDoNotFit) {
  const auto y = npy_file<std::int64_t>(DType::i64, {2}, {4, 2});
  fails(npy_file<float>(DType::f32, {0, 3}, {}), {}, {"x.npy", "[0,3]", "at least one sample"});
  fails(npy_file<float>(DType::f32, {}, {1}), {}, {"at least one sample"});
  fails(npy_file<float>(DType::f32, {1, 3}, {1, 2, 3}), y, {"x.npy has 1 samples", "y.npy has 2"});
  fails(x_, npy_file<float>(DType::f32, {2, 1, 1}, {1, 2}), {"y.npy", "(N) or (N, k)"});
  prepare(x_, y);
  const auto other = open(npy_file<float>(DType::f32, {2, 2}, {1, 2, 3, 4}));
  expect_error(ErrorCode::data, {"[2]", "trained on [3]"}, [&] { other->prepare(preparation_, false); });
  expect_error(ErrorCode::data, {"no targets"}, [&] { open(x_)->prepare(preparation_, true); });
  EXPECT_FALSE(open(x_)->has_target(preparation_));
}

TEST_F(ArrayData, ReadsNpzWithTheSameDigest) {
  const std::string y = npy_file<std::int64_t>(DType::i64, {2}, {4, 2});
  const std::string digest = open(x_, y)->digest();
  for (const bool deflated : {false, true}) {
    DataFiles files;
    files.file = dir_.write("a.npz", zip({{"X.npy", x_, deflated}, {"y.npy", y, deflated}}));
    const auto source = open_data(files, config_);
    EXPECT_EQ(source->digest(), digest);
    const auto data = source->prepare(source->fit(all_of(*source), config_), true);
    EXPECT_EQ(read_sample(*data, 0).x, floats({-1, 0, -1}));
    EXPECT_EQ(data->label(0), 1);
    files.targets = dir_.write("y.npy", y);
    expect_error(ErrorCode::data, {"y.npy is not needed"}, [&] { open_data(files, config_); });
  }
}

TEST_F(ArrayData, ShowsTheFirstElements) {
  using Columns = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(prepare(x_)->show(1).columns, (Columns{{"x[0]", "3"}, {"x[1]", "2"}, {"x[2]", "7"}}));
}

TEST_F(ArrayData, RefusesADamagedPreparation) {
  prepare(x_, npy_file<std::int64_t>(DType::i64, {2}, {4, 2}));
  const auto damaged = [&](const auto& change) {
    Preparation p = preparation_;
    change(p.values);
    expect_error(ErrorCode::checkpoint, {"checkpoint is damaged"}, [&] { source_->prepare(p, true); });
  };
  damaged([](nlohmann::json& v) { v.erase("mean"); });
  damaged([](nlohmann::json& v) { v["shape"] = nlohmann::json::array(); });
  damaged([](nlohmann::json& v) { v["stddev"][1] = 0; });
  damaged([](nlohmann::json& v) { v["mean"] = {1}; });
  damaged([](nlohmann::json& v) { v["target"]["class_names"][0] = "x"; });
  damaged([](nlohmann::json& v) { v = nullptr; });
  expect_error(ErrorCode::data, {"holds arrays", "\"table\""}, [&] { source_->prepare({"table", {}}, true); });
}

TEST_F(ArrayData, RefusesAugmentation) {
  config_.augment.flip = true;
  fails(x_, {}, {"IDX"});
}

}  // namespace
}  // namespace trivet
