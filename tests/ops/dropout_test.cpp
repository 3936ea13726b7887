// What training relies on beyond the op's definition: the rate, fresh masks, and masks that belong to samples.
#include <gtest/gtest.h>

#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

// dropout (or its backward op) of ones of shape (samples, size).
std::vector<float> drop(std::vector<std::int64_t> samples, std::int64_t size, std::int64_t step, const Attrs& attrs,
                        const std::string& op = "dropout") {
  const auto batch = static_cast<std::int64_t>(samples.size());
  Graph graph;
  const ValueId x = graph.input("x", {DType::f32, {batch, size}});
  const ValueId t = graph.input("step", {DType::i64, {}});
  const ValueId ids = graph.input("sample", {DType::i64, {batch}});
  graph.set_output("y", apply(graph, op, {x, t, ids}, attrs));
  const std::vector<float> ones(static_cast<std::size_t>(batch * size), 1.0F);
  const std::vector<Tensor> out = evaluate(graph,
                                           {{"x", Tensor::of<float>(DType::f32, {batch, size}, ones)},
                                            {"step", Tensor::scalar_i64(step)},
                                            {"sample", Tensor::of<std::int64_t>(DType::i64, {batch}, samples)}},
                                           kernels::cpu::best_isa());
  const std::span<const float> y = out[0].as<float>();
  return {y.begin(), y.end()};
}

double dropped_share(const std::vector<float>& y) {
  return static_cast<double>(std::count(y.begin(), y.end(), 0.0F)) / static_cast<double>(y.size());
}

Attrs with_rate(double rate, std::int64_t seed = 1, std::int64_t op = 2) {
  return {{"rate", rate}, {"seed", seed}, {"op", op}};
}

TEST(Dropout, DropsTheShareThatRateSaysAndScalesTheRest) {
  for (const double rate : {0.1, 0.5, 0.9}) {
    constexpr std::int64_t kSize = 200000;
    const std::vector<float> y = drop({3, 4}, kSize, 5, with_rate(rate));
    // Five standard deviations of a binomial share.
    EXPECT_NEAR(dropped_share(y), rate, 5 * std::sqrt(rate * (1 - rate) / (2 * kSize))) << "rate " << rate;
    for (const float v : y) ASSERT_TRUE(v == 0.0F || std::abs(v - 1 / (1 - rate)) < 1e-6 / (1 - rate)) << v;
  }
}

TEST(Dropout, KeepsEverythingAtRateZero) {
  EXPECT_EQ(drop({1}, 1000, 1, with_rate(0)), std::vector<float>(1000, 1.0F));
}

TEST(Dropout, DrawsANewMaskForEachStepLayerSeedAndSample) {
  const std::vector<float> base = drop({7}, 1000, 1, with_rate(0.5, 1, 2));
  const std::vector<std::pair<std::string, std::vector<float>>> others = {
      {"step", drop({7}, 1000, 2, with_rate(0.5, 1, 2))},
      {"seed", drop({7}, 1000, 1, with_rate(0.5, 2, 2))},
      {"layer", drop({7}, 1000, 1, with_rate(0.5, 1, 3))},
      {"sample", drop({8}, 1000, 1, with_rate(0.5, 1, 2))},
      {"seed and layer exchanged", drop({7}, 1000, 1, with_rate(0.5, 2, 1))},
  };
  for (const auto& [what, other] : others) {
    int equal = 0;
    for (std::size_t i = 0; i < base.size(); ++i) equal += base[i] == other[i] ? 1 : 0;
    // Independent masks agree on half of the elements; five standard deviations are 79.
    EXPECT_NEAR(equal, 500, 80) << "another " << what;
  }
}

TEST(Dropout, GivesASampleTheSameMaskInAnyBatch) {
  constexpr std::int64_t kSize = 777;
  const std::vector<float> alone = drop({42}, kSize, 9, with_rate(0.3));
  const std::vector<float> third = drop({5, 6, 42, 7}, kSize, 9, with_rate(0.3));
  EXPECT_EQ(alone, std::vector<float>(third.begin() + 2 * kSize, third.begin() + 3 * kSize));
}

TEST(Dropout, GivesTheGradientTheMaskOfTheValue) {
  EXPECT_EQ(drop({1, 2}, 500, 3, with_rate(0.4)), drop({1, 2}, 500, 3, with_rate(0.4), "dropout_backward"));
}

}  // namespace
}  // namespace trivet
