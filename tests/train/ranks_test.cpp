// Plans for several ranks: what is summed when, and what each rank has of a batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "trivet/base/error.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

ModelTask wide_task() {
  ModelConfig model;
  model.name = "mlp";
  model.hidden = {600, 600};  // more than the first bucket holds
  model.classes = 10;
  return label_task(model, {28, 28, 1}, 1);
}

std::shared_ptr<const Device> cpu() { return open_device("cpu", {1, {}}); }

PlanPtr step_plan(StateLayout& states, int ranks) {
  TrainConfig config;
  config.ranks = ranks;
  config.top_k = 1;
  return compile_graph(step_graph(wide_task(), config, 8), states, *cpu());
}

std::vector<std::size_t> steps_of(const Plan& plan, const std::string& op) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    if (plan.steps[i].op == op) result.push_back(i);
  }
  return result;
}

bool shares(const Plan& plan, const std::vector<int>& written, const std::vector<int>& read) {
  const auto root = [&](int v) {
    const int alias = v < 0 ? -1 : plan.values[static_cast<std::size_t>(v)].alias_of;
    return alias >= 0 ? alias : v;
  };
  std::set<int> roots;
  for (const int v : written) roots.insert(root(v));
  return std::any_of(read.begin(), read.end(), [&](int v) { return roots.contains(root(v)); });
}

TEST(RanksPlanTest, EachSumStartsRightAfterItsLastGradientIsWritten) {
  StateLayout states(64);
  const PlanPtr plan = step_plan(states, 2);
  const std::vector<std::size_t> starts = steps_of(*plan, "sum_ranks_start");
  ASSERT_GE(starts.size(), 2u);
  for (const std::size_t start : starts) {
    std::size_t before = start - 1;
    while (plan->steps[before].op == "sum_ranks_start") --before;
    EXPECT_TRUE(shares(*plan, plan->steps[before].outputs, plan->steps[start].inputs)) << plan->steps[start].node;
  }
  // The first one has most of the backward pass still before it.
  EXPECT_LT(starts.front(), starts.back());
}

TEST(RanksPlanTest, NothingIsWaitedForWhileThereIsOtherWork) {
  StateLayout states(64);
  const PlanPtr plan = step_plan(states, 2);
  const std::vector<std::size_t> waits = steps_of(*plan, "sum_ranks_wait");
  ASSERT_EQ(waits.size(), steps_of(*plan, "sum_ranks_start").size());
  for (std::size_t i = waits.front(); i < plan->steps.size(); ++i) {
    const std::string& op = plan->steps[i].op;
    EXPECT_TRUE(op == "sum_ranks_wait" || op == "adamw_step") << op;
  }
}

TEST(RanksPlanTest, SumsAreMadeInThePlaceOfTheGradients) {
  StateLayout states(64);
  const PlanPtr plan = step_plan(states, 2);
  for (const PlannedStep& step : plan->steps) {
    if (step.op != "sum_ranks_start" && step.op != "sum_ranks_wait") continue;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      EXPECT_EQ(plan->values[static_cast<std::size_t>(step.inputs[i])].offset,
                plan->values[static_cast<std::size_t>(step.outputs[i])].offset);
    }
  }
}

TEST(RanksPlanTest, OneRankHasNoSums) {
  StateLayout states(64);
  EXPECT_TRUE(steps_of(*step_plan(states, 1), "sum_ranks_start").empty());
}

TEST(RanksPlanTest, APlanForSeveralRanksDoesNotRunAlone) {
  StateLayout states(64);
  const PlanPtr plan = step_plan(states, 2);
  const auto arena = std::make_shared<Arena>(cpu(), states, std::vector<PlanPtr>{plan});
  arena->initialize(1);
  Session session(arena, plan);
  EXPECT_THROW(session.run(), Error);
}

TEST(RanksPlanTest, ACheckpointsHashDoesNotDependOnTheNumberOfRanks) {
  const auto hash = [](int rank, int ranks, std::int64_t shards) {
    TrainConfig config;
    config.batch = 32;
    config.top_k = 1;
    config.rank = rank;
    config.ranks = ranks;
    config.shards = shards;
    return plan_training(wide_task(), config, {100, 0, 0}, *cpu()).graph_hash;
  };
  EXPECT_EQ(hash(0, 1, 0), hash(1, 3, 0));
  EXPECT_EQ(hash(0, 1, 4), hash(1, 2, 4));
  EXPECT_NE(hash(0, 1, 0), hash(0, 1, 4));
}

TEST(SliceTest, CutsABatchIntoAdjoiningPartsOfNearlyOneSize) {
  for (const std::int64_t samples : {0, 1, 2, 7, 8, 100}) {
    for (const std::int64_t parts : {1, 2, 3, 8}) {
      std::int64_t next = 0;
      for (std::int64_t i = 0; i < parts; ++i) {
        const Slice slice = slice_of(samples, i, parts);
        EXPECT_EQ(slice.first, next);
        EXPECT_LE(std::abs(slice.count - samples / parts), 1);
        next += slice.count;
      }
      EXPECT_EQ(next, samples);
    }
  }
}

TEST(SliceTest, ARankHasWholeShards) {
  TrainConfig config;
  config.shards = 8;
  config.ranks = 4;
  config.rank = 3;
  const Slice own = own_slice(config, 21);  // shards of 3 3 3 3 3 2 2 2
  EXPECT_EQ(own.first, 17);
  EXPECT_EQ(own.count, 4);
}

TEST(ShardPlaceTest, LeavesOfATreeMeetTheirNeighbours) {
  // Leaf 5 of 8 finds leaf 4, and the sum of 0 to 3 below it: it merges the first of them alone.
  EXPECT_EQ(ShardPlace::of(0), (ShardPlace{0, 0}));
  EXPECT_EQ(ShardPlace::of(1), (ShardPlace{1, 1}));
  EXPECT_EQ(ShardPlace::of(5), (ShardPlace{2, 1}));
  EXPECT_EQ(ShardPlace::of(6), (ShardPlace{2, 0}));
  EXPECT_EQ(ShardPlace::of(7), (ShardPlace{3, 3}));
}

}  // namespace
}  // namespace trivet
