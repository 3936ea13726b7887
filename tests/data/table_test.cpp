#include <gmock/gmock.h>

#include "runtime/data/sources.h"
#include "tests/data/read_samples.h"
#include "tests/formats/test_files.h"
#include "trivet/base/hash.h"

namespace trivet {
namespace {

using testing::all_of;
using ::testing::ElementsAre;
using testing::expect_error;
using testing::gzip;
using ::testing::HasSubstr;
using testing::read_sample;
using testing::TempDir;

// The numbers of x of one sample: floats are compared as what they were computed from, rounded once.
std::vector<float> floats(std::initializer_list<double> values) { return {values.begin(), values.end()}; }

class Table : public ::testing::Test {
 protected:
  std::unique_ptr<DataSource> open(const std::string& text, const std::string& name = "t.csv") {
    return open_data(files(text, name), config_);
  }
  DataFiles files(const std::string& text, const std::string& name = "t.csv") {
    DataFiles files;
    files.file = dir_.write(name, text);
    return files;
  }
  // Fitted on all rows.
  std::unique_ptr<Dataset> prepare(const std::string& text, const std::string& name = "t.csv") {
    source_ = open(text, name);
    preparation_ = source_->fit(all_of(*source_), config_);
    return source_->prepare(preparation_, true);
  }
  nlohmann::json learnt(const std::string& text, const std::string& name = "t.csv") {
    const auto source = open(text, name);
    return source->fit(all_of(*source), config_).values;
  }
  void fails(const std::string& text, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::data, parts, [&] { prepare(text); });
  }

  TempDir dir_;
  DataConfig config_;
  std::unique_ptr<DataSource> source_;
  Preparation preparation_;
};

TEST_F(Table, StandardisesNumbersAndSpreadsCategories) {
  const auto data = prepare("age,job,income,class\n20,cook,1,yes\n30,nurse,1.5,no\n40,cook,2,yes\n");
  EXPECT_EQ(data->count(), 3);
  // age, income, then job: unknown, cook, nurse.
  EXPECT_EQ(data->inputs(), (std::vector<Field>{{"x", DType::f32, {5}}}));
  EXPECT_EQ(data->target_field(), (Field{"y", DType::i32, {}}));
  EXPECT_TRUE(data->category_sizes(0).empty());
  const double unit = std::sqrt(1.5);  // of three values at equal distances
  EXPECT_EQ(read_sample(*data, 0).x, floats({-unit, -unit, 0, 1, 0}));
  EXPECT_EQ(read_sample(*data, 1).x, floats({0, 0, 0, 0, 1}));
  EXPECT_EQ(read_sample(*data, 2).x, floats({unit, unit, 0, 1, 0}));
  EXPECT_EQ(data->target().class_names, (std::vector<std::string>{"no", "yes"}));
  EXPECT_EQ(read_sample(*data, 0).label, 1);
  EXPECT_EQ(read_sample(*data, 1).label, 0);
  EXPECT_EQ(data->label(2), 1);
}

TEST_F(Table, GivesCategoriesAsIndicesToModelsThatEmbedThem) {
  config_.table.categories = "indices";
  auto data = prepare("age,job,town,class\n20,cook,b,yes\n30,nurse,,no\n40,cook,a,yes\n");
  EXPECT_EQ(data->inputs(), (std::vector<Field>{{"x", DType::f32, {1}}, {"categories", DType::i32, {2}}}));
  EXPECT_TRUE(data->category_sizes(0).empty());
  EXPECT_THAT(data->category_sizes(1), ElementsAre(3, 4));  // town: unknown, missing, a, b
  EXPECT_THAT(read_sample(*data, 0).categories, ElementsAre(1, 3));
  EXPECT_THAT(read_sample(*data, 1).categories, ElementsAre(2, 1));
  EXPECT_THAT(read_sample(*data, 2).categories, ElementsAre(1, 2));
  data = prepare("job,class\ncook,yes\ncook,no\n");
  EXPECT_EQ(data->inputs(), (std::vector<Field>{{"categories", DType::i32, {1}}}));
}

TEST_F(Table, LearnsFromTheTrainingSamplesAlone) {
  const auto source = open("n,job,class\n1,cook,a\n3,nurse,b\n1000,pilot,a\n");
  const std::vector<std::int64_t> train{0, 1};
  const Preparation preparation = source->fit(train, config_);
  EXPECT_EQ(preparation.kind, "table");
  EXPECT_EQ(preparation.values["columns"][0]["mean"], 2.0);
  EXPECT_EQ(preparation.values["columns"][0]["stddev"], 1.0);
  EXPECT_EQ(preparation.values["columns"][1]["values"], (std::vector<std::string>{"cook", "nurse"}));
  const auto data = source->prepare(preparation, true);
  EXPECT_EQ(read_sample(*data, 2).x, floats({998, 1, 0, 0}));  // pilot is unknown
}

TEST_F(Table, FillsMissingNumbersWithTheMeanAndKeepsMissingCategoriesApart) {
  const auto data = prepare("n,job,class\n1,cook,a\n?,NA,b\n3,nurse,a\n");
  EXPECT_EQ(read_sample(*data, 1).x, floats({0, 0, 1, 0, 0}));  // n, then unknown, missing, cook, nurse
  EXPECT_EQ(read_sample(*data, 2).x, floats({1, 0, 0, 0, 1}));
}

TEST_F(Table, FillsMissingNumbersAlsoWithoutStandardising) {
  config_.normalize = false;
  const auto data = prepare("n,t\n1,5\n,7\n4,9\n");
  EXPECT_EQ(read_sample(*data, 0).x, floats({1}));
  EXPECT_EQ(read_sample(*data, 1).x, floats({2.5}));
  EXPECT_EQ(read_sample(*data, 1).numbers, floats({7}));
}

TEST_F(Table, RefusesMissingValuesIfTold) {
  config_.table.missing = "error";
  fails("n,job,class\n1,cook,a\n,nurse,b\n", {"t.csv:3: ", "sample 1", "\"n\" has no value"});
  fails("n,job,class\n1,cook,a\n2,?,b\n", {"t.csv:3: ", "\"job\" has no value"});
  // Outside of the training samples it is found when the sample is read.
  const auto source = open("n,job,class\n1,cook,a\n,nurse,b\n3,,a\n");
  const auto data = source->prepare(source->fit(std::vector<std::int64_t>{0}, config_), true);
  read_sample(*data, 0);
  expect_error(ErrorCode::data, {"t.csv:3: ", "sample 1", "\"n\""}, [&] { read_sample(*data, 1); });
  expect_error(ErrorCode::data, {"t.csv:4: ", "sample 2", "\"job\""}, [&] { read_sample(*data, 2); });
}

TEST_F(Table, PredictsNumbersInUnitsOfTheirDeviation) {
  const auto data = prepare("a,b\n1,10\n2,30\n");
  EXPECT_EQ(data->target().kind, TargetKind::number);
  EXPECT_THAT(data->target().target_names, ElementsAre("b"));
  EXPECT_THAT(data->target().mean, ElementsAre(20));
  EXPECT_THAT(data->target().stddev, ElementsAre(10));
  EXPECT_EQ(data->target_field(), (Field{"y", DType::f32, {1}}));
  EXPECT_EQ(read_sample(*data, 0).numbers, floats({-1}));
  expect_error(ErrorCode::internal, {"label"}, [&] { data->label(0); });
}

TEST_F(Table, TakesTheNamedColumnAsTarget) {
  config_.table.target = "a";
  const auto data = prepare("a,b\nx,10\ny,30\n");
  EXPECT_EQ(data->target().class_names, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(read_sample(*data, 0).x, floats({-1}));
  config_.table.target = "bb";
  fails("a,b\nx,10\n", {"no column \"bb\"", "was \"b\" meant?"});
}

TEST_F(Table, TakesNumbersForLabelsIfTold) {
  config_.target = "label";
  const auto data = prepare("a,b\n1,10\n2,2\n3,10.0\n");
  EXPECT_EQ(data->target().class_names, (std::vector<std::string>{"2", "10"}));
  EXPECT_EQ(data->label(0), 1);
  EXPECT_EQ(data->label(1), 0);
  EXPECT_EQ(data->label(2), 1);
  config_.classes = 12;
  EXPECT_EQ(prepare("a,b\n1,10\n2,2\n")->target().classes, 12);
  EXPECT_EQ(source_->prepare(preparation_, true)->label(0), 10);
  config_.classes = 10;
  fails("a,b\n1,10\n2,2\n", {"label 10", "0 to 9"});
}

TEST_F(Table, TakesWordsForNumbersOnlyWhereTheyAreNumbers) {
  config_.target = "number";
  fails("a,b\n1,x\n2,3\n", {"t.csv:2:3: ", "\"x\" in column \"b\"", "expected a number"});
}

TEST_F(Table, TakesTheTypesOfTheConfiguration) {
  config_.table.columns = {{"zip", "category"}, {"note", "ignore"}};
  const auto data = prepare("zip,note,n,class\n007,x,1,a\n7,y,2,b\n");
  EXPECT_EQ(preparation_.values["columns"][0]["values"], (std::vector<std::string>{"007", "7"}));
  EXPECT_EQ(data->inputs()[0].shape, (Shape{4}));
  EXPECT_EQ(preparation_.values["ignored"][0]["name"], "note");
  EXPECT_TRUE(preparation_.values["warnings"].empty());
  config_.table.columns = {{"zap", "category"}};
  fails("zip,b\n1,2\n", {"no column \"zap\"", "was \"zip\" meant?"});
  config_.table.columns = {{"zip", "number"}};
  fails("zip,b\nx,2\n", {"t.csv:2:1: ", "\"x\" in column \"zip\""});
  config_.table.columns = {{"b", "ignore"}};
  fails("zip,b\n1,2\n", {"target \"b\" is ignored"});
}

TEST_F(Table, FindsTextFarBelowNumbers) {
  std::string text = "a,b\n";
  for (int i = 0; i < 3000; ++i) text += "1,2\n";
  EXPECT_EQ(learnt(text + "1,2\n")["columns"][0]["type"], "number");
  EXPECT_EQ(learnt(text + "x,2\n")["columns"][0]["type"], "category");
  std::string json;
  for (int i = 0; i < 3000; ++i) json += "{\"a\": 1, \"b\": 2}\n";
  EXPECT_EQ(learnt(json + "{\"a\": \"1\", \"b\": 2}\n", "t.jsonl")["columns"][0]["type"], "category");
  // A column that only later lines have.
  config_.table.target = "b";
  EXPECT_EQ(learnt(json + "{\"c\": \"yes\", \"b\": 3}\n", "t.jsonl")["columns"][1]["name"], "c");
}

TEST_F(Table, GivesConstantColumnsTheDeviationOne) {
  const auto data = prepare("c,n,class\n0.1,1,a\n0.1,2,b\n0.1,3,a\n");
  EXPECT_EQ(read_sample(*data, 1).x, floats({0, 0}));
  EXPECT_THAT(preparation_.values["warnings"][0].get<std::string>(), HasSubstr("\"c\" has one value"));
}

TEST_F(Table, IgnoresColumnsWithoutValuesAndThoseThatNameThings) {
  std::string text = "id,empty,n,class\n";
  for (int i = 0; i < 30; ++i) text += fmt::format("k{},,{},{}\n", i, i % 7, i % 2 ? "a" : "b");
  const auto data = prepare(text);
  EXPECT_EQ(data->inputs()[0].shape, (Shape{1}));
  const auto& warnings = preparation_.values["warnings"];
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_THAT(warnings[0].get<std::string>(), HasSubstr("\"id\" is ignored: each of its 30 values"));
  EXPECT_THAT(warnings[1].get<std::string>(), HasSubstr("\"empty\" is ignored: it has no values"));
  config_.table.columns = {{"id", "category"}};
  EXPECT_EQ(prepare(text)->inputs()[0].shape, (Shape{32}));
}

TEST_F(Table, IgnoresFreeTextAndColumnsOfTooManyValues) {
  std::string text = "note,many,n,class\n";
  for (int i = 0; i < 70000; ++i) {
    text += fmt::format("{},k{},{},a\n", std::string(i == 69999 ? 300 : 3, 'x'), i % 66000, i % 10);
  }
  prepare(text);
  const auto& ignored = preparation_.values["ignored"];
  ASSERT_EQ(ignored.size(), 2u);
  EXPECT_THAT(ignored[0]["reason"].get<std::string>(), HasSubstr("more than 256 bytes"));
  EXPECT_THAT(ignored[1]["reason"].get<std::string>(), HasSubstr("more than 65536 different"));
  config_.table.columns = {{"note", "category"}};
  fails(text, {"t.csv:70001:1: ", "\"note\" cannot be a category"});
}

TEST_F(Table, RefusesATableWithNothingToLearnFrom) {
  fails("", {"holds no rows"});
  fails("a,b\n", {"holds no rows"});
  fails("class\nx\ny\n", {"no column is left"});
  fails("a,class\n,x\n,y\n", {"no column is left", "\"a\" is ignored"});
  expect_error(ErrorCode::data, {"no columns"}, [&] { prepare("{}\n{}\n", "t.jsonl"); });
  const auto source = open("a,b\n1,2\n");
  expect_error(ErrorCode::data, {"no samples"}, [&] { source->fit({}, config_); });
  expect_error(ErrorCode::data, {"sample 1 is out of range"}, [&] {
    source->fit(std::vector<std::int64_t>{0, 1}, config_);
  });
}

TEST_F(Table, WorksWithOneRowAndWithOneClass) {
  const auto one = prepare("n,job,class\n5,cook,a\n");
  EXPECT_EQ(read_sample(*one, 0).x, floats({0, 0, 1}));
  EXPECT_EQ(one->target().classes, 1);
  const auto same = prepare("n,class\n5,a\n6,a\n");
  EXPECT_EQ(same->target().classes, 1);
  EXPECT_THAT(preparation_.values["warnings"][0].get<std::string>(), HasSubstr("one class"));
}

TEST_F(Table, RefusesNumbersThatAreNotFinite) {
  fails("n,class\n1,a\ninf,b\n", {"t.csv:3:1: ", "inf in column \"n\"", "finite"});
  fails("n,class\n1,a\n-1e999,b\n", {"t.csv:3:1: ", "-1e999"});
  // Words that only look like it are categories.
  EXPECT_EQ(learnt("n,class\ninf,a\nsup,b\n")["columns"][0]["type"], "category");
}

TEST_F(Table, RefusesNumbersTooLargeForTheModel) {
  fails("n,class\n1e308,a\n-1e308,b\n", {"\"n\"", "too large to standardise"});
  config_.normalize = false;
  const auto data = prepare("n,class\n1,a\n1e39,b\n");
  expect_error(ErrorCode::data, {"t.csv:3: ", "sample 1", "1e+39 in column \"n\""}, [&] { read_sample(*data, 1); });
}

TEST_F(Table, RefusesMissingAndUnknownTargets) {
  fails("n,class\n1,a\n2,\n", {"t.csv:3: ", "sample 1", "\"class\" has no value"});
  fails("n,t\n1,5\n2,\n", {"t.csv:3: ", "\"t\" has no value"});
  prepare("n,class\n1,a\n2,b\n");
  const auto other = open("n,class\n1,a\n2,c\n", "other.csv");
  expect_error(ErrorCode::data, {"other.csv:3: ", "sample 1", "\"c\"", "none of the 2 classes"},
               [&] { other->prepare(preparation_, true); });
  other->prepare(preparation_, false);
}

TEST_F(Table, PreparesNewDataAsItPreparedTheOld) {
  prepare("age,job,class\n20,cook,yes\n40,nurse,no\n");
  // Other order, another column, no target; an unknown category and a missing value.
  const auto fresh = open("job,extra,age\npilot,1,60\n,2,\nnurse,3,20\n", "new.csv");
  EXPECT_FALSE(fresh->has_target(preparation_));
  EXPECT_TRUE(source_->has_target(preparation_));
  const auto data = fresh->prepare(preparation_, false);
  EXPECT_EQ(data->target_field(), std::nullopt);
  EXPECT_EQ(data->target().kind, TargetKind::none);
  EXPECT_EQ(read_sample(*data, 0).x, floats({3, 1, 0, 0}));
  EXPECT_EQ(read_sample(*data, 1).x, floats({0, 1, 0, 0}));
  EXPECT_EQ(read_sample(*data, 2).x, floats({-1, 0, 0, 1}));
  expect_error(ErrorCode::data, {"new.csv has no column \"class\", the target"},
               [&] { fresh->prepare(preparation_, true); });
  const auto short_of = open("age,jobs\n20,cook\n", "short.csv");
  expect_error(ErrorCode::data, {"no column \"job\", which the model was trained with", "\"jobs\""},
               [&] { short_of->prepare(preparation_, false); });
}

TEST_F(Table, ReadsNewDataWithTheTypesOfTheOld) {
  config_.table.columns = {{"zip", "category"}};
  prepare("zip,n,class\n007,1,a\n010,2,b\nx,3,a\n");
  config_.table.columns.clear();
  // By themselves these look like numbers, and like nothing.
  const auto fresh = open("zip,n\n010,1\n7,\n", "new.csv");
  const auto data = fresh->prepare(preparation_, false);
  const auto zip = [&](std::int64_t i) {  // unknown, 007, 010, x
    const std::vector<float> x = read_sample(*data, i).x;
    return std::vector<float>(x.begin() + 1, x.end());
  };
  EXPECT_EQ(zip(0), floats({0, 0, 1, 0}));
  EXPECT_EQ(zip(1), floats({1, 0, 0, 0}));
  const auto wrong = open("zip,n\n010,1\n7,many\n", "wrong.csv");
  expect_error(ErrorCode::data, {"wrong.csv:3:3: ", "\"many\" in column \"n\""},
               [&] { wrong->prepare(preparation_, false); });
}

TEST_F(Table, SaysSoIfTheFileChangesMeanwhile) {
  config_.table.columns = {{"zip", "category"}};
  prepare("zip,class\n1,a\n2,b\n");
  config_.table.columns.clear();
  const auto fresh = open("zip,class\n1,a\n", "new.csv");
  dir_.write("new.csv", "zip,class\n2,a\n");
  expect_error(ErrorCode::data, {"new.csv has changed"}, [&] { fresh->prepare(preparation_, false); });
}

TEST_F(Table, KeepsArffsOrderOfValues) {
  const auto data = prepare(
      "@relation r\n@attribute n numeric\n@attribute c {z,y,x}\n@attribute class {no,yes,never}\n"
      "@data\n% note\n1,x,yes\n2,z,no\n",
      "t.arff");
  EXPECT_EQ(data->target().class_names, (std::vector<std::string>{"no", "yes", "never"}));
  EXPECT_EQ(preparation_.values["columns"][1]["values"], (std::vector<std::string>{"z", "x"}));
  EXPECT_EQ(data->label(0), 1);
  expect_error(ErrorCode::data, {"t.arff:4:3: ", "\"maybe\"", "2 values declared for \"c\""},
               [&] { prepare("@attribute n real\n@attribute c {yes,no}\n@data\n1,maybe\n", "t.arff"); });
  expect_error(ErrorCode::data, {"t.arff:4:1: ", "\"x\" in column \"n\""},
               [&] { prepare("@attribute n real\n@attribute c {yes,no}\n@data\nx,no\n", "t.arff"); });
}

TEST_F(Table, IgnoresDates) {
  prepare("@attribute d date\n@attribute n real\n@attribute c {yes,no}\n@data\n\"2001\",1,no\n\"2002\",2,yes\n",
          "t.arff");
  EXPECT_EQ(preparation_.values["ignored"][0]["reason"], "it is a date");
}

TEST_F(Table, NamesTheLineOfARowAfterCommentsAndLineEndsInCells) {
  const auto source = open("n,s,class\n1,\"a\nb\",x\n\n\n2,c,x\n3,d,\n");
  const auto preparation = source->fit(std::vector<std::int64_t>{0, 1}, config_);
  expect_error(ErrorCode::data, {"t.csv:7: ", "sample 2"}, [&] { source->prepare(preparation, true); });
}

TEST_F(Table, ShowsSamplesAsTheFileHasThem) {
  const auto data = prepare("age,job,class\n20.5,cook,yes\n,nurse,no\n");
  using Columns = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(data->show(0).columns, (Columns{{"age", "20.5"}, {"job", "cook"}}));
  EXPECT_EQ(data->show(1).columns, (Columns{{"age", ""}, {"job", "nurse"}}));
  EXPECT_TRUE(data->show(0).pixels.empty());
}

TEST_F(Table, HasTheDigestOfItsText) {
  const std::string text = "a,b\n1,2\n";
  EXPECT_EQ(open(text)->digest(), sha256_hex(text));
  EXPECT_EQ(open(gzip(text), "t.csv.gz")->digest(), sha256_hex(text));
}

TEST_F(Table, KeepsItsPreparationThroughJson) {
  config_.table.categories = "indices";
  prepare("age,job,class\n20,cook,yes\n40,,no\n30,\"it's \"\"\",no\n");
  const Preparation again{"table", nlohmann::json::parse(preparation_.values.dump())};
  const auto a = source_->prepare(preparation_, true), b = source_->prepare(again, true);
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read_sample(*a, i).x, read_sample(*b, i).x);
    EXPECT_EQ(read_sample(*a, i).categories, read_sample(*b, i).categories);
    EXPECT_EQ(read_sample(*a, i).label, read_sample(*b, i).label);
  }
}

TEST_F(Table, RefusesAPreparationOfAnotherKindOrADamagedOne) {
  prepare("age,job,class\n20,cook,yes\n40,nurse,no\n");
  expect_error(ErrorCode::data, {"is a table", "\"images\""}, [&] { source_->prepare({"images", {}}, false); });
  const auto damaged = [&](const auto& change) {
    Preparation p = preparation_;
    change(p.values);
    expect_error(ErrorCode::checkpoint, {"preparation of the table"}, [&] { source_->prepare(p, false); });
  };
  damaged([](nlohmann::json& v) { v.erase("columns"); });
  damaged([](nlohmann::json& v) { v = 5; });
  damaged([](nlohmann::json& v) { v["columns"] = nlohmann::json::array(); });
  damaged([](nlohmann::json& v) { v["columns"][0]["stddev"] = 0; });
  damaged([](nlohmann::json& v) { v["columns"][0]["mean"] = nullptr; });
  damaged([](nlohmann::json& v) { v["columns"][1]["type"] = "wish"; });
  damaged([](nlohmann::json& v) { v["columns"][1]["values"] = "cook"; });
  damaged([](nlohmann::json& v) { v["target"].erase("kind"); });
}

TEST_F(Table, RefusesAugmentation) {
  config_.augment.flip = true;
  fails("a,b\n1,2\n", {"is a table", "for images"});
}

TEST_F(Table, ReadsTheSameFromAFileBeyondItsMemoryLimit) {
  std::string text = "a,b,c,class\n";
  for (int i = 0; i < 5000; ++i) {
    text += fmt::format("{},{},w{},{}\n", i * 0.37, i % 11 ? std::to_string(i) : "", i % 50, i % 3 ? "yes" : "no");
  }
  TableFile file{dir_.write("t.csv", text), TableForm::csv};
  const auto in_memory = open_table(file, config_);
  file.memory_limit = 10000;
  const auto in_file = open_table(file, config_);
  EXPECT_GT(in_memory->resident_bytes(), 5000u * 20);
  EXPECT_LT(in_file->resident_bytes(), 10000u);
  EXPECT_EQ(in_memory->digest(), in_file->digest());
  const Preparation preparation = in_memory->fit(all_of(*in_memory), config_);
  EXPECT_EQ(preparation.values, in_file->fit(all_of(*in_file), config_).values);
  const auto a = in_memory->prepare(preparation, true), b = in_file->prepare(preparation, true);
  for (const std::int64_t i : {0, 1, 2500, 4999}) EXPECT_EQ(read_sample(*a, i).x, read_sample(*b, i).x);
  expect_error(ErrorCode::data, {"sample 5000 is out of range"}, [&] { read_sample(*a, 5000); });
}

}  // namespace
}  // namespace trivet
