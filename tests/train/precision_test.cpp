// Weights in bf16 that the optimizer rounds stochastically.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/train/number_task.h"
#include "trivet/data/random.h"
#include "trivet/exec/float_cast.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

using testing::kFeatures;
using testing::number_task;

constexpr std::int64_t kSamples = 32;

// y is a sum of the features with weights of about 1.
struct Samples {
  std::vector<float> x, y;

  Samples() {
    DrawSequence draws(11);
    for (std::int64_t i = 0; i < kSamples; ++i) {
      float sum = 0;
      for (std::int64_t k = 0; k < kFeatures; ++k) {
        x.push_back(static_cast<float>(draws.below(2001)) / 1000.0F - 1.0F);
        sum += (k % 2 == 0 ? 1.1F : -0.9F) * x.back();
      }
      y.push_back(sum);
    }
  }
};

// A training graph, compiled and fed with the samples.
class Training {
 public:
  Training(const Graph& graph, int threads = 1) : device_(open_device("cpu", {threads, {}})) {
    plan_ = compile_graph(graph, states_, *device_);
    arena_ = std::make_shared<Arena>(device_, states_, std::vector{plan_});
    arena_->initialize(7);
    session_ = std::make_unique<Session>(arena_, plan_, /*poison=*/true);
  }

  // The mean loss before the step.
  double step(float lr) {
    const float inv_count = 1.0F / kSamples;
    ++number_;
    session_->set_input("x", samples_.x.data(), samples_.x.size() * sizeof(float));
    session_->set_input("y", samples_.y.data(), samples_.y.size() * sizeof(float));
    session_->set_input("inv_count", &inv_count, sizeof inv_count);
    session_->set_input("lr", &lr, sizeof lr);
    if (plan_->inputs.contains("step")) session_->set_input("step", &number_, sizeof number_);
    session_->run();
    return static_cast<double>(session_->scalar("loss")) / kSamples;
  }

  std::vector<std::byte> bits() const {
    std::vector<std::byte> all;
    for (const StateLayout::Slot& slot : states_.slots()) {
      const Tensor t = arena_->get_state(slot.value.name);
      all.insert(all.end(), t.data.begin(), t.data.end());
    }
    return all;
  }

 private:
  const Samples samples_;
  std::shared_ptr<const Device> device_;
  StateLayout states_{64};
  PlanPtr plan_;
  std::shared_ptr<Arena> arena_;
  std::unique_ptr<Session> session_;
  std::int64_t number_ = 0;
};

TrainConfig config_for(const std::string& optimizer) {
  TrainConfig config;
  config.batch = kSamples;
  config.optimizer.name = optimizer;
  config.optimizer.momentum = 0;
  return config;
}

Graph rounding_to_the_nearest(const Graph& graph) {
  Graph result(graph.name());
  GraphCopier copier(graph, result);
  int changed = 0;
  for (const Node& node : graph.nodes()) {
    Attrs attrs = node.attrs;
    for (auto& [name, value] : attrs) {
      if (name != "stochastic_rounding" || !std::get<bool>(value)) continue;
      value = false;
      ++changed;
    }
    std::vector<ValueId> inputs;
    for (const ValueId v : node.inputs) inputs.push_back(copier(v));
    const std::vector<ValueId> outputs = result.add(*node.op, inputs, attrs, node.name);
    for (std::size_t i = 0; i < outputs.size(); ++i) copier.map(node.outputs[i], outputs[i]);
  }
  copier.finish();
  EXPECT_GT(changed, 0);
  return result;
}

double loss_after(const Graph& graph, int steps, float lr) {
  Training training(graph);
  double loss = 0;
  for (int i = 0; i < steps; ++i) loss = training.step(lr);
  return loss;
}

TEST(Bf16Weights, LearnWhereRoundingToTheNearestStandsStill) {
  // Steps of about 0.001, where bf16 numbers near 1 are 0.004 to 0.008 apart.
  constexpr int kSteps = 8000;
  constexpr float kRate = 0.0015F;
  const TrainConfig config = config_for("sgd");
  const Graph stochastic = step_graph(number_task("bf16_weights", {}), config, kSamples);
  const double masters = loss_after(step_graph(number_task("bf16", {}), config, kSamples), kSteps, kRate);
  const double rounded = loss_after(stochastic, kSteps, kRate);
  const double nearest = loss_after(rounding_to_the_nearest(stochastic), kSteps, kRate);
  EXPECT_LT(masters, 0.005);
  EXPECT_LT(rounded, 0.01);
  EXPECT_GT(nearest, 0.1);
}

TEST(Bf16Weights, AreHalfOfTheBytesOfTheWeights) {
  const auto device = open_device("cpu", {1, {}});
  const auto bytes = [&](const std::string& precision, bool weights) {
    const TrainPlans plans = plan_training(number_task(precision, {64, 16}), config_for("adamw"), {32, 0, 0}, *device);
    std::size_t sum = 0;
    for (const StateLayout::Slot& slot : plans.states.slots()) {
      const bool weight = slot.value.trainable && slot.value.type.rank() > 1;
      if (weight == weights) sum += slot.value.type.bytes();
    }
    return sum;
  };
  EXPECT_EQ(bytes("f32", true), 4U * (8 * 64 + 64 * 16 + 16));
  EXPECT_EQ(bytes("bf16", true), bytes("f32", true));
  EXPECT_EQ(bytes("bf16_weights", true), bytes("f32", true) / 2);
  EXPECT_EQ(bytes("bf16_weights", false), bytes("f32", false));  // biases and what the optimizer keeps
}

TEST(Bf16Weights, AreTrainedByEveryOptimizer) {
  for (const char* name : {"sgd", "adamw", "lion", "adafactor", "muon"}) {
    for (const double clip : {0.0, 1.0}) {
      TrainConfig config = config_for(name);
      config.optimizer.momentum = 0.9;
      config.optimizer.nesterov = true;
      config.optimizer.weight_decay = 0.01;
      config.clip_norm = clip;
      const auto losses = [&](const std::string& precision) {
        Training training(step_graph(number_task(precision, {16}), config, kSamples));
        const double first = training.step(0.01F);
        double last = first;
        for (int i = 0; i < 60; ++i) last = training.step(0.01F);
        return std::pair(first, last);
      };
      const auto [f32_first, f32_last] = losses("f32");
      const auto [first, last] = losses("bf16_weights");
      EXPECT_NEAR(first, f32_first, 0.05 * f32_first) << name << ", clipped to " << clip;
      EXPECT_LT(last, 0.7 * first) << name << ", clipped to " << clip;
      EXPECT_NEAR(last, f32_last, 0.15 * f32_first) << name << ", clipped to " << clip;
    }
  }
}

TEST(Bf16Weights, HaveTheSameBitsOnAnyNumberOfThreadsAndOthersForAnotherSeed) {
  const auto bits = [](int threads, std::uint64_t seed) {
    ModelTask task = number_task("bf16_weights", {256, 256});
    task.seed = seed;
    Training training(step_graph(task, config_for("adamw"), kSamples), threads);
    for (int i = 0; i < 3; ++i) training.step(0.001F);
    return training.bits();
  };
  EXPECT_EQ(bits(1, 7), bits(3, 7));
  EXPECT_NE(bits(1, 7), bits(1, 8));
}

TEST(Bf16Weights, AccumulateGradientsInF32) {
  TrainConfig config = config_for("sgd");
  config.micro_batch = 8;
  const ModelTask task = number_task("bf16_weights", {16});
  const Graph accumulate = accumulate_graph(task, config, 8);
  const Graph update = apply_graph(task, config);
  int sums = 0;
  for (const Graph* graph : {&accumulate, &update}) {
    for (const ValueId v : graph->states()) {
      const Value& value = graph->value(v);
      if (!value.name.starts_with("grad/")) continue;
      EXPECT_EQ(value.type.dtype, DType::f32) << value.name;
      ++sums;
    }
  }
  EXPECT_EQ(sums, 8);
  const auto weight = update.find("dense1.weight");
  ASSERT_TRUE(weight.has_value());
  EXPECT_EQ(update.type(*weight).dtype, DType::bf16);
}

TEST(Bf16Weights, AlsoOfEmbeddingsAndRecurrentLayers) {
  ModelTask task = number_task("bf16_weights", {16});
  task.model.name = "wide_deep";
  task.input.fields.push_back({"c", DType::i32, {2}});
  task.input.category_sizes = {{}, {5, 7}};
  const Graph wide = step_graph(task, config_for("adamw"), kSamples);
  ModelTask steps = number_task("bf16_weights", {});
  steps.model.name = "lstm";
  steps.model.units = 4;
  steps.input.fields = {{"x", DType::f32, {3, kFeatures}}};
  const Graph lstm = step_graph(steps, config_for("adamw"), kSamples);
  const auto device = open_device("cpu", {1, {}});
  for (const Graph* graph : {&wide, &lstm}) {
    StateLayout states{64};
    EXPECT_NO_THROW(compile_graph(*graph, states, *device)) << graph->name();
    int weights = 0;
    for (const StateLayout::Slot& slot : states.slots()) {
      if (!slot.value.trainable || slot.value.type.rank() < 2) continue;
      EXPECT_EQ(slot.value.type.dtype, DType::bf16) << slot.value.name;
      ++weights;
    }
    EXPECT_GE(weights, 3) << graph->name();
  }
}

TEST(Bf16Weights, BeginAsThoseInF32Rounded) {
  const auto device = open_device("cpu", {1, {}});
  const auto weights = [&](const std::string& precision) {
    StateLayout states{64};
    states.add(predict_graph(number_task(precision, {16}), 1));
    Arena arena(device, states, {});
    arena.initialize(3);
    return arena.get_state("dense1.weight");
  };
  const Tensor wide = weights("f32"), narrow = weights("bf16_weights");
  EXPECT_EQ(narrow.data, float_cast(wide.type, wide.data, DType::bf16).data);
  EXPECT_EQ(narrow.type.dtype, DType::bf16);
}

}  // namespace
}  // namespace trivet
