#include "trivet/plan/interconnect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trivet/base/error.h"
#include "trivet/exec/device.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/ranks.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;

const Interconnect kSlow{"slow", 1e9, 1e-3, ""};

TEST(InterconnectTest, AnAllReduceIsTheBetterOfARingAndTrees) {
  EXPECT_EQ(all_reduce_seconds(1e6, 1, kSlow), 0);
  // 2 ranks: two messages of half the bytes.
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1e9, 2, kSlow), 2 * (1e-3 + 0.5));
  // 1024 ranks, few bytes: 20 messages of a tree rather than 2046 of a ring.
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 1024, kSlow), 2 * (10 * 1e-3 + 1e-6));
}

TEST(InterconnectTest, IsFoundByNameOrGivenByItsFigures) {
  EXPECT_EQ(find_interconnect("ib400").bytes_per_second, 50e9);
  const Interconnect own = find_interconnect("1.25e9:30e-6");
  EXPECT_EQ(own.bytes_per_second, 1.25e9);
  EXPECT_EQ(own.latency_seconds, 30e-6);
  for (const char* wrong : {"", "ib", "1e9", "1e9:", ":1", "0:1", "-1:1", "1e9:-1", "nan:1", "1e9:1x"}) {
    try {
      find_interconnect(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::usage);
      EXPECT_THAT(e.what(), HasSubstr("ib400"));
    }
  }
}

// Two values to be summed, each made by one step.
std::shared_ptr<const Plan> two_sums(const Device& device, StateLayout& states) {
  Graph graph("two");
  const ValueId x = graph.input("x", {DType::f32, {1 << 20}});
  const std::vector<ValueId> values = {apply(graph, "exp", {x}), apply(graph, "tanh", {x})};
  const std::vector<ValueId> sums = sum_over_ranks(graph, values, 4, {.first = 1, .others = 1});
  graph.set_output("a", sums[0]);
  graph.set_output("b", sums[1]);
  return compile(graph, states, device);
}

TEST(InterconnectTest, SumsGoOnWhileTheNextStepsCompute) {
  const auto device = open_device("cpu", {1, {}});
  StateLayout states(64);
  const auto plan = two_sums(*device, states);
  Ceilings ceilings;
  ceilings.matrix_flops = ceilings.vector_flops = 1e18;
  ceilings.memory_bytes = ceilings.cache_bytes = 8.0 * (1 << 20);  // each step takes a second
  const double sum = all_reduce_seconds(4.0 * (1 << 20), 4, kSlow);
  const RanksPrediction found = predict_ranks(*plan, ceilings, kSlow);
  EXPECT_EQ(found.ranks, 4);
  EXPECT_EQ(found.sums, 2);
  EXPECT_DOUBLE_EQ(found.bytes_sent, 2 * 1.5 * 4 * (1 << 20));
  EXPECT_NEAR(found.compute_seconds, 2, 1e-9);
  EXPECT_NEAR(found.sum_seconds, 2 * sum, 1e-9);
  EXPECT_NEAR(found.step_seconds, 2 + sum, 1e-9);  // the first sum is hidden behind the second step
  Interconnect slower = kSlow;
  slower.bytes_per_second = 1e6;  // sums now take longer than the steps: only the first second is not theirs
  EXPECT_NEAR(predict_ranks(*plan, ceilings, slower).step_seconds,
              1 + 2 * all_reduce_seconds(4.0 * (1 << 20), 4, slower), 1e-9);
}

}  // namespace
}  // namespace trivet
