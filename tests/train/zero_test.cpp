// What ranks keep for each other: the optimizer's states of a part of the parameters, and their summed gradients.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "trivet/train/plans.h"

namespace trivet {
namespace {

constexpr int kRanks = 4;

ModelTask task_of(const std::string& precision = "f32") {
  ModelConfig model;
  model.name = "mlp";
  model.hidden =
      std::vector<std::int64_t>(12, 900);  // wide layers of about one size, so that they can be shared out evenly
  model.classes = 10;
  model.precision = precision;
  return label_task(model, {20, 20, 1}, 1);
}

struct Setting {
  const char* name;
  const char* optimizer;
  const char* precision;
  std::int64_t micro_batch;
  std::int64_t shards;
  bool average;
  double clip;
};

TrainConfig config_of(const Setting& setting, int rank, int ranks, std::int64_t zero) {
  TrainConfig config;
  config.batch = 32;
  config.top_k = 1;
  config.optimizer.name = setting.optimizer;
  config.micro_batch = setting.micro_batch;
  config.shards = setting.shards;
  config.clip_norm = setting.clip;
  if (setting.average) config.average = AverageConfig{};
  config.rank = rank;
  config.ranks = ranks;
  config.zero = zero;
  return config;
}

TrainPlans plans_of(const Setting& setting, int rank, int ranks, std::int64_t zero) {
  static const auto cpu = open_device("cpu", {1, {}});
  return plan_training(task_of(setting.precision), config_of(setting, rank, ranks, zero), {64, 0, 0}, *cpu);
}

constexpr std::size_t kOptimizer = static_cast<std::size_t>(MemoryClass::optimizer);

// Bytes of gradients at the step where most of them are live.
std::size_t most_gradients(const Plan& plan) {
  std::size_t most = 0;
  for (int step = -1; step <= static_cast<int>(plan.steps.size()); ++step) {
    std::size_t live = 0;
    for (const PlannedBuffer& b : plan.buffers) {
      if (b.memory == MemoryClass::gradients && b.first <= step && step <= b.last) live += b.bytes;
    }
    most = std::max(most, live);
  }
  return most;
}

class ZeroPlanTest : public ::testing::TestWithParam<Setting> {};

TEST_P(ZeroPlanTest, EachRankHasItsPartOfTheOptimizersStates) {
  const std::size_t whole = plans_of(GetParam(), 0, kRanks, 0).states.bytes_by_class()[kOptimizer];
  std::size_t sum = 0;
  for (int rank = 0; rank < kRanks; ++rank) {
    const std::size_t part = plans_of(GetParam(), rank, kRanks, 1).states.bytes_by_class()[kOptimizer];
    EXPECT_LT(static_cast<double>(part), 0.3 * static_cast<double>(whole)) << "rank " << rank;
    sum += part;
  }
  EXPECT_EQ(sum, whole);
}

TEST_P(ZeroPlanTest, EveryStateOfTheRunIsKeptByTheRankThatAllTakeForItsOwner) {
  std::set<std::string> expected;
  const TrainPlans alone = plans_of(GetParam(), 0, 1, 1);
  EXPECT_TRUE(alone.sharded.empty());
  for (const StateLayout::Slot& slot : alone.states.slots()) {
    if (slot.value.memory == MemoryClass::optimizer) expected.insert(slot.value.name);
  }
  std::set<std::string> found;
  for (int rank = 0; rank < kRanks; ++rank) {
    const TrainPlans plans = plans_of(GetParam(), rank, kRanks, 1);
    EXPECT_EQ(plans.graph_hash, alone.graph_hash);
    for (const ShardedStates::Entry& entry : plans.sharded.optimizer) {
      const StateLayout::Slot* slot = plans.states.find(entry.value.name);
      EXPECT_EQ(slot != nullptr, entry.owner == rank || entry.owner == ShardedStates::kEveryRank) << entry.value.name;
      EXPECT_TRUE(!slot || slot->value.type == entry.value.type) << entry.value.name;
      found.insert(entry.value.name);
    }
    for (const ShardedStates::Entry& entry : plans.sharded.parameters) {
      EXPECT_TRUE(plans.states.find(entry.value.name)) << entry.value.name;
    }
  }
  EXPECT_EQ(found, expected);
}

TEST_P(ZeroPlanTest, SummedGradientsOfTheOthersAreNotKept) {
  const TrainPlans all = plans_of(GetParam(), 1, kRanks, 1), own = plans_of(GetParam(), 1, kRanks, 2);
  const Plan& before = all.apply ? *all.apply : all.main();
  const Plan& after = own.apply ? *own.apply : own.main();
  EXPECT_LT(static_cast<double>(most_gradients(after)), 0.7 * static_cast<double>(most_gradients(before)));
  EXPECT_LE(after.transient_bytes, before.transient_bytes);
  EXPECT_EQ(own.states.bytes_by_class(), all.states.bytes_by_class());
}

INSTANTIATE_TEST_SUITE_P(All, ZeroPlanTest,
                         ::testing::Values(Setting{"adamw", "adamw", "f32", 0, 0, false, 0},
                                           Setting{"muon_clipped", "muon", "f32", 0, 0, false, 1},
                                           Setting{"bf16_averaged", "sgd", "bf16_weights", 0, 0, true, 0},
                                           Setting{"accumulated", "lion", "f32", 4, 0, false, 0},
                                           Setting{"shards", "adafactor", "f32", 0, 8, true, 1}),
                         [](const auto& setting) { return std::string(setting.param.name); });

TEST(ZeroOfOneRankTest, IsPlannedAsWithout) {
  const Setting setting{"", "adamw", "f32", 0, 0, false, 0};
  EXPECT_EQ(plans_of(setting, 0, 1, 2).main().hash(), plans_of(setting, 0, 1, 0).main().hash());
}

}  // namespace
}  // namespace trivet
