// Batch inference from the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"
#include "trivet/formats/npy.h"

namespace trivet::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::int64_t kTestSamples = 150;

struct CsvRow {
  int index = -1, predicted = -1, label = -1;
  float confidence = -1;
};

std::vector<CsvRow> read_csv(const fs::path& path) {
  std::vector<CsvRow> rows;
  std::istringstream lines(slurp(path));
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "index,predicted,confidence,label\r");
  while (std::getline(lines, line)) {
    CsvRow row;
    char end = 0;
    const int fields =
        std::sscanf(line.c_str(), "%d,%d,%f,%d%c", &row.index, &row.predicted, &row.confidence, &row.label, &end);
    EXPECT_TRUE(fields == 5 && end == '\r') << line;
    rows.push_back(row);
  }
  return rows;
}

class InferTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_set(folder_, "train", 240);
    write_small_set(folder_, "test", kTestSamples, 12, 6);
    const Ended trained = workspace_.trivet({"run", folder_.write("train.yaml", cnn_job()).string()});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    job_ = folder_.write("infer.yaml", infer_job("cnn"));
  }

  std::vector<std::string> command(std::vector<std::string> sets) const {
    std::vector<std::string> words = {"run", job_.string()};
    for (std::string& set : sets) words.insert(words.end(), {"--set", std::move(set)});
    return words;
  }

  // Predicts into a file of that name.
  fs::path predict(const std::string& name, std::vector<std::string> sets = {}) const {
    sets.push_back("infer.output=" + (folder_ / name).string());
    const Ended ended = workspace_.trivet(command(std::move(sets)));
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return folder_ / name;
  }

  // Predicts into a file that is there already, which must not change.
  Ended fail_to_predict(std::vector<std::string> sets, const ProgramOptions& options = {}) const {
    const fs::path output = folder_.write("old.csv", "as it was\n");
    sets.push_back("infer.output=" + output.string());
    Ended ended = workspace_.trivet(command(std::move(sets)), options);
    EXPECT_EQ(slurp(output), "as it was\n");
    EXPECT_EQ(half_written(folder_.path()), std::vector<fs::path>{});
    return ended;
  }

  // A run whose best checkpoint is not the last.
  Workspace train_easy() const {
    const Workspace workspace(folder_ / "easy");
    const Ended ended = workspace.trivet({"run", folder_.write("easy.yaml", easy_job()).string()});
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return workspace;
  }

  json last_run() const { return workspace_.last_run(); }
  json trained() const { return workspace_.runs().front().at("result"); }
  fs::path checkpoints() const { return workspace_.checkpoints("r0001"); }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
  fs::path job_;
};

TEST_F(InferTest, TheAccuracyIsThatOfTheTable) {
  const Ended ended = workspace_.trivet(command({}));
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  const std::vector<CsvRow> rows = read_csv(workspace_.folder("r0002") / "predictions.csv");
  const SmallSet expected = small_set(kTestSamples, 12, 6);
  ASSERT_EQ(rows.size(), static_cast<std::size_t>(kTestSamples));
  int correct = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].index, static_cast<int>(i));
    EXPECT_EQ(rows[i].label, expected.labels[i]);
    EXPECT_TRUE(rows[i].confidence >= 0.1f && rows[i].confidence <= 1.0f) << i << ": " << rows[i].confidence;
    correct += rows[i].predicted == rows[i].label ? 1 : 0;
  }
  const double accuracy = correct / static_cast<double>(kTestSamples);
  EXPECT_GT(accuracy, 0.3) << "no better than chance";
  EXPECT_THAT(ended.out, HasSubstr(fmt::format("accuracy {:.2f} %", 100 * accuracy)));
  EXPECT_EQ(last_run().at("result").at("accuracy").get<double>(), accuracy);
  EXPECT_EQ(last_run().at("result").at("samples"), kTestSamples);
}

TEST_F(InferTest, TheThreeFormatsAgree) {
  const std::vector<CsvRow> rows = read_csv(predict("p.csv"));
  const Tensor all = read_npy(predict("p.npy", {"infer.format=npy"}));
  ASSERT_EQ(all.type.shape, (Shape{kTestSamples, 10}));
  std::istringstream lines(slurp(predict("p.jsonl", {"infer.format=jsonl"})));
  std::string line;
  std::size_t i = 0;
  for (; std::getline(lines, line); ++i) {
    const json object = json::parse(line);
    std::vector<float> expected(10);
    std::memcpy(expected.data(), all.data.data() + i * 10 * sizeof(float), 10 * sizeof(float));
    EXPECT_EQ(object.at("probabilities").get<std::vector<float>>(), expected);
    EXPECT_NEAR(std::accumulate(expected.begin(), expected.end(), 0.0), 1.0, 1e-5);
    const auto best = std::max_element(expected.begin(), expected.end());
    EXPECT_EQ(object.at("predicted"), best - expected.begin());
    EXPECT_EQ(object.at("confidence").get<float>(), *best);
    ASSERT_LT(i, rows.size());
    EXPECT_EQ(object.at("index"), rows[i].index);
    EXPECT_EQ(object.at("predicted"), rows[i].predicted);
    EXPECT_EQ(object.at("confidence").get<float>(), rows[i].confidence);
    EXPECT_EQ(object.at("label"), rows[i].label);
  }
  EXPECT_EQ(i, rows.size());
}

TEST_F(InferTest, TheBatchSizeDoesNotMatter) {
  const Tensor small = read_npy(predict("7.npy", {"infer.format=npy", "infer.batch=7"}));
  const Tensor large = read_npy(predict("256.npy", {"infer.format=npy", "infer.batch=256"}));
  ASSERT_EQ(small.type.shape, large.type.shape);
  for (std::size_t at = 0; at < small.data.size(); at += sizeof(float)) {
    float a = -1, b = -2;
    std::memcpy(&a, small.data.data() + at, sizeof a);
    std::memcpy(&b, large.data.data() + at, sizeof b);
    ASSERT_NEAR(a, b, 1e-6) << "element " << at / sizeof(float);
  }
}

TEST_F(InferTest, ARunIsNamedByIdNameFolderOrCheckpoint) {
  const std::string expected = slurp(predict("name.csv"));
  EXPECT_FALSE(expected.empty());
  const fs::path best = checkpoint_path(checkpoints(), trained().at("checkpoint").get<int>());
  EXPECT_EQ(slurp(predict("id.csv", {"infer.run=r0001"})), expected);
  EXPECT_EQ(slurp(predict("folder.csv", {"infer.run=" + workspace_.folder("r0001").string()})), expected);
  EXPECT_EQ(slurp(predict("checkpoint.csv", {"infer.run=" + best.string()})), expected);
}

TEST_F(InferTest, AnExportedModelGivesAlmostTheSamePredictions) {
  const std::string folder = (folder_ / "model").string();
  const Ended exported = workspace_.trivet({"export", "cnn", "--output", folder, "--weights", "f16"});
  ASSERT_EQ(exported.exit_code, 0) << exported.err;
  EXPECT_THAT(exported.out, AllOf(HasSubstr("weights in f16"), HasSubstr("KiB")));
  const auto size = [](const fs::path& path) { return static_cast<double>(fs::file_size(path / "model.safetensors")); };
  const fs::path best = checkpoint_path(checkpoints(), trained().at("checkpoint").get<int>());
  EXPECT_LT(size(folder_ / "model"), 0.6 * size(best));
  const Tensor whole = read_npy(predict("whole.npy", {"infer.format=npy"}));
  const Tensor half = read_npy(predict("half.npy", {"infer.format=npy", "infer.run=" + folder}));
  ASSERT_EQ(whole.type, half.type);
  EXPECT_NE(whole.data, half.data);
  for (std::size_t i = 0; i < whole.as<float>().size(); ++i) {
    ASSERT_NEAR(whole.as<float>()[i], half.as<float>()[i], 0.01) << "element " << i;
  }
  const Ended again = workspace_.trivet({"export", "cnn", "--output", folder});
  EXPECT_EQ(again.exit_code, 7) << again.out;
  EXPECT_THAT(again.err, HasSubstr("there already"));
}

TEST_F(InferTest, In8BitsTheRangesAreThoseOfTheTrainingData) {
  const Tensor whole = read_npy(predict("whole.npy", {"infer.format=npy"}));
  const Ended ended = workspace_.trivet(command({"infer.precision=int8", "infer.format=npy"}));
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("int8: ranges are those of"), HasSubstr("train.images")));
  const Tensor bytes = read_npy(workspace_.folder("r0003") / "predictions.npy");
  ASSERT_EQ(whole.type, bytes.type);
  for (std::size_t i = 0; i < whole.as<float>().size(); ++i) {
    ASSERT_NEAR(whole.as<float>()[i], bytes.as<float>()[i], 0.1) << "element " << i;
  }
}

TEST_F(InferTest, WithoutLabelsThereIsNoAccuracy) {
  const fs::path job = folder_.write(
      "bare.yaml", "kind: infer\nname: bare\nthreads: 1\ndata: {images: test.images}\ninfer: {run: cnn}\n");
  const Ended ended = workspace_.trivet({"run", job.string()});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.out, ::testing::Not(HasSubstr("accuracy")));
  EXPECT_TRUE(slurp(workspace_.folder("r0002") / "predictions.csv").starts_with("index,predicted,confidence\r\n0,"));
}

TEST_F(InferTest, ADamagedBestCheckpointIsRefusedNotReplaced) {
  const Workspace easy = train_easy();
  const nlohmann::json result = easy.runs().front().at("result");
  const int best = result.at("checkpoint").get<int>();
  ASSERT_LT(best, result.at("steps").get<int>());
  const std::string run = "infer.run=" + easy.folder("r0001").string();
  const fs::path file = checkpoint_path(easy.checkpoints("r0001"), best) / "model.safetensors";
  flip_last_byte(file);
  const Ended refused = fail_to_predict({run});
  EXPECT_EQ(refused.exit_code, 6) << refused.out;
  EXPECT_THAT(refused.err, AllOf(HasSubstr(file.string()), HasSubstr("does not match its SHA-256")));
  predict("last.csv", {run, "infer.checkpoint=last"});
}

TEST_F(InferTest, ADamagedLastCheckpointIsRefusedNotReplaced) {
  // The newest checkpoint alone knows which one is the best, so that cannot be told either.
  const fs::path file = checkpoint_path(checkpoints(), trained().at("steps").get<int>()) / "model.safetensors";
  flip_last_byte(file);
  for (const char* which : {"infer.checkpoint=last", "infer.checkpoint=best"}) {
    const Ended refused = fail_to_predict({which});
    EXPECT_EQ(refused.exit_code, 6) << refused.out;
    EXPECT_THAT(refused.err, AllOf(HasSubstr(file.string()), HasSubstr("does not match its SHA-256")));
  }
}

TEST_F(InferTest, ImagesOfAnotherShapeAreRefused) {
  write_small_set(folder_, "wide", 20, 14);
  const Ended ended = fail_to_predict({"data.images=wide.images", "data.labels=wide.labels"});
  EXPECT_EQ(ended.exit_code, 5) << ended.out;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("wide.images"), HasSubstr("14"), HasSubstr("12"), HasSubstr("trained on")));
}

TEST_F(InferTest, AnUnknownRunIsRefusedWithTheNearestName) {
  const Ended ended = fail_to_predict({"infer.run=cn2"});
  EXPECT_EQ(ended.exit_code, 2) << ended.out;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("cn2"), HasSubstr("cnn")));
}

TEST_F(InferTest, WhatItReadsIsNotOverwritten) {
  for (const char* input : {"test.images", "test.labels"}) {
    const std::string before = slurp(folder_ / input);
    const Ended ended = workspace_.trivet(command({"infer.output=" + (folder_ / "." / input).string()}));
    EXPECT_EQ(ended.exit_code, 3) << ended.out;
    EXPECT_THAT(ended.err, AllOf(HasSubstr("infer.output"), HasSubstr(input)));
    EXPECT_TRUE(slurp(folder_ / input) == before) << input << " was overwritten";
  }
}

TEST_F(InferTest, AFullDiskLeavesTheOldFile) {
  write_small_set(folder_, "many", 40'000);
  const Ended ended = fail_to_predict({"data.images=many.images", "data.labels=many.labels"}, {.file_limit = 300'000});
  EXPECT_EQ(ended.exit_code, 7) << ended.out;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("old.csv"), HasSubstr("File too large")));
}

TEST_F(InferTest, AnInterruptedOneLeavesNoFile) {
  write_small_set(folder_, "many", 40'000);
  const std::vector<std::string> words =
      command({"data.images=many.images", "data.labels=many.labels", "infer.batch=1"});
  Ended ended;
  std::string id;
  for (int i = 2; i < 8 && ended.exit_code != 75; ++i) {  // it may be done before the signal is there
    id = "r000" + std::to_string(i);
    Program program(workspace_.command(words));
    const fs::path run = workspace_.path() / (id + "-predict");
    wait_while_running(program, [&] {
      const std::vector<fs::path> writing = half_written(run);
      return std::any_of(writing.begin(), writing.end(),
                         [](const fs::path& path) { return path.filename().string().starts_with("predictions.csv"); });
    });
    program.signal(SIGINT);
    ended = program.wait();
  }
  ASSERT_EQ(ended.exit_code, 75) << ended.err;
  EXPECT_EQ(last_run().at("state"), "CANCELLED");
  EXPECT_FALSE(fs::exists(workspace_.folder(id) / "predictions.csv"));
  EXPECT_EQ(half_written(folder_.path()), std::vector<fs::path>{});
  const Ended resumed = workspace_.trivet({"resume", id});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(read_csv(workspace_.folder(id) / "predictions.csv").size(), 40'000u);
}

}  // namespace
}  // namespace trivet::testing
