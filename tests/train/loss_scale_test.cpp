// Models in f16: the loss is scaled, and a step with a gradient that is not finite is not taken.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/train/number_task.h"
#include "trivet/data/random.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

using testing::number_task;

constexpr std::int64_t kSamples = 32;
constexpr std::int64_t kSide = 6;

ModelTask image_task() {
  ModelConfig model;
  model.name = "cnn";
  model.channels = {4};
  model.hidden = {8};
  model.classes = 3;
  model.batch_norm = true;
  model.precision = "f16";
  return label_task(model, {kSide, kSide, 1}, 5);
}

TrainConfig config_for(const std::string& optimizer) {
  TrainConfig config;
  config.batch = kSamples;
  config.top_k = 1;
  config.optimizer.name = optimizer;
  config.optimizer.weight_decay = 0.01;
  return config;
}

constexpr float kScale = 1024;  // at the first 65,536 the gradients of the samples below overflow

// The plans of a job, fed with drawn samples.
class Training {
 public:
  Training(const ModelTask& task, const TrainConfig& config, int threads = 1)
      : device_(open_device("cpu", {threads, {}})),
        plans_(plan_training(task, config, {kSamples, 0, 0}, *device_)),
        arena_(std::make_shared<Arena>(device_, plans_.states, plans_.all())),
        labels_(task.goal() == Goal::label) {
    arena_->initialize(7);
    if (plans_.states.find("loss_scale/scale")) set_scale(kScale);
    const std::int64_t width = element_count(task.input.fields.at(0).shape);
    DrawSequence draws(11);
    for (std::int64_t i = 0; i < kSamples; ++i) {
      float sum = 0;
      for (std::int64_t k = 0; k < width; ++k) {
        x_.push_back(static_cast<float>(draws.below(2001)) / 1000.0F - 1.0F);
        sum += (k % 2 == 0 ? 1.1F : -0.9F) * x_.back();
      }
      y_.push_back(sum);
      classes_.push_back(static_cast<std::int32_t>(i % 3));
    }
  }

  // The mean loss before the step. `largest` takes the place of the last sample's first number.
  double step(float lr, std::optional<float> largest = std::nullopt) {
    const std::vector<float> kept = x_;
    if (largest) x_[x_.size() - x_.size() / kSamples] = *largest;
    ++number_;
    double loss = 0;
    std::int64_t first = 0;
    const auto all = plans_.shard.empty() ? plans_.accumulate : std::map<std::int64_t, PlanPtr>{};
    if (!plans_.shard.empty()) {
      for (std::int64_t leaf = 0; leaf < 4; ++leaf) {
        loss += run(plans_.shard.at({kSamples / 4, ShardPlace::of(leaf)}), first, lr);
        first += kSamples / 4;
      }
    } else if (!all.empty()) {
      for (; first < kSamples; first += all.begin()->first) loss += run(all.begin()->second, first, lr);
    } else {
      loss = run(plans_.step.at(kSamples), 0, lr);
    }
    if (plans_.apply) run(plans_.apply, 0, lr);
    x_ = kept;
    return loss / kSamples;
  }

  // Of all states but those of the loss scale and gradients.
  std::map<std::string, std::vector<std::byte>> bits() const {
    std::map<std::string, std::vector<std::byte>> all;
    for (const StateLayout::Slot& slot : plans_.states.slots()) {
      const std::string& name = slot.value.name;
      if (name.starts_with("loss_scale/") || slot.value.memory == MemoryClass::gradients) continue;
      all[name] = arena_->get_state(name).data;
    }
    return all;
  }
  float scale() const { return arena_->get_state("loss_scale/scale").as<float>()[0]; }
  std::int64_t count(const char* what) const {
    return arena_->get_state(fmt::format("loss_scale/{}_steps", what)).as<std::int64_t>()[0];
  }
  void set_good_steps(std::int64_t value) {
    const TensorType type{DType::i64, {}};
    arena_->set_state("loss_scale/good_steps", type, &value);
  }
  void set_scale(float value) {
    const TensorType type{DType::f32, {}};
    arena_->set_state("loss_scale/scale", type, &value);
  }

 private:
  double run(const PlanPtr& plan, std::int64_t first, float lr) {
    std::unique_ptr<Session>& session = sessions_[plan];
    if (!session) session = std::make_unique<Session>(arena_, plan, /*poison=*/true);
    const auto width = static_cast<std::int64_t>(x_.size()) / kSamples;
    const auto set = [&](const char* name, const auto& values, std::int64_t begin) {
      if (!plan->inputs.contains(name)) return;
      const std::size_t bytes = plan->values[static_cast<std::size_t>(plan->inputs.at(name))].type.bytes();
      session->set_input(name, values.data() + begin, bytes);
    };
    set("x", x_, first * width);
    if (labels_) {
      set("y", classes_, first);
    } else {
      set("y", y_, first);
    }
    set("inv_count", std::vector{1.0F / kSamples}, 0);
    set("lr", std::vector{lr}, 0);
    set("step", std::vector{number_}, 0);
    set("share", std::vector{0.25F}, 0);
    session->run();
    return plan->outputs.contains("loss") ? static_cast<double>(session->scalar("loss")) : 0;
  }

  std::shared_ptr<const Device> device_;
  TrainPlans plans_;
  std::shared_ptr<Arena> arena_;
  bool labels_;
  std::vector<float> x_, y_;
  std::vector<std::int32_t> classes_;
  std::map<PlanPtr, std::unique_ptr<Session>> sessions_;
  std::int64_t number_ = 0;
};

constexpr float kTooLarge = 1e6F;  // for f16

TEST(LossScale, AStepWithAGradientThatIsNotFiniteChangesNothingElse) {
  for (const char* optimizer : {"sgd", "adamw", "lion", "adafactor", "muon"}) {
    for (const double clip : {0.0, 0.1}) {
      SCOPED_TRACE(fmt::format("{}, clipped to {}", optimizer, clip));
      TrainConfig config = config_for(optimizer);
      config.clip_norm = clip;
      config.average = AverageConfig{};
      Training training(number_task("f16", {16}), config);
      training.step(0.01F);
      const auto before = training.bits();
      const float scale = training.scale();
      training.step(0.01F, kTooLarge);
      EXPECT_EQ(training.bits(), before);
      EXPECT_EQ(training.scale(), scale / 2);
      EXPECT_EQ(training.count("good"), 0);
      EXPECT_EQ(training.count("skipped"), 1);
      training.step(0.01F);
      EXPECT_NE(training.bits(), before);
      EXPECT_EQ(training.scale(), scale / 2);
      EXPECT_EQ(training.count("good"), 1);
      EXPECT_EQ(training.count("skipped"), 1);
    }
  }
}

TEST(LossScale, ASkippedStepLeavesRunningStatisticsHoweverTheBatchIsCut) {
  for (const auto& [micro_batch, shards] : {std::pair(0, 0), std::pair(8, 0), std::pair(0, 4)}) {
    for (const bool averages : {false, true}) {
      SCOPED_TRACE(fmt::format("micro-batch {}, {} shards, averages {}", micro_batch, shards, averages));
      TrainConfig config = config_for("adamw");
      config.micro_batch = micro_batch;
      config.shards = shards;
      if (averages) config.average = AverageConfig{};
      Training training(image_task(), config);
      auto before = training.bits();
      for (int i = 0; i < 2; ++i) {  // also the very first step
        training.step(0.01F, kTooLarge);
        EXPECT_EQ(training.bits(), before);
        EXPECT_EQ(training.count("skipped"), i + 1);
        training.step(0.01F);
        EXPECT_NE(training.bits(), before);
        before = training.bits();
      }
      EXPECT_TRUE(std::any_of(before.begin(), before.end(),
                              [](const auto& state) { return state.first.find("mean") != std::string::npos; }));
    }
  }
}

TEST(LossScale, DoublesAfter2000StepsInARowAndStaysAtLeast1) {
  Training training(number_task("f16", {16}), config_for("sgd"));
  training.set_scale(256);
  training.set_good_steps(1998);
  training.step(0.001F);
  EXPECT_EQ(training.scale(), 256);
  EXPECT_EQ(training.count("good"), 1999);
  training.step(0.001F);
  EXPECT_EQ(training.scale(), 512);
  EXPECT_EQ(training.count("good"), 0);
  training.set_scale(1);
  training.step(0.001F, kTooLarge);
  EXPECT_EQ(training.scale(), 1);
}

TEST(LossScale, APowerOfTwoDoesNotChangeTheBitsOfAStep) {
  // Nothing overflows or underflows here, and the rounding of f16 does not depend on the exponent.
  const auto bits = [](float scale) {
    Training training(number_task("f16", {16}), config_for("adamw"));
    training.set_scale(scale);
    for (int i = 0; i < 3; ++i) training.step(0.01F);
    EXPECT_EQ(training.count("skipped"), 0);
    return training.bits();
  };
  EXPECT_EQ(bits(1024), bits(4096));
}

TEST(LossScale, BringsGradientsThroughThatF16WouldLose) {
  // At a scale of 2^-40 all gradients are below the least number of f16.
  const auto moved = [](float scale) {
    Training training(number_task("f16", {16}), config_for("adamw"));
    training.set_scale(scale);
    const auto before = training.bits();
    training.step(0.01F);
    int changed = 0;
    for (const auto& [name, bytes] : training.bits()) {
      if (name.starts_with("m/") && bytes != before.at(name)) ++changed;
    }
    return changed;
  };
  EXPECT_EQ(moved(0x1p-40F), 0);
  EXPECT_EQ(moved(4096), 4);
}

TEST(LossScale, ModelsInF16LearnLikeThoseInF32) {
  for (const char* optimizer : {"sgd", "adamw", "lion", "adafactor", "muon"}) {
    for (const std::int64_t micro_batch : {0, 8}) {
      SCOPED_TRACE(fmt::format("{}, micro-batch {}", optimizer, micro_batch));
      TrainConfig config = config_for(optimizer);
      config.micro_batch = micro_batch;
      const auto losses = [&](const std::string& precision) {
        Training training(number_task(precision, {16}), config);
        const double first = training.step(0.01F);
        double last = first;
        for (int i = 0; i < 60; ++i) last = training.step(0.01F);
        return std::pair(first, last);
      };
      const auto [f32_first, f32_last] = losses("f32");
      const auto [first, last] = losses("f16");
      EXPECT_NEAR(first, f32_first, 0.005 * f32_first);
      EXPECT_LT(last, 0.7 * first);
      EXPECT_NEAR(last, f32_last, 0.03 * f32_first);
    }
  }
}

TEST(LossScale, TheBitsAreTheSameOnAnyNumberOfThreads) {
  const auto bits = [](int threads) {
    Training training(image_task(), config_for("adamw"), threads);
    for (int i = 0; i < 3; ++i) training.step(0.01F, i == 1 ? std::optional(kTooLarge) : std::nullopt);
    EXPECT_EQ(training.count("skipped"), 1);
    return training.bits();
  };
  EXPECT_EQ(bits(1), bits(3));
}

}  // namespace
}  // namespace trivet
