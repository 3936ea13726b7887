// What a plan promises about memory, and that a run keeps to it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using nlohmann::json;

const char* const kArenaParts[] = {"parameters", "gradients", "optimizer", "activations",
                                   "workspace",  "data",      "constants", "between_buffers"};

class PlanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_set(folder_, "train", 240);
    write_small_set(folder_, "test", 150, 12, 6);
  }

  json plan(const fs::path& job, const std::vector<std::string>& sets = {}) const {
    std::vector<std::string> words = {"plan", job.string(), "--json"};
    for (const std::string& set : sets) words.insert(words.end(), {"--set", set});
    const Ended ended = workspace_.trivet(words);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    json parsed = json::parse(ended.out, nullptr, false);
    EXPECT_TRUE(parsed.is_object()) << ended.out;
    return parsed;
  }

  static void expect_sums(const json& memory) {
    std::size_t arena = 0;
    for (const char* part : kArenaParts) arena += memory.at(part).get<std::size_t>();
    EXPECT_EQ(arena, memory.at("arena").get<std::size_t>());
    std::size_t total = arena;
    for (const char* part : {"data_set", "loader", "evaluation", "program"})
      total += memory.at(part).get<std::size_t>();
    EXPECT_EQ(total, memory.at("total").get<std::size_t>());
    // The CPU has no memory of its own.
    EXPECT_EQ(total, memory.at("on_host").get<std::size_t>());
    EXPECT_EQ(memory.at("on_device"), 0);
    EXPECT_EQ(memory.at("staging"), 0);
    EXPECT_EQ(memory.size(), std::size(kArenaParts) + 9) << memory;
  }

  // The bytes of the arena in a run's plan.txt: the last number of the line "arena".
  static std::size_t recorded_arena(const fs::path& run) {
    const std::string text = slurp(run / "plan.txt");
    std::smatch match;
    EXPECT_TRUE(std::regex_search(text, match, std::regex("\narena +[^\n]* ([0-9]+)\n"))) << text;
    return match.empty() ? 0 : std::stoull(match[1]);
  }

  void expect_run_keeps_to_its_plan(const fs::path& job, const std::vector<std::string>& sets = {}) const {
    const json memory = plan(job, sets).at("memory");
    expect_sums(memory);
    std::vector<std::string> words = {"run", job.string(), "--json"};
    for (const std::string& set : sets) words.insert(words.end(), {"--set", set});
    const Ended ended = workspace_.trivet(words);
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
    const fs::path run = json::parse(ended.out).at("directory").get<std::string>();
    EXPECT_EQ(recorded_arena(run), memory.at("arena").get<std::size_t>());
    const json result = json::parse(slurp(run / "result.json"));
    EXPECT_GT(result.at("peak_resident_bytes").get<std::size_t>(), memory.at("arena").get<std::size_t>());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their shadow memory is in no plan
    EXPECT_LE(result.at("peak_resident_bytes").get<std::size_t>(), result.at("planned_bytes").get<std::size_t>());
#endif
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

TEST_F(PlanTest, NothingRuns) {
  plan(folder_.write("job.yaml", cnn_job()));
  EXPECT_FALSE(fs::exists(workspace_.path()));
}

TEST_F(PlanTest, ARunTakesWhatWasPlanned) {
  const fs::path cnn = folder_.write("cnn.yaml", cnn_job());
  expect_run_keeps_to_its_plan(cnn, {"train.epochs=1"});
  expect_run_keeps_to_its_plan(
      cnn, {"train.epochs=1", "model.channels=[32, 64]", "model.hidden=[128]", "train.batch=200", "threads=2"});
  const fs::path micro = folder_.write("micro.yaml", micro_batch_job());
  expect_run_keeps_to_its_plan(micro, {"train.epochs=1"});
  expect_run_keeps_to_its_plan(micro, {"train.epochs=1", "train.micro_batch=0", "model.hidden=[2000, 2000]"});
}

TEST_F(PlanTest, FashionMnistTakesWhatWasPlanned) {
  const fs::path data = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz";
  if (!fs::exists(data)) GTEST_SKIP() << "the data set is not installed: " << data;
  expect_run_keeps_to_its_plan(fs::path(TRIVET_SOURCE_DIR) / "examples" / "fashion-mlp.yaml", {"train.epochs=1"});
}

TEST_F(PlanTest, OverridesCount) {
  const fs::path job = folder_.write("job.yaml", cnn_job());
  EXPECT_EQ(plan(job).at("samples"), 32);
  const json smaller = plan(job, {"train.batch=64", "train.batch=16"});
  EXPECT_EQ(smaller.at("samples"), 16);
  EXPECT_LT(smaller.at("memory").at("activations").get<double>(),
            plan(job).at("memory").at("activations").get<double>());
}

TEST_F(PlanTest, TheSumsAreThoseOfTheOperations) {
  const json planned = plan(folder_.write("job.yaml", cnn_job()));
  double flops = 0, bytes = 0, seconds = 0;
  EXPECT_FALSE(planned.at("steps").empty());
  for (const json& step : planned.at("steps")) {
    EXPECT_GT(step.at("predicted_seconds").get<double>(), 0.0) << step;
    flops += step.at("flops").get<double>();
    bytes += step.at("bytes").get<double>();
    seconds += step.at("predicted_seconds").get<double>();
  }
  EXPECT_GT(flops, 0.0);
  EXPECT_EQ(planned.at("flops").get<double>(), flops);
  EXPECT_EQ(planned.at("bytes").get<double>(), bytes);
  EXPECT_NEAR(planned.at("predicted_step_seconds").get<double>() / seconds, 1.0, 1e-9);
}

TEST_F(PlanTest, TheDumpIsStable) {
  const fs::path job = folder_.write("job.yaml", cnn_job());
  const Ended first = workspace_.trivet({"plan", job.string(), "--dump"});
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_GT(first.out.size(), 500u);
  EXPECT_EQ(first.out, workspace_.trivet({"plan", job.string(), "--dump"}).out);
  EXPECT_NE(first.out, workspace_.trivet({"plan", job.string(), "--dump", "--set", "train.batch=31"}).out);
}

TEST_F(PlanTest, AModelThatDoesNotFitIsRefusedBeforeItStarts) {
  const fs::path job = folder_.write("job.yaml", micro_batch_job());
  for (const char* verb : {"plan", "run"}) {
    const Ended ended = workspace_.trivet({verb, job.string(), "--set", "model.hidden=[1000000, 1000000]"});
    EXPECT_EQ(ended.exit_code, 8) << ended.err;
    EXPECT_THAT(ended.err, ::testing::HasSubstr("this machine has"));
  }
}

TEST_F(PlanTest, ForInferenceToo) {
  ASSERT_EQ(workspace_.trivet({"run", folder_.write("cnn.yaml", cnn_job(1)).string()}).exit_code, 0);
  const fs::path job = folder_.write("infer.yaml", infer_job("cnn"));
  const json planned = plan(job, {"infer.batch=64"});
  EXPECT_EQ(planned.at("samples"), 64);
  expect_sums(planned.at("memory"));
  EXPECT_EQ(planned.at("memory").at("gradients"), 0);
  EXPECT_EQ(planned.at("memory").at("optimizer"), 0);
}

}  // namespace
}  // namespace trivet::testing
