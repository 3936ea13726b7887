// Training steps of the models through a plug-in's border have the bits of the CPU.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/golden/golden.h"
#include "tests/plugins/environment.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

using testing::fake_counts;
using testing::UsePlugin;

struct Case {
  const char* model;
  const char* optimizer;
  const char* precision;
  std::int64_t micro_batch;
};

ModelTask task_of(const Case& c) {
  ModelConfig model;
  model.name = c.model;
  model.classes = golden::kClasses;
  model.hidden = {16};
  model.channels = {4, 8};
  model.dropout = 0.2;
  model.batch_norm = true;
  model.precision = c.precision;
  return label_task(model, {golden::kSide, golden::kSide, 1}, 1);
}

TrainConfig config_of(const Case& c) {
  TrainConfig config;
  config.batch = golden::kBatch;
  config.micro_batch = c.micro_batch;
  config.clip_norm = 0.5;
  config.optimizer.name = c.optimizer;
  return config;
}

class Trained {
 public:
  Trained(const std::string& device, const Case& c)
      : device_(open_device(device, {1, {}})),
        plans_(plan_training(task_of(c), config_of(c), {golden::kBatch, 0, 0}, *device_)),
        arena_(std::make_shared<Arena>(device_, plans_.states, plans_.all())) {
    arena_->initialize(3);
    for (const auto& [samples, plan] : plans_.step.empty() ? plans_.accumulate : plans_.step) {
      passes_.emplace(samples, std::make_unique<Session>(arena_, plan));
    }
    if (plans_.apply) apply_ = std::make_unique<Session>(arena_, plans_.apply);
    for (std::int64_t step = 1; step <= 5; ++step) run(step);
  }

  // All states and losses.
  std::vector<std::byte> bits() const {
    std::vector<std::byte> result = losses_;
    for (const auto& slot : plans_.states.slots()) {
      const Tensor state = arena_->get_state(slot.value.name);
      result.insert(result.end(), state.data.begin(), state.data.end());
    }
    return result;
  }

 private:
  template <class T>
  static void set(Session& session, const char* name, const std::vector<T>& values) {
    if (session.plan().inputs.contains(name)) session.set_input(name, values.data(), values.size() * sizeof(T));
  }
  static void set_step(Session& session, std::int64_t step) {
    set<float>(session, "lr", {0.05F});
    set<std::int64_t>(session, "step", {step});
  }

  void run(std::int64_t step) {
    const Tensor images = golden::images(step), labels = golden::labels(step);
    const std::int64_t pixels = golden::kSide * golden::kSide;
    std::int64_t first = 0;
    for (const std::int64_t count : pieces(golden::kBatch, passes_.rbegin()->first)) {
      Session& pass = *passes_.at(count);
      const auto x = images.as<float>().subspan(static_cast<std::size_t>(first * pixels),
                                                static_cast<std::size_t>(count * pixels));
      const auto y =
          labels.as<std::int32_t>().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
      std::vector<std::int64_t> samples(static_cast<std::size_t>(count));
      std::iota(samples.begin(), samples.end(), first);
      set(pass, "x", std::vector<float>(x.begin(), x.end()));
      set(pass, "y", std::vector<std::int32_t>(y.begin(), y.end()));
      set(pass, "sample", samples);
      set<float>(pass, "inv_count", {1.0F / golden::kBatch});
      set_step(pass, step);
      pass.run();
      if (step % 2 == 0) {  // now and then, as a run that logs its loss
        const Tensor loss = pass.output("loss");
        losses_.insert(losses_.end(), loss.data.begin(), loss.data.end());
      }
      first += count;
    }
    if (!apply_) return;
    set_step(*apply_, step);
    apply_->run();
  }

  std::shared_ptr<const Device> device_;
  TrainPlans plans_;
  std::shared_ptr<Arena> arena_;
  std::map<std::int64_t, std::unique_ptr<Session>> passes_;
  std::unique_ptr<Session> apply_;
  std::vector<std::byte> losses_;
};

class PluginTraining : public ::testing::TestWithParam<Case> {};

TEST_P(PluginTraining, HasTheBitsOfTheCpu) {
  const UsePlugin plugin("fake");
  const Trained cpu("cpu", GetParam()), cuda("cuda", GetParam());
  EXPECT_TRUE(cuda.bits() == cpu.bits());
  EXPECT_GT(fake_counts().graph_launches, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, PluginTraining,
                         ::testing::Values(Case{"mlp", "adamw", "f32", 0}, Case{"mlp", "lion", "f32", 6},
                                           Case{"cnn", "sgd", "f32", 0}, Case{"cnn", "adamw", "bf16", 6},
                                           Case{"cnn", "sgd", "bf16_weights", 0}),
                         [](const auto& p) {
                           return fmt::format("{}_{}_{}_{}", p.param.model, p.param.optimizer, p.param.precision,
                                              p.param.micro_batch);
                         });

}  // namespace
}  // namespace trivet
