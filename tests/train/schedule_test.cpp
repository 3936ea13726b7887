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

}  // namespace
}  // namespace trivet
