// What is wrong with a command line, a job file or its data: the exit code, the words, and nothing half done.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using ::testing::HasSubstr;

class BadInputTest : public ::testing::Test {
 protected:
  void SetUp() override { write_small_set(folder_, "train", 60); }
  void TearDown() override { EXPECT_EQ(half_written(folder_.path()), std::vector<fs::path>{}); }

  void expect(const std::vector<std::string>& arguments, int exit_code, const std::vector<std::string>& parts) const {
    SCOPED_TRACE(fmt::format("trivet {}", fmt::join(arguments, " ")));
    const Ended ended = workspace_.trivet(arguments);
    EXPECT_EQ(ended.exit_code, exit_code) << ended.out << ended.err;
    for (const std::string& part : parts) EXPECT_THAT(ended.err, HasSubstr(part));
    EXPECT_THAT(ended.err, ::testing::Not(HasSubstr("internal error")));
  }

  // A job file with `from` replaced by `to`.
  std::string job(const std::string& from = "", const std::string& to = "") const {
    std::string text = cnn_job();
    const std::size_t at = text.find(from);
    if (at == std::string::npos) throw std::logic_error("the job has no " + from);
    return folder_.write("job.yaml", text.replace(at, from.size(), to)).string();
  }

  // Refused before anything is recorded.
  void expect_refused(const std::vector<std::string>& arguments, int exit_code,
                      const std::vector<std::string>& parts) const {
    expect(arguments, exit_code, parts);
    EXPECT_FALSE(fs::exists(workspace_.path()));
  }

  // Its worker fails with this message, which `trivet runs` keeps.
  void expect_failed_run(const std::vector<std::string>& arguments, int exit_code,
                         const std::vector<std::string>& parts) const {
    expect(arguments, exit_code, parts);
    const nlohmann::json last = workspace_.last_run();
    EXPECT_EQ(last.at("state"), "FAILED");
    EXPECT_EQ(last.at("exit_code"), exit_code);
    for (const std::string& part : parts) EXPECT_THAT(last.at("reason").get<std::string>(), HasSubstr(part));
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

TEST_F(BadInputTest, TheCommandLine) {
  expect_refused({}, 2, {"subcommand is required", "--help"});
  expect_refused({"train"}, 2, {"--help"});
  expect_refused({"run"}, 2, {"job is required"});
  expect_refused({"run", job(), "--sett", "a=b"}, 2, {"--sett"});
  expect_refused({"run", job(), "again.yaml"}, 2, {"again.yaml"});
  expect_refused({"run", job(), "--set"}, 2, {"--set"});
  expect_refused({"runs"}, 2, {"there is no workspace at", workspace_.path().string()});
  expect_refused({"resume", "r0001"}, 2, {"there is no workspace at"});
  expect_refused({"show", "r0001"}, 2, {"there is no workspace at"});
}

TEST_F(BadInputTest, ARunThatIsNotThereOrDone) {
  ASSERT_EQ(workspace_.trivet({"run", job(), "--set", "train.epochs=1"}).exit_code, 0);
  expect({"show", "cnm"}, 2, {"'cnm'", "'cnn'"});
  expect({"resume", "r0007"}, 2, {"r0007", "did you mean 'r0001'"});
  expect({"resume", "something"}, 2, {"something", "trivet runs"});
  expect({"compare", "r0001", "r0007"}, 2, {"r0007"});
  expect({"resume", "r0001"}, 10, {"r0001", "COMPLETED"});
}

TEST_F(BadInputTest, AJobFileThatIsNone) {
  const std::string missing = (folder_ / "missing.yaml").string();
  expect_refused({"run", missing}, 7, {missing, "No such file"});
  expect_refused({"run", folder_.path().string()}, 7, {folder_.path().string(), "not a regular file"});
  expect_refused({"run", folder_.write("empty.yaml", "").string()}, 3, {"empty.yaml:1:1", "empty"});
  expect_refused({"run", folder_
                             .write("binary.yaml", std::string("\x7f"
                                                               "ELF\x02\x01\x00\x00",
                                                               8))
                             .string()},
                 3, {"binary.yaml:1:1", "0x7f"});
  expect_refused({"run", folder_.write("large.yaml", std::string(2 << 20, '#')).string()}, 7,
                 {"large.yaml", "1.0 MiB"});
  expect_refused({"run", folder_.write("list.yaml", "- a\n- b\n").string()}, 3, {"list.yaml:1:1"});
  expect_refused({"plan", missing}, 7, {missing});
}

TEST_F(BadInputTest, AKeyOrValueOfTheJobFile) {
  expect_refused({"run", job("batch: 32", "bacth: 32")}, 3, {"job.yaml:12:3", "'bacth'", "did you mean 'batch'"});
  expect_refused({"run", job("batch: 32", "batch: many")}, 3, {"job.yaml:12:10", "train.batch", "integer", "'many'"});
  expect_refused({"run", job("batch: 32", "batch: 0")}, 3,
                 {"job.yaml:12:10", "train.batch", "from 1 to 1000000", "found 0"});
  expect_refused({"run", job("lr: 0.05", "lr: .nan")}, 3, {"job.yaml:14:", "train.optimizer.lr"});
  expect_refused({"run", job("train.images", "other.images")}, 3,
                 {"job.yaml:6:19", "data.train.images", "other.images"});
  expect_refused({"run", job("kind: train\n", "")}, 3, {"job.yaml", "kind"});
  expect_refused({"run", job("batch: 32", "batch: 32\n  batch: 32")}, 3, {"job.yaml:13:3", "batch"});
  expect_refused({"run", job("name: cnn\n", "name: ../../cnn\n")}, 3, {"job.yaml:2:7", "../../cnn"});
  expect_refused({"run", job(), "--set", "train.epoch=3"}, 3, {"--set train.epoch=3", "did you mean 'epochs'"});
  expect_refused({"run", job(), "--set", "device=tpu"}, 3, {"--set device=tpu", "cpu", "cuda"});
}

TEST_F(BadInputTest, ImagesThatAreCutShort) {
  const std::string plain = slurp(folder_ / "train.images");
  folder_.write("cut.images", plain.substr(0, plain.size() - 100));
  expect_failed_run({"run", job("train.images", "cut.images")}, 5,
                    {"cut.images", "truncated", std::to_string(plain.size() - 100)});
  const std::string packed = gzip(plain);
  folder_.write("cut.images.gz", packed.substr(0, packed.size() / 2));
  expect_failed_run({"run", job("train.images", "cut.images.gz")}, 5,
                    {"cut.images.gz", "truncated", std::to_string(packed.size() / 2)});
  folder_.write("whole.images.gz", packed);
  EXPECT_EQ(workspace_.trivet({"run", job("train.images", "whole.images.gz"), "--set", "train.epochs=1"}).exit_code, 0);
}

TEST_F(BadInputTest, LabelsThatDoNotFit) {
  expect_failed_run({"run", job("dropout: 0.2", "dropout: 0.2, classes: 5")}, 5,
                    {"train.labels", "sample", "label", "5 classes"});
  write_small_set(folder_, "more", 61);
  expect_failed_run({"run", job("train.labels", "more.labels")}, 5, {"60 images", "61 labels"});
  expect_failed_run({"run", job("train.labels", "train.images")}, 5, {"train.images"});
}

TEST_F(BadInputTest, AModelThatDoesNotFitItsImages) {
  const std::string text = R"(kind: train
name: small
data: {train: {images: train.images, labels: train.labels}}
model:
  name: layers
  layers: [{type: conv, filters: 2, kernel: 13, padding: valid}, {type: flatten}, {type: dense, units: 10}]
)";
  expect({"run", folder_.write("layers.yaml", text).string()}, 4, {"13", "12"});
}

TEST_F(BadInputTest, AWorkspaceThatCannotBe) {
  const std::string below_a_file = (folder_ / "train.images" / "runs").string();
  const Ended ended = trivet({"--workspace", below_a_file, "run", job()});
  EXPECT_EQ(ended.exit_code, 7);
  EXPECT_THAT(ended.err, ::testing::AllOf(HasSubstr(below_a_file), HasSubstr("Not a directory")));
  folder_.write("trivet.db", "no database at all, but long enough to be read as the header of one, which it is not.");
  const Ended other = trivet({"--workspace", folder_.path().string(), "runs"});
  EXPECT_EQ(other.exit_code, 7);
  EXPECT_THAT(other.err, HasSubstr("trivet.db"));
}

TEST_F(BadInputTest, AResumedRunMustBeAsItWas) {
  folder_.write("cut.images", slurp(folder_ / "train.images").substr(0, 1000));
  expect_failed_run({"run", job("train.images", "cut.images")}, 5, {"cut.images"});
  const fs::path file = workspace_.folder("r0001") / "job.yaml";
  folder_.write("runs/" + file.parent_path().filename().string() + "/job.yaml", slurp(file) + "# changed\n");
  expect({"resume", "r0001"}, 10, {"job.yaml was changed"});
  fs::remove(file);
  expect({"resume", "r0001"}, 10, {"job.yaml is gone"});
}

}  // namespace
}  // namespace trivet::testing
