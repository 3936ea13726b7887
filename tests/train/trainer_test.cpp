// Whole runs over samples in memory: what is learnt, measured, refused and kept.
#include "trivet/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/formats/test_files.h"
#include "tests/plugins/environment.h"
#include "tests/train/memory_source.h"
#include "trivet/base/file.h"
#include "trivet/data/image_data.h"
#include "trivet/data/random.h"
#include "trivet/formats/safetensors.h"

namespace trivet {
namespace {

using nlohmann::json;
using testing::expect_error;
using ::testing::HasSubstr;
using testing::MemorySource;
using testing::Samples;

class Lines final : public LogSink {
 public:
  void line(const std::string& text) override { lines.push_back(text); }
  void progress(const Progress&) override {}
  std::vector<std::string> lines;
};

double uniform(DrawSequence& draws) { return static_cast<double>(draws.below(2001)) / 1000.0 - 1.0; }

// y = 10 + 4 a - 2 b, and with `noise` something that nobody can know.
Samples linear_samples(std::int64_t count, double noise = 0, std::uint64_t seed = 3) {
  Samples samples;
  samples.width = 2;
  DrawSequence draws(seed);
  for (std::int64_t i = 0; i < count; ++i) {
    const double a = uniform(draws), b = uniform(draws);
    samples.x.push_back(static_cast<float>(a));
    samples.x.push_back(static_cast<float>(b));
    samples.numbers.push_back(static_cast<float>(10 + 4 * a - 2 * b + noise * uniform(draws)));
  }
  return samples;
}

// Three classes by the sign of a and b; `rare` of 20 samples are of the class "red".
Samples labelled_samples(std::int64_t count, int rare = 7) {
  Samples samples;
  samples.width = 2;
  samples.classes = {"green", "red", "blue \"<b>\""};
  DrawSequence draws(4);
  for (std::int64_t i = 0; i < count; ++i) {
    const int label = i % 20 < rare ? 1 : static_cast<int>(i % 2) * 2;
    samples.x.push_back(static_cast<float>(0.6 * uniform(draws) + (label == 1 ? 1 : -1)));
    samples.x.push_back(static_cast<float>(0.6 * uniform(draws) + (label == 2 ? 1 : -1)));
    samples.labels.push_back(label);
  }
  return samples;
}

TrainJob small_job() {
  TrainJob job;
  job.data.train.file = "memory.csv";
  job.data.validation = 0.2;
  job.model.name = "mlp";
  job.model.hidden = {16};
  job.train.epochs = 4;
  job.train.batch = 16;
  job.train.optimizer.lr = 0.02;
  return job;
}

// What a killed process leaves: the checkpoints up to a step.
void forget_after(const fs::path& directory, std::int64_t step) {
  const CheckpointFolder folder(directory / "checkpoints");
  for (const std::int64_t s : folder.steps()) {
    if (s > step) fs::remove_all(folder.path(s));
  }
  fs::remove(directory / "result.json");
}

class TrainedRun : public ::testing::Test {
 protected:
  fs::path directory(const std::string& name = "run") const {
    fs::create_directories(folder_ / name);
    return folder_ / name;
  }

  TrainData data(const TrainJob& job, const Samples& train, const Samples* test = nullptr) const {
    return TrainData::of(job, std::make_unique<MemorySource>(train),
                         test ? std::make_unique<MemorySource>(*test) : nullptr);
  }

  TrainResult run(const TrainJob& job, TrainData read, const std::string& name = "run", bool resume = false) {
    RunLog log(directory(name), lines_);
    Trainer trainer(job, std::move(read), device_, directory(name), log);
    return trainer.run(stop_, resume);
  }
  TrainResult run(const TrainJob& job, const Samples& train, const std::string& name = "run", bool resume = false) {
    return run(job, data(job, train), name, resume);
  }

  json evaluation(const std::string& name = "run") const {
    return json::parse(read_file(directory(name) / "evaluation.json", 16 << 20));
  }
  std::vector<std::int64_t> checkpoints(const std::string& name = "run") const {
    return CheckpointFolder(directory(name) / "checkpoints").steps();
  }
  // The model's tensors in the newest checkpoint.
  std::string model(const std::string& name) const {
    const CheckpointFolder folder(directory(name) / "checkpoints");
    return testing::slurp(folder.path(folder.steps().back()) / "model.safetensors");
  }

  // `whole` ended in the folder of that name; runs that are killed after one of these steps come to the same end.
  void expect_the_same_after_resuming(const TrainJob& job, const Samples& samples, const TrainResult& whole,
                                      const std::vector<std::int64_t>& steps) {
    for (const std::int64_t step : steps) {
      fs::remove_all(folder_ / "again");
      fs::copy(directory("whole"), folder_ / "again", fs::copy_options::recursive);
      forget_after(folder_ / "again", step);
      const TrainResult again = run(job, samples, "again", true);
      EXPECT_EQ(again.steps, whole.steps) << step;
      EXPECT_EQ(again.checkpoint, whole.checkpoint) << step;
      EXPECT_EQ(again.stopped_early, whole.stopped_early) << step;
      EXPECT_EQ(model("again"), model("whole")) << step;
      EXPECT_EQ(evaluation("again"), evaluation("whole")) << step;
    }
  }

  testing::TempDir folder_;
  std::shared_ptr<const Device> device_ = open_device("cpu", {1, {}});
  std::atomic<bool> stop_{false};
  Lines lines_;
};

// Samples whose numbers alone are brought to a device with a memory of its own.
class ResidentSamples : public TrainedRun {
 protected:
  // The models of a run on the CPU and of one on a device that computes as the CPU does.
  void expect_the_same_model(const TrainJob& job, const Samples& samples) {
    run(job, samples, "cpu");
    const testing::UsePlugin plugin("fake");
    device_ = open_device("cuda", {1, {}});
    const TrainPlan plan = plan_job(job, data(job, samples), *device_);
    EXPECT_EQ(plan.train.resident, samples.count());
    const Plan& main = plan.plans.main();
    EXPECT_TRUE(main.inputs.contains("sample"));
    EXPECT_FALSE(main.inputs.contains("x") || main.inputs.contains("y"));
    run(job, samples, "device");
    EXPECT_TRUE(model("device") == model("cpu"));
    EXPECT_EQ(evaluation("device"), evaluation("cpu"));
  }
};

TEST_F(ResidentSamples, GiveTheModelThatBatchesGive) {
  TrainJob job = small_job();
  expect_the_same_model(job, linear_samples(100, 0.1));
}

TEST_F(ResidentSamples, GiveItWithWeightedClassesAndDropoutAndPiecesOfBatches) {
  TrainJob job = small_job();
  job.data.class_weights = "balanced";
  job.model.dropout = 0.2;
  job.train.micro_batch = 6;
  expect_the_same_model(job, labelled_samples(100));
}

TEST_F(ResidentSamples, GiveItToAnAutoencoder) {
  TrainJob job = small_job();
  job.model.name = "autoencoder";
  job.model.hidden = {4, 2};
  expect_the_same_model(job, linear_samples(100));
}

TEST_F(ResidentSamples, AreThereAgainWhenARunGoesOn) {
  TrainJob job = small_job();
  const Samples samples = labelled_samples(100);
  run(job, samples, "cpu");
  const testing::UsePlugin plugin("fake");
  device_ = open_device("cuda", {1, {}});
  const TrainJob whole = job;
  job.train.epochs = 2;
  run(job, samples, "device");
  run(whole, samples, "device", true);
  EXPECT_TRUE(model("device") == model("cpu"));
}

TEST_F(ResidentSamples, AreNotThoseThatChangeInEachEpoch) {
  const testing::UsePlugin plugin("fake");
  device_ = open_device("cuda", {1, {}});
  TrainJob job = small_job();
  job.data.augment.flip = true;
  const TrainPlan plan = plan_job(job, data(job, linear_samples(100)), *device_);
  EXPECT_EQ(plan.train.resident, 0);
  EXPECT_TRUE(plan.plans.main().inputs.contains("x"));
}

TEST_F(ResidentSamples, CountAsMemoryOfTheDevice) {
  const testing::UsePlugin plugin("fake");
  device_ = open_device("cuda", {1, {}});
  const TrainJob job = small_job();
  const MemoryReport memory = plan_job(job, data(job, linear_samples(100)), *device_).memory;
  EXPECT_TRUE(memory.apart);
  EXPECT_GE(memory.arena[static_cast<std::size_t>(MemoryClass::data)], 100 * 3 * sizeof(float));
  EXPECT_GT(memory.staging, 0U);
  EXPECT_EQ(memory.on_device(), memory.arena_total + memory.staging);
  EXPECT_EQ(memory.on_host(), memory.staging + memory.data_set + memory.loader + memory.evaluation + memory.program);
}

TEST_F(TrainedRun, PredictsNumbersInTheirOwnUnit) {
  TrainJob job = small_job();
  job.train.epochs = 30;
  const Samples test = linear_samples(50, 0, 8);
  const TrainResult result = run(job, data(job, linear_samples(300), &test));
  ASSERT_TRUE(result.test.has_value());
  EXPECT_GT(*result.test->r2, 0.97);
  EXPECT_LT(*result.test->mae, 0.5);
  EXPECT_GE(*result.test->rmse, *result.test->mae);
  EXPECT_FALSE(result.test->accuracy.has_value());
  const json j = evaluation();
  EXPECT_EQ(j.at("task"), "number");
  EXPECT_EQ(j.at("split"), "test");
  EXPECT_EQ(j.at("samples"), 50);
  EXPECT_EQ(j.at("r2").get<double>(), *result.test->r2);
  EXPECT_EQ(j.at("scatter").size(), 50U);
  EXPECT_FALSE(j.contains("accuracy") || j.contains("confusion") || j.contains("classes"));
  double error = 0;
  for (const json& point : j.at("scatter")) error += std::abs(point[0].get<double>() - point[1].get<double>());
  EXPECT_NEAR(error / 50, *result.test->mae, 1e-9);
  ASSERT_EQ(j.at("shown").size(), 24U);
  // The worst first.
  const auto error_of = [](const json& s) {
    return std::abs(s.at("truth").get<double>() - s.at("predicted").get<double>());
  };
  for (std::size_t i = 1; i < 12; ++i) EXPECT_LE(error_of(j["shown"][i]), error_of(j["shown"][i - 1]));
  EXPECT_EQ(j["shown"][0].at("columns")[0][0], "first");
  EXPECT_THAT(lines_.lines, ::testing::Contains(HasSubstr("'id' is not used")));
}

TEST_F(TrainedRun, TellsClassesAndReportsOnEach) {
  TrainJob job = small_job();
  job.train.epochs = 15;
  const TrainResult result = run(job, labelled_samples(400));
  ASSERT_TRUE(result.validation.has_value());
  EXPECT_GT(*result.validation->accuracy, 0.9);
  EXPECT_GT(*result.validation->auc, 0.95);
  const json j = evaluation();
  EXPECT_EQ(j.at("task"), "label");
  EXPECT_EQ(j.at("split"), "validation");
  EXPECT_EQ(j.at("classes"), json({"green", "red", "blue \"<b>\""}));
  EXPECT_FALSE(j.contains("top_k"));  // 3 classes need no more than the first
  std::int64_t diagonal = 0, all = 0;
  for (std::size_t row = 0; row < 3; ++row) {
    std::int64_t sum = 0;
    for (std::size_t column = 0; column < 3; ++column) sum += j["confusion"][row][column].get<std::int64_t>();
    EXPECT_EQ(j["per_class"][row]["support"], sum);
    diagonal += j["confusion"][row][row].get<std::int64_t>();
    all += sum;
  }
  EXPECT_EQ(all, 80);
  EXPECT_NEAR(static_cast<double>(diagonal) / 80, j["accuracy"].get<double>(), 1e-12);
  EXPECT_EQ(j["calibration"].size(), 15U);
  EXPECT_FALSE(j.contains("r2") || j.contains("scatter"));
  int wrong = 0;
  for (const json& s : j["shown"]) wrong += s.at("truth") != s.at("predicted") ? 1 : 0;
  EXPECT_EQ(wrong, std::min<std::int64_t>(12, all - diagonal));
  for (int i = 0; i < wrong; ++i)
    EXPECT_NE(j["shown"][static_cast<std::size_t>(i)]["truth"], j["shown"][static_cast<std::size_t>(i)]["predicted"]);
  EXPECT_EQ(CheckpointFolder(directory() / "checkpoints").load_state(result.checkpoint).task.target.class_names[1],
            "red");
}

TEST_F(TrainedRun, AnAutoencoderShowsItsReconstructions) {
  ImageData images;
  images.count = 120;
  images.height = images.width = 6;
  images.channels = 1;
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 120; ++i) {
    for (int p = 0; p < 36; ++p) pixels.push_back(p / 6 == i % 6 ? 240 : 10);
  }
  images.pixels = DataBytes(pixels);
  TrainJob job = small_job();
  job.data.train = {"some.images"};
  job.model.name = "autoencoder";
  job.model.hidden = {24, 6};
  job.train.epochs = 25;
  const TrainResult result = run(job, TrainData::of(job, image_source(std::move(images), job.data.train), nullptr));
  EXPECT_GT(*result.validation->r2, 0.5);
  const json j = evaluation();
  EXPECT_EQ(j.at("task"), "reconstruction");
  const json& first = j.at("shown").at(0);
  EXPECT_FALSE(first.contains("truth") || first.contains("predicted"));
  EXPECT_EQ(first.at("image").at("height"), 6);
  EXPECT_EQ(first.at("image").at("pixels").get<std::string>().size(), 48U);  // 36 bytes in base64
  EXPECT_EQ(first.at("reconstruction").at("pixels").get<std::string>().size(), 48U);
}

TEST_F(TrainedRun, BalancedWeightsMakeEachClassCountTheSame) {
  TrainJob job = small_job();
  job.data.validation = 0;
  job.data.class_weights = "balanced";
  Samples samples = labelled_samples(200, 2);
  samples.classes.push_back("never");
  const TrainData read = data(job, samples);
  const std::vector<double> weights = class_weights(read, job.data);
  ASSERT_EQ(weights.size(), 4U);
  std::vector<double> sums(4);
  for (const std::int32_t label : read.labels)
    sums[static_cast<std::size_t>(label)] += weights[static_cast<std::size_t>(label)];
  for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(sums[c], 200.0 / 3, 1e-9);
  EXPECT_EQ(weights[3], 1.0);
  job.data.class_weights = "none";
  EXPECT_TRUE(class_weights(read, job.data).empty());
}

TEST_F(TrainedRun, WeightsAndSamplersChangeWhatIsLearntAlsoWithMicroBatches) {
  const auto trained = [&](const std::string& weights, const std::string& sampler) {
    TrainJob job = small_job();
    job.data.class_weights = weights;
    job.data.sampler = sampler;
    job.train.epochs = 1;
    job.train.micro_batch = 5;
    const std::string name = weights + sampler;
    run(job, labelled_samples(200, 1), name);
    return model(name);
  };
  const std::string plain = trained("none", "shuffle");
  const std::string weighted = trained("balanced", "shuffle");
  const std::string sampled = trained("none", "balanced");
  EXPECT_NE(weighted, plain);
  EXPECT_NE(sampled, plain);
  EXPECT_NE(sampled, weighted);
}

TEST_F(TrainedRun, AResumedRunGivesTheSameBitsWithAveragesSamplersAndEarlyStopping) {
  TrainJob job = small_job();
  job.data.sampler = "balanced";
  job.data.class_weights = "balanced";
  job.model.dropout = 0.2;
  job.train.epochs = 12;
  job.train.average = AverageConfig{0.9, 7};
  job.train.early_stop = EarlyStopConfig{3, 0.002};
  job.train.checkpoint.every_steps = 3;
  job.train.checkpoint.keep_last = 1000;
  const Samples samples = labelled_samples(150);
  const TrainResult whole = run(job, samples, "whole");
  expect_the_same_after_resuming(job, samples, whole, {3, 9, 15, 24});
}

TEST_F(TrainedRun, AResumedRunGivesTheSameBitsWithWeightsInBf16) {
  TrainJob job = small_job();
  job.model.precision = "bf16_weights";
  job.model.dropout = 0.2;
  job.train.micro_batch = 7;
  job.train.average = AverageConfig{0.9, 7};
  job.train.checkpoint.every_steps = 3;
  job.train.checkpoint.keep_last = 1000;
  const Samples samples = labelled_samples(150);
  const TrainResult whole = run(job, samples, "whole");
  const CheckpointFolder folder(directory("whole") / "checkpoints");
  const std::string first = testing::slurp(folder.path(3) / "model.safetensors");
  EXPECT_THAT(first, HasSubstr("BF16"));
  expect_the_same_after_resuming(job, samples, whole, {3, 9, 15});
}

TEST_F(TrainedRun, AResumedRunGivesTheSameBitsInF16AndItsMetricsHaveTheLossScale) {
  TrainJob job = small_job();
  job.model.precision = "f16";
  job.model.dropout = 0.2;
  job.train.micro_batch = 7;
  job.train.average = AverageConfig{0.9, 7};
  job.train.checkpoint.every_steps = 3;
  job.train.checkpoint.keep_last = 1000;
  const Samples samples = labelled_samples(150);
  const TrainResult whole = run(job, samples, "whole");
  const std::string metrics = testing::slurp(directory("whole") / "metrics.jsonl");
  EXPECT_THAT(metrics, HasSubstr("\"loss_scale\":65536.0"));
  EXPECT_THAT(metrics, HasSubstr("\"skipped_steps\":0"));
  const CheckpointFolder folder(directory("whole") / "checkpoints");
  const SafetensorsFile optimizer(folder.path(9) / "optimizer.safetensors");
  EXPECT_EQ(*reinterpret_cast<const std::int64_t*>(optimizer.tensor("loss_scale/good_steps").bytes.data()), 9);
  expect_the_same_after_resuming(job, samples, whole, {3, 9, 15});
}

TEST_F(TrainedRun, CheckpointsAndEvaluationUseTheAverages) {
  // A decay of almost 1 from the start keeps the model where it began, whatever the parameters do.
  TrainJob job = small_job();
  job.train.average = AverageConfig{0.999999, 0};
  const Samples samples = linear_samples(100);
  const TrainResult averaged = run(job, samples, "averaged");
  job.train.average = AverageConfig{0.0, 0};
  const TrainResult last = run(job, samples, "last");
  job.train.average.reset();
  const TrainResult plain = run(job, samples, "plain");
  EXPECT_LT(plain.validation->loss, averaged.validation->loss);
  EXPECT_EQ(averaged.train.loss, plain.train.loss);  // training itself is the same
  EXPECT_EQ(last.validation->loss, plain.validation->loss);
  EXPECT_EQ(model("last"), model("plain"));
  EXPECT_NE(model("averaged"), model("plain"));
  job.train.average = AverageConfig{0.999999, 1'000'000};  // never begins
  run(job, samples, "late");
  EXPECT_EQ(model("late"), model("plain"));
}

TEST_F(TrainedRun, AveragesOfWeightsInBf16AreKeptInF32) {
  TrainJob job = small_job();
  job.model.precision = "bf16_weights";
  job.train.epochs = 1;
  const Samples samples = linear_samples(100);
  run(job, samples, "plain");
  job.train.average = AverageConfig{0.0, 0};  // the parameters themselves
  run(job, samples, "last");
  EXPECT_EQ(model("last"), model("plain"));
  const CheckpointFolder folder(directory("last") / "checkpoints");
  const SafetensorsFile optimizer(folder.path(folder.steps().back()) / "optimizer.safetensors");
  EXPECT_EQ(optimizer.tensor("average/dense1.weight").type.dtype, DType::f32);
  EXPECT_EQ(optimizer.tensor("weights/dense1.weight").type.dtype, DType::bf16);
}

TEST_F(TrainedRun, StopsEarlyWhenNothingImproves) {
  TrainJob job = small_job();
  job.train.epochs = 50;
  job.train.optimizer.lr = 1e-12;
  job.train.early_stop = EarlyStopConfig{2, 0.001};
  const TrainResult result = run(job, linear_samples(100));
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(result.steps, 3 * 5);  // the first epoch sets the value, two do not improve it
  EXPECT_THAT(lines_.lines, ::testing::Contains(HasSubstr("stopping early: the validation loss")));
  EXPECT_EQ(json::parse(read_file(directory() / "result.json", 1 << 20)).at("stopped_early"), true);
  const TrainResult again = run(job, linear_samples(100), "run", true);
  EXPECT_EQ(again.steps, result.steps);
}

TEST_F(TrainedRun, KeepsTheBestByTheMetricThatIsNamed) {
  const auto best = [&](const std::string& metric, const Samples& samples) {
    TrainJob job = small_job();
    job.train.checkpoint.best_metric = metric;
    job.train.checkpoint.keep_last = 100;
    run(job, samples, metric);
    const CheckpointFolder folder(directory(metric) / "checkpoints");
    return *folder.load_state(folder.steps().back()).best;
  };
  EXPECT_GT(best("f1", labelled_samples(200)), 0.2);
  EXPECT_GT(best("auc", labelled_samples(200)), 0.5);
  EXPECT_GT(best("r2", linear_samples(200)), 0.0);
  EXPECT_LT(best("mae", linear_samples(200)), 5.0);
}

TEST_F(TrainedRun, SettingsThatDoNotGoWithTheTargetAreRefused) {
  const auto refused = [&](const char* key, const Samples& samples, void (*change)(TrainJob&)) {
    TrainJob job = small_job();
    change(job);
    expect_error(ErrorCode::job, {key}, [&] { plan_job(job, data(job, samples), *device_); });
  };
  const Samples labels = labelled_samples(40), numbers = linear_samples(40);
  refused("train.loss", labels, [](TrainJob& job) { job.train.loss = "mse"; });
  refused("train.top_k", labels, [](TrainJob& job) { job.train.top_k = 4; });
  refused("train.top_k", numbers, [](TrainJob& job) { job.train.top_k = 2; });
  refused("best_metric", labels, [](TrainJob& job) { job.train.checkpoint.best_metric = "r2"; });
  refused("best_metric", numbers, [](TrainJob& job) { job.train.checkpoint.best_metric = "accuracy"; });
  refused("class_weights", numbers, [](TrainJob& job) { job.data.class_weights = "balanced"; });
  refused("sampler", numbers, [](TrainJob& job) { job.data.sampler = "balanced"; });
}

TEST_F(TrainedRun, NothingToLearnIsAnErrorThatSaysSo) {
  TrainJob job = small_job();
  expect_error(ErrorCode::data, {"memory.csv", "0 samples"}, [&] { data(job, Samples{}); });
  Samples one_class = labelled_samples(60, 20);
  expect_error(ErrorCode::data, {"memory.csv", "'red'", "48"}, [&] { data(job, one_class); });
  expect_error(ErrorCode::data, {"'red'", "1 of them"}, [&] { data(job, labelled_samples(1)); });
  job.model.classes = 2;
  expect_error(ErrorCode::data, {"3 classes", "2 classes"}, [&] { data(job, labelled_samples(60)); });
}

TEST_F(TrainedRun, OneSampleOfANumberIsEnoughToRun) {
  TrainJob job = small_job();
  const TrainResult result = run(job, linear_samples(1));
  EXPECT_EQ(result.steps, 4);
  EXPECT_FALSE(result.validation.has_value());
  EXPECT_FALSE(fs::exists(directory() / "evaluation.json"));
}

TEST_F(TrainedRun, AModelMayHaveMoreClassesThanTheData) {
  TrainJob job = small_job();
  job.model.classes = 5;
  run(job, labelled_samples(100));
  EXPECT_EQ(evaluation().at("classes"), json({"green", "red", "blue \"<b>\"", "3", "4"}));
  EXPECT_EQ(evaluation().at("confusion").size(), 5U);
}

TEST_F(TrainedRun, NaNInTheDataStopsAtTheSampleAndTheCheckpointsStay) {
  TrainJob job = small_job();
  job.data.validation = 0;
  job.train.checkpoint.every_steps = 1;
  job.train.epochs = 1;
  Samples samples = linear_samples(100);
  const std::int64_t bad = shuffled(split_indices(100, 0, job.seed).train, job.seed, 0)[70];
  samples.x[static_cast<std::size_t>(bad) * 2 + 1] = std::nanf("");
  expect_error(ErrorCode::data, {fmt::format("sample {}: element 1 is NaN", bad)}, [&] { run(job, samples); });
  EXPECT_EQ(checkpoints().back(), 4);  // the fifth batch holds it
  EXPECT_FALSE(fs::exists(directory() / "result.json"));
}

TEST_F(TrainedRun, ARateThatDivergesStopsAtTheStepAndTheCheckpointsStay) {
  TrainJob job = small_job();
  job.train.optimizer.name = "sgd";
  job.train.optimizer.lr = 1e6;
  job.train.checkpoint.every_steps = 1;
  expect_error(ErrorCode::diverged, {"step", "train.optimizer.lr"}, [&] { run(job, linear_samples(100)); });
  EXPECT_FALSE(checkpoints().empty());
  for (const std::int64_t step : checkpoints()) {
    EXPECT_NO_THROW(CheckpointFolder(directory() / "checkpoints").load_state(step));
  }
}

TEST_F(TrainedRun, AMetricThatIsNotDefinedIsAnErrorThatNamesIt) {
  TrainJob job = small_job();
  job.data.validation = 0.02;  // one sample, so no two classes
  job.train.checkpoint.best_metric = "auc";
  expect_error(ErrorCode::data, {"auc", "1 samples", "data.validation"}, [&] { run(job, labelled_samples(60)); });
}

TEST_F(TrainedRun, ThePlanCountsWhatIsMeasured) {
  TrainJob job = small_job();
  const TrainData read = data(job, labelled_samples(200));
  const MemoryReport memory = plan_job(job, read, *device_).memory;
  EXPECT_GE(memory.evaluation, 40U * 3 * sizeof(float));
  EXPECT_EQ(memory.total(), memory.arena_total + memory.data_set + memory.loader + memory.evaluation + memory.program);
}

}  // namespace
}  // namespace trivet
