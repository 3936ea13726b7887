#include "trivet/train/schedule.h"

#include <gtest/gtest.h>

namespace trivet {
namespace {

OptimizerConfig rate(double lr) {
  OptimizerConfig o;
  o.lr = lr;
  return o;
}

TEST(Schedule, WarmUpRisesLinearlyToThePeak) {
  ScheduleConfig s;
  s.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(learning_rate(rate(0.8), s, 0, 100, 10), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(rate(0.8), s, 3, 100, 10), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(rate(0.8), s, 50, 100, 10), 0.8);
}

TEST(Schedule, CosineFallsFromThePeakToTheFloor) {
  ScheduleConfig s;
  s.name = "cosine";
  s.warmup_steps = 10;
  s.floor = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate(rate(1.0), s, 10, 110, 10), 1.0);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 60, 110, 10), 0.55, 1e-12);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 110, 110, 10), 0.1, 1e-12);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 500, 110, 10), 0.1, 1e-12);
}

TEST(Schedule, StepMultipliesByGammaAfterEachMilestoneEpoch) {
  ScheduleConfig s;
  s.name = "step";
  s.milestones = {2, 4};
  s.gamma = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate(rate(1.0), s, 19, 100, 10), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(rate(1.0), s, 20, 100, 10), 0.1);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 40, 100, 10), 0.01, 1e-15);
}

TEST(Schedule, LinearFallsInAStraightLineAfterTheWarmUp) {
  ScheduleConfig s;
  s.name = "linear";
  s.warmup_steps = 10;
  s.floor = 0.2;
  EXPECT_DOUBLE_EQ(learning_rate(rate(2.0), s, 4, 110, 10), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(rate(2.0), s, 10, 110, 10), 2.0);
  EXPECT_NEAR(learning_rate(rate(2.0), s, 60, 110, 10), 1.2, 1e-12);
  EXPECT_NEAR(learning_rate(rate(2.0), s, 110, 110, 10), 0.4, 1e-12);
  EXPECT_NEAR(learning_rate(rate(2.0), s, 400, 110, 10), 0.4, 1e-12);
}

TEST(Schedule, OneCycleRisesAndFallsAsHalfCosines) {
  ScheduleConfig s;
  s.name = "one_cycle";
  // Of 100 steps 30 rise, from step 0 to step 29; the last one is step 99. The values of PyTorch's OneCycleLR with
  // max_lr 1, div_factor 25 and final_div_factor infinite.
  EXPECT_NEAR(learning_rate(rate(1.0), s, 0, 100, 10), 0.04, 1e-12);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 29, 100, 10), 1.0, 1e-12);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 64, 100, 10), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 99, 100, 10), 0.0, 1e-12);
  EXPECT_NEAR(learning_rate(rate(1.0), s, 10, 100, 10), 1.0 - 0.96 * 0.5 * (1.0 + std::cos(3.14159265358979 * 10 / 29)),
              1e-9);
}

TEST(Schedule, OneCycleIsDefinedForAnyNumberOfSteps) {
  ScheduleConfig s;
  s.name = "one_cycle";
  for (const double rise : {0.0, 0.3, 1.0}) {
    s.rise = rise;
    for (std::int64_t total = 1; total < 6; ++total) {
      for (std::int64_t step = 0; step < total; ++step) {
        const double now = learning_rate(rate(1.0), s, step, total, 1);
        EXPECT_TRUE(now >= 0 && now <= 1) << rise << ", step " << step << " of " << total << ": " << now;
      }
    }
  }
}

}  // namespace
}  // namespace trivet
