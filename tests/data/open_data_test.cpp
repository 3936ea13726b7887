#include "tests/data/read_samples.h"
#include "tests/formats/test_files.h"
#include "tests/formats/zip_files.h"
#include "trivet/data/dataset.h"

namespace trivet {
namespace {

using testing::all_of;
using testing::expect_error;
using testing::gzip;
using testing::idx;
using testing::npy_file;
using testing::read_sample;
using testing::TempDir;

DataFiles file(const std::filesystem::path& path) {
  DataFiles files;
  files.file = path;
  return files;
}

std::string kind_of(const DataFiles& files) {
  const auto source = open_data(files, {});
  return source->fit(all_of(*source), {}).kind;
}

TEST(OpenData, KnowsTheFormByContentAndName) {
  const TempDir dir;
  const std::string npy = npy_file<float>(DType::f32, {2, 1}, {1, 2});
  const std::string arff = "% c\n@attribute a real\n@attribute b real\n@data\n1,2\n";
  const std::string json = "{\"a\": 1, \"b\": 2}\n";
  EXPECT_EQ(kind_of({dir.write("i", idx({2, 1, 1}, std::vector<std::uint8_t>{1, 2})), {}, {}, {}}), "images");
  EXPECT_EQ(kind_of(file(dir.write("a.npy", npy))), "arrays");
  EXPECT_EQ(kind_of(file(dir.write("b.dat", npy))), "arrays");
  EXPECT_EQ(kind_of(file(dir.write("c.npz", testing::zip({{"x.npy", npy}})))), "arrays");
  for (const char* name : {"t.csv", "t.TSV", "t.txt", "t"}) {
    EXPECT_EQ(kind_of(file(dir.write(name, "a,b\n1,2\n"))), "table") << name;
  }
  for (const char* name : {"t.arff", "t.arff.gz", "t"}) {
    EXPECT_EQ(open_data(file(dir.write(name, gzip(arff))), {})->count(), 1) << name;
  }
  for (const char* name : {"t.jsonl", "t.ndjson", "t.json", "t"}) {
    EXPECT_EQ(open_data(file(dir.write(name, json + json)), {})->count(), 2) << name;
  }
  EXPECT_EQ(open_data(file(dir.write("t.csv.gz", gzip("a,b\n1,2\n"))), {})->count(), 1);
}

TEST(OpenData, SaysWhatToDoWithWhatItDoesNotRead) {
  const TempDir dir;
  const auto fails = [&](const std::string& name, const std::string& text,
                         std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::data, parts, [&] { open_data(file(dir.write(name, text)), {}); });
  };
  fails("a.npy.gz", gzip(npy_file<float>(DType::f32, {1}, {1})), {"array inside gzip", "gunzip"});
  fails("a.npy", "1,2\n", {"does not begin as a file of NumPy's"});
  fails("a.json", "[{\"a\": 1}]", {"JSON list", "jq"});
  fails("empty.csv", "", {"no rows"});
  DataFiles both = file(dir.write("t.csv", "a,b\n1,2\n"));
  both.targets = dir.write("y.npy", "");
  expect_error(ErrorCode::data, {"one of its columns"}, [&] { open_data(both, {}); });
  expect_error(ErrorCode::data, {"no data file"}, [&] { open_data({}, {}); });
  expect_error(ErrorCode::io, {"missing.csv"}, [&] { open_data(file(dir / "missing.csv"), {}); });
}

// The tables of Debian's packages weka and python3-sklearn.
class RealTable : public ::testing::Test {
 protected:
  // False, and the test skipped, unless the file is there.
  bool open(const std::filesystem::path& path, const DataConfig& config = {}) {
    if (!std::filesystem::exists(path)) return false;
    source_ = open_data(file(path), config);
    preparation_ = source_->fit(all_of(*source_), config);
    data_ = source_->prepare(preparation_, true);
    return true;
  }
  bool weka(const std::string& name, const DataConfig& config = {}) {
    return open("/usr/share/doc/weka/examples/" + name, config);
  }
  bool sklearn(const std::string& name, const DataConfig& config = {}) {
    return open("/usr/lib/python3/dist-packages/sklearn/datasets/data/" + name, config);
  }
  nlohmann::json column(const std::string& name) const {
    for (const auto& c : preparation_.values["columns"]) {
      if (c["name"] == name) return c;
    }
    return {};
  }
  std::vector<std::int64_t> class_counts() const {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(data_->target().classes));
    for (std::int64_t i = 0; i < data_->count(); ++i) ++counts[static_cast<std::size_t>(data_->label(i))];
    return counts;
  }
  // Every sample can be read, and is finite.
  void read_everything() const {
    for (std::int64_t i = 0; i < data_->count(); ++i) {
      for (const float v : read_sample(*data_, i).x) ASSERT_TRUE(std::isfinite(v)) << "sample " << i;
    }
  }

  std::unique_ptr<DataSource> source_;
  Preparation preparation_;
  std::unique_ptr<Dataset> data_;
};

TEST_F(RealTable, ReadsGermanCredit) {
  if (!weka("credit-g.arff")) GTEST_SKIP() << "Debian's package weka is not installed";
  EXPECT_EQ(data_->count(), 1000);
  EXPECT_EQ(preparation_.values["columns"].size(), 20u);
  EXPECT_EQ(data_->target().class_names, (std::vector<std::string>{"good", "bad"}));
  EXPECT_EQ(class_counts(), (std::vector<std::int64_t>{700, 300}));
  EXPECT_NEAR(column("credit_amount")["mean"].get<double>(), 3271.258, 1e-9);
  read_everything();
}

TEST_F(RealTable, ReadsPima) {
  if (!weka("diabetes.arff")) GTEST_SKIP() << "Debian's package weka is not installed";
  EXPECT_EQ(data_->count(), 768);
  EXPECT_EQ(data_->inputs()[0].shape, (Shape{8}));
  EXPECT_EQ(data_->target().class_names, (std::vector<std::string>{"tested_negative", "tested_positive"}));
  EXPECT_EQ(class_counts(), (std::vector<std::int64_t>{500, 268}));
  EXPECT_NEAR(column("plas")["mean"].get<double>(), 120.894531, 1e-6);
  read_everything();
}

TEST_F(RealTable, ReadsEveryTableOfWeka) {
  const std::filesystem::path folder = "/usr/share/doc/weka/examples";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "Debian's package weka is not installed";
  // Samples, inputs, classes (0: a number).
  const std::map<std::string, std::vector<std::int64_t>> expected{{"breast-cancer.arff", {286, 9, 2}},
                                                                  {"contact-lenses.arff", {24, 4, 3}},
                                                                  {"cpu.arff", {209, 6, 0}},
                                                                  {"cpu.with.vendor.arff", {209, 7, 0}},
                                                                  {"glass.arff", {214, 9, 7}},
                                                                  {"ionosphere.arff", {351, 34, 2}},
                                                                  {"iris.arff", {150, 4, 3}},
                                                                  {"labor.arff", {57, 16, 2}},
                                                                  {"segment-test.arff", {810, 19, 7}},
                                                                  {"soybean.arff", {683, 35, 19}},
                                                                  {"supermarket.arff", {4627, 216, 2}},
                                                                  {"unbalanced.arff", {856, 32, 2}},
                                                                  {"vote.arff", {435, 16, 2}},
                                                                  {"weather.numeric.arff", {14, 4, 2}}};
  for (const auto& [name, sizes] : expected) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(weka(name));
    EXPECT_EQ(data_->count(), sizes[0]);
    const auto inputs = preparation_.values["columns"].size() + preparation_.values["ignored"].size();
    EXPECT_EQ(static_cast<std::int64_t>(inputs), sizes[1]);
    EXPECT_EQ(data_->target().classes, sizes[2]);
    read_everything();
  }
}

TEST_F(RealTable, IgnoresTheTextsOfReuters) {
  const auto path = std::filesystem::path("/usr/share/doc/weka/examples/ReutersCorn-train.arff");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "Debian's package weka is not installed";
  expect_error(ErrorCode::data, {"no column is left", "\"Text\" is ignored", "256 bytes"}, [&] { open(path); });
}

TEST_F(RealTable, ReadsTheTablesOfScikitLearn) {
  if (!sklearn("breast_cancer.csv")) GTEST_SKIP() << "Debian's package python3-sklearn is not installed";
  EXPECT_EQ(data_->count(), 569);
  EXPECT_EQ(data_->inputs()[0].shape, (Shape{30}));
  EXPECT_EQ(data_->target().class_names, (std::vector<std::string>{"malignant", "benign"}));
  EXPECT_EQ(class_counts(), (std::vector<std::int64_t>{212, 357}));
  EXPECT_NEAR(column("column_1")["mean"].get<double>(), 14.127292, 1e-6);
  read_everything();

  ASSERT_TRUE(sklearn("wine_data.csv"));
  EXPECT_EQ(class_counts(), (std::vector<std::int64_t>{59, 71, 48}));
  ASSERT_TRUE(sklearn("iris.csv"));
  EXPECT_EQ(class_counts(), (std::vector<std::int64_t>{50, 50, 50}));

  DataConfig config;
  config.target = "label";
  ASSERT_TRUE(sklearn("digits.csv.gz", config));
  EXPECT_EQ(data_->count(), 1797);
  EXPECT_EQ(data_->target().classes, 10);
  EXPECT_EQ(class_counts()[0], 178);
  EXPECT_EQ(data_->inputs()[0].shape, (Shape{64}));
}

}  // namespace
}  // namespace trivet
