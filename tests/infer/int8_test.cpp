// Inference in 8 bits of models that were trained on data in files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/formats/test_files.h"
#include "trivet/base/error.h"
#include "trivet/data/random.h"
#include "trivet/infer/infer.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr std::int64_t kSide = 10;
constexpr int kClasses = 6;

class Lines final : public LogSink {
 public:
  void line(const std::string& text) override { lines.push_back(text); }
  void progress(const Progress&) override {}
  std::vector<std::string> lines;
};

class Int8 : public ::testing::Test {
 protected:
  // Each class has a picture of its own, under noise that hides it now and then.
  DataFiles write_images(const std::string& name, std::int64_t count, std::uint64_t seed) const {
    const std::int64_t pixels = kSide * kSide;
    DrawSequence pictures(5), draws(seed);
    std::string picture, images = idx_header({count, kSide, kSide}), labels = idx_header({count});
    for (std::int64_t i = 0; i < kClasses * pixels; ++i) picture += static_cast<char>(pictures.below(256));
    for (std::int64_t i = 0; i < count; ++i) {
      const auto label = static_cast<std::int64_t>(draws.below(kClasses));
      labels += static_cast<char>(label);
      for (std::int64_t p = 0; p < pixels; ++p) {
        const int clean = static_cast<unsigned char>(picture[static_cast<std::size_t>(label * pixels + p)]);
        images += static_cast<char>((clean + 2 * static_cast<int>(draws.below(256))) / 3);
      }
    }
    DataFiles files;
    files.images = folder_.write(name + ".images", images);
    files.labels = folder_.write(name + ".labels", labels);
    return files;
  }

  // Trains it and leaves its checkpoints in `run`.
  TrainJob train(const ModelConfig& model, const std::string& run) {
    TrainJob job;
    job.data.train = write_images("train", 1200, 1);
    job.model = model;
    job.train.epochs = 6;
    job.train.batch = 32;
    job.train.optimizer.lr = 0.003;
    fs::create_directories(folder_ / run);
    RunLog log(folder_ / run, lines_);
    Trainer trainer(job, device(), folder_ / run, log);
    const TrainResult result = trainer.run(std::atomic<bool>(false), false);
    EXPECT_FALSE(result.interrupted);
    return job;
  }

  static std::shared_ptr<const Device> device(int threads = 1) { return open_device("cpu", {threads, {}}); }

  InferConfig config(const std::string& run, const std::string& precision) const {
    InferConfig config;
    config.run = folder_ / run;
    config.data = write_images("test", 2000, 2);
    config.batch = 128;
    config.output = folder_ / (run + "." + precision + ".npy");
    config.format = "npy";
    config.precision = precision;
    return config;
  }

  InferResult infer(const InferConfig& job, const TrainJob* trained, int threads = 1) {
    RunLog log(folder_.path(), lines_);
    return run_inference(job, device(threads), std::atomic<bool>(false), log, trained);
  }

  // The last record of what was inferred.
  json record() const {
    std::istringstream text(testing::slurp(folder_ / "metrics.jsonl"));
    std::string line, last;
    while (std::getline(text, line)) last = line;
    return json::parse(last);
  }

  void expect_about_the_same_accuracy(const ModelConfig& model) {
    const TrainJob job = train(model, "run");
    const double f32 = *infer(config("run", "model"), &job).metrics->accuracy;
    const double int8 = *infer(config("run", "int8"), &job).metrics->accuracy;
    EXPECT_GT(f32, 0.8);
    EXPECT_LT(f32, 0.9995) << "too easy to tell a difference";
    EXPECT_LT(f32 - int8, 0.01);
    EXPECT_NE(testing::slurp(folder_ / "run.model.npy"), testing::slurp(folder_ / "run.int8.npy"));
    std::printf("%s: accuracy %.2f %% in f32, %.2f %% in int8\n", model.name.c_str(), 100 * f32, 100 * int8);
  }

  static ModelConfig mlp() {
    ModelConfig model;
    model.name = "mlp";
    model.hidden = {64, 32};
    return model;
  }

  testing::TempDir folder_;
  Lines lines_;
};

TEST_F(Int8, DenseLayersKeepTheirAccuracy) { expect_about_the_same_accuracy(mlp()); }

TEST_F(Int8, WeightsInBf16KeepTheirAccuracy) {
  ModelConfig model = mlp();
  model.precision = "bf16_weights";
  expect_about_the_same_accuracy(model);
}

TEST_F(Int8, ConvolutionsKeepTheirAccuracy) {
  ModelConfig model;
  model.channels = {16, 32};
  model.hidden = {32};
  expect_about_the_same_accuracy(model);
}

TEST_F(Int8, ResidualNetworksKeepTheirAccuracy) {
  ModelConfig model;
  model.name = "resnet";
  model.depth = 8;
  model.width = 16;
  expect_about_the_same_accuracy(model);
}

TEST_F(Int8, RangesAreThoseOfTheTrainingDataAndTheBitsAlwaysTheSame) {
  const TrainJob job = train(mlp(), "run");
  const InferConfig int8 = config("run", "int8");
  infer(int8, &job);
  EXPECT_THAT(lines_.lines, Contains(HasSubstr("512 samples of the training data")));
  const std::string bits = testing::slurp(int8.output);
  const json ranges = record().at("int8").at("ranges");
  EXPECT_GE(ranges.size(), 2U);
  for (const int threads : {1, 2, 3}) {
    infer(int8, &job, threads);
    EXPECT_EQ(testing::slurp(int8.output), bits) << threads;
    EXPECT_EQ(record().at("int8").at("ranges"), ranges) << threads;
  }
}

TEST_F(Int8, TheDataAtHandTakeThePlaceOfTrainingDataThatAreGone) {
  TrainJob job = train(mlp(), "run");
  fs::remove(job.data.train.images);
  infer(config("run", "int8"), &job);
  EXPECT_THAT(lines_.lines, Contains(HasSubstr("512 samples of the data at hand")));
  EXPECT_THAT(lines_.lines, Contains(HasSubstr("train.images")));
  infer(config("run", "int8"), nullptr);
  EXPECT_THAT(lines_.lines, Contains(HasSubstr("the job that trained the model is not there")));
}

TEST_F(Int8, ThePlanCountsEverythingBeforehand) {
  const TrainJob job = train(mlp(), "run");
  const InferConfig int8 = config("run", "int8");
  const ChosenCheckpoint chosen = choose_checkpoint(int8);
  const InferData data = InferData::load(int8, chosen.state, &job);
  const InferPlan plan = plan_inference(int8, chosen.state, data, *device());
  EXPECT_EQ(plan.memory.arena_total, Arena::planned_bytes(plan.states, plan.all()));
  const auto has = [](const PlanPtr& p, const char* op) {
    return std::any_of(p->steps.begin(), p->steps.end(), [&](const PlannedStep& s) { return s.op == op; });
  };
  EXPECT_TRUE(has(plan.predict.plans.begin()->second.front(), "linear_int8"));
  EXPECT_FALSE(has(plan.ranges, "linear_int8"));
}

}  // namespace
}  // namespace trivet
