// Data of every form that cannot be trained on, and data that goes away: what is wrong, where, and what comes after.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <limits>

#include "tests/formats/zip_files.h"
#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using ::testing::HasSubstr;

struct Row {
  float u = 0;
  float v = 0;
  int label = 0;
};

constexpr int kDamagedRow = 7;

// Three classes, told by u.
std::vector<Row> good_rows(int count) {
  std::vector<Row> rows;
  DrawSequence draws(11);
  for (int i = 0; i < count; ++i) {
    const float noise = static_cast<float>(draws.below(100)) / 300;
    rows.push_back({static_cast<float>(i % 3) + noise, noise, i % 3});
  }
  return rows;
}

std::string npy_of_rows(const std::vector<Row>& rows) {
  std::string file = npy_header({DType::f32, {static_cast<std::int64_t>(rows.size()), 2}});
  for (const Row& row : rows) {
    for (const float value : {row.u, row.v}) file += little(std::bit_cast<std::uint32_t>(value), 4);
  }
  return file;
}

std::string npy_of_labels(const std::vector<Row>& rows) {
  std::string file = npy_header({DType::i64, {static_cast<std::int64_t>(rows.size())}});
  for (const Row& row : rows) file += little(static_cast<std::uint64_t>(row.label), 8);
  return file;
}

std::string csv_lines(const std::vector<Row>& rows) {
  std::string text;
  for (const Row& row : rows) text += fmt::format("{:.4f},{:.4f},class{}\n", row.u, row.v, row.label);
  return text;
}

std::string json_lines(const std::vector<Row>& rows) {
  std::string text;
  for (const Row& row : rows) {
    const std::string u = std::isfinite(row.u) ? fmt::format("{:.4f}", row.u) : std::isnan(row.u) ? "NaN" : "1e999";
    text += fmt::format("{{\"u\": {}, \"v\": {:.4f}, \"y\": \"class{}\"}}\n", u, row.v, row.label);
  }
  return text;
}

// One form in which rows are written, and what its errors call things.
struct Form {
  std::string name;      // of the file
  std::string nan;       // where and what NaN in kDamagedRow is
  std::string infinite;  // the same for infinity
};

const Form kForms[] = {
    {"rows.csv", "", "rows.csv:9:1: found inf in column \"u\""},
    {"rows.arff", "rows.arff:13:1: found \"nan\" in column \"u\"", "rows.arff:13:1: found inf in column \"u\""},
    {"rows.jsonl", "rows.jsonl:8:", "rows.jsonl:8:"},
    {"rows.npy", "rows.npy: sample 7, element 0: found nan", "rows.npy: sample 7, element 0: found inf"},
    {"rows.npz", "rows.npz(x): sample 7, element 0: found nan", "rows.npz(x): sample 7, element 0: found inf"},
};

class DataTest : public ::testing::Test {
 protected:
  // Returns the job's path.
  std::string write(const std::string& name, const std::vector<Row>& rows, const std::string& more = "") const {
    const std::string x = npy_of_rows(rows), y = npy_of_labels(rows);
    if (name == "rows.csv") folder_.write(name, "u,v,y\n" + csv_lines(rows));
    if (name == "rows.jsonl") folder_.write(name, json_lines(rows));
    if (name == "rows.npz") folder_.write(name, zip({{"x.npy", x}, {"y.npy", y}}));
    if (name == "rows.npy") folder_.write(name, x), folder_.write("targets.npy", y);
    if (name == "rows.arff") {
      folder_.write(name,
                    "@relation r\n@attribute u real\n@attribute v real\n@attribute y {class0,class1,class2}\n"
                    "@data\n" +
                        csv_lines(rows));
    }
    return write_job(fmt::format("file: {}{}", name, name == "rows.npy" ? ", targets: targets.npy" : ""), more);
  }

  std::string write_images(int count, int classes) const {
    const auto n = static_cast<std::int64_t>(count);
    std::vector<std::uint8_t> pixels, labels;
    for (std::int64_t i = 0; i < 36 * n; ++i) pixels.push_back(static_cast<std::uint8_t>(i * 7));
    for (int i = 0; i < count; ++i) labels.push_back(static_cast<std::uint8_t>(i % classes));
    folder_.write("rows.images", idx({n, 6, 6}, pixels));
    folder_.write("rows.labels", idx({n}, labels));
    return write_job("images: rows.images, labels: rows.labels");
  }

  std::string write_job(const std::string& data, const std::string& more = "") const {
    return folder_
        .write("job.yaml", fmt::format("kind: train\nname: rows\nthreads: 1\ndata: {{train: {{{}}}, validation: 0.2}}\n"
                                       "model: {{name: mlp, hidden: [8]}}\ntrain: {{epochs: 2, batch: 16{}}}\n",
                                       data, more))
        .string();
  }

  void expect_failed(const std::string& job, const std::vector<std::string>& parts) const {
    const Ended ended = workspace_.trivet({"run", job});
    EXPECT_EQ(ended.exit_code, 5) << ended.out << ended.err;
    for (const std::string& part : parts) EXPECT_THAT(ended.err, HasSubstr(part));
    EXPECT_THAT(ended.err, HasSubstr("hint: "));
    EXPECT_EQ(workspace_.last_run().at("state"), "FAILED");
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

TEST_F(DataTest, WithoutASampleIsRefused) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(form.name);
    expect_failed(write(form.name, {}), {form.name, form.name.starts_with("rows.np") ? "[0,2]" : "no rows"});
  }
  expect_failed(write_images(0, 1), {"rows.images", "dimension 0 is 0"});
}

TEST_F(DataTest, WithOneClassAloneIsRefused) {
  std::vector<Row> rows = good_rows(40);
  for (Row& row : rows) row.label = 1;
  const std::vector<Row> one = {rows[0]};
  for (const Form& form : kForms) {
    SCOPED_TRACE(form.name);
    expect_failed(write(form.name, rows), {form.name, "alone (32 of them)", "at least two classes"});
    expect_failed(write(form.name, one), {form.name, "alone (1 of them)"});
  }
  expect_failed(write_images(40, 1), {"rows.images", "alone (32 of them)"});
  expect_failed(write_images(1, 1), {"rows.images", "alone (1 of them)"});
}

TEST_F(DataTest, OfOneNumberOrOfConstantOnesCanBeTrainedOn) {
  for (const char* lines : {"a,b,y\n1,2,3.5\n", "a,b,y\n1,2,7\n2,2,7\n3,2,7\n4,2,7\n5,2,7\n6,2,7\n"}) {
    SCOPED_TRACE(lines);
    folder_.write("numbers.csv", lines);
    const Ended ended = workspace_.trivet({"run", write_job("file: numbers.csv")});
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
  }
}

TEST_F(DataTest, WithNumbersThatAreNoneIsRefusedWithTheirPlace) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(form.name);
    std::vector<Row> rows = good_rows(40);
    rows[kDamagedRow].u = std::numeric_limits<float>::infinity();
    expect_failed(write(form.name, rows), {form.infinite});
    rows[kDamagedRow].u = std::numeric_limits<float>::quiet_NaN();
    if (!form.nan.empty()) expect_failed(write(form.name, rows), {form.nan});
  }
  // In a CSV file NaN is a missing value: a mean, unless that is not wanted.
  std::vector<Row> rows = good_rows(40);
  rows[kDamagedRow].u = std::numeric_limits<float>::quiet_NaN();
  const std::string job = write("rows.csv", rows);
  EXPECT_EQ(workspace_.trivet({"run", job}).exit_code, 0);
  const Ended strict = workspace_.trivet({"run", job, "--set", "data.table.missing=error"});
  EXPECT_EQ(strict.exit_code, 5);
  EXPECT_THAT(strict.err, ::testing::AllOf(HasSubstr("rows.csv:9"), HasSubstr("sample 7"), HasSubstr("\"u\"")));
}

TEST_F(DataTest, ThatIsNotThereStartsNothing) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(form.name);
    const std::string job = write(form.name, good_rows(40));
    fs::remove(folder_ / form.name);
    const Ended ended = workspace_.trivet({"run", job});
    EXPECT_EQ(ended.exit_code, 3);
    EXPECT_THAT(ended.err, ::testing::AllOf(HasSubstr("job.yaml:4:"), HasSubstr(form.name)));
    EXPECT_FALSE(fs::exists(workspace_.path()));
  }
}

// A run of arrays in a mapped file, long enough to be met at work.
class LostDataTest : public DataTest {
 protected:
  void SetUp() override {
    job_ = write("rows.npy", good_rows(6000), ", checkpoint: {every_steps: 20}");
    content_ = slurp(data());
    const Ended ended = reference_.trivet({"run", job_});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }

  fs::path data() const { return folder_ / "rows.npy"; }

  // Does it to the data of a run at work; the run's id and how it ended.
  template <class Act>
  std::pair<std::string, Ended> meet(Act act, int wanted) const {
    std::pair<std::string, Ended> result;
    for (int i = 1; i < 9; ++i) {  // a run may be done before
      result.first = fmt::format("r{:04}", i);
      Program program(workspace_.command({"run", job_}));
      wait_while_running(program, [&] { return !checkpoint_steps(workspace_.checkpoints(result.first)).empty(); });
      act();
      result.second = program.wait();
      overwrite(data(), content_);
      if (result.second.exit_code == wanted) break;
    }
    return result;
  }

  void expect_to_go_on(const std::string& id) const {
    const Ended resumed = workspace_.trivet({"resume", id});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("going on from checkpoint"));
    expect_same_outcome(reference_.folder("r0001"), workspace_.folder(id));
  }

  std::string job_;
  std::string content_;
  const Workspace reference_{folder_ / "reference"};
};

TEST_F(LostDataTest, AFileThatIsCutShortWhileItIsMappedIsNamed) {
  const auto [id, ended] = meet([&] { fs::resize_file(data(), 4096); }, 5);
  EXPECT_EQ(ended.exit_code, 5) << ended.out << ended.err;
  EXPECT_THAT(ended.err, ::testing::AllOf(HasSubstr(data().string()), HasSubstr("cut short while it was in use"),
                                          HasSubstr("4096 bytes"), HasSubstr("resume")));
  EXPECT_EQ(workspace_.last_run().at("state"), "FAILED");
  EXPECT_THAT(workspace_.last_run().at("reason").get<std::string>(), HasSubstr("cut short"));
  expect_to_go_on(id);
}

TEST_F(LostDataTest, AFileThatIsRemovedIsStillReadButNotForTheNextAttempt) {
  const auto [id, ended] = meet([&] { fs::remove(data()); }, 0);
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  expect_same_outcome(reference_.folder("r0001"), workspace_.folder(id));

  Ended stopped;
  std::string other;
  for (int i = 0; i < 9 && stopped.exit_code != 75; ++i) {
    other = fmt::format("r{:04}", workspace_.runs().size() + 1);
    Program program(workspace_.command({"run", job_}));
    wait_while_running(program, [&] { return !checkpoint_steps(workspace_.checkpoints(other)).empty(); });
    program.signal(SIGINT);
    stopped = program.wait();
  }
  ASSERT_EQ(stopped.exit_code, 75) << stopped.err;
  fs::remove(data());
  const Ended resumed = workspace_.trivet({"resume", other});
  EXPECT_EQ(resumed.exit_code, 3) << resumed.out;
  EXPECT_THAT(resumed.err, HasSubstr(data().string()));
  overwrite(data(), content_);
  expect_to_go_on(other);
}

}  // namespace
}  // namespace trivet::testing
