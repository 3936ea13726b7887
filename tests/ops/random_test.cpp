// What users of random tensors rely on beyond the formula: the distribution, and draws that belong to samples.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

constexpr std::int64_t kSize = 100000;

std::vector<float> draw(const std::string& op, std::vector<std::int64_t> samples, std::int64_t size, std::int64_t step,
                        Attrs attrs = {}) {
  const auto batch = static_cast<std::int64_t>(samples.size());
  attrs.emplace_back("shape", std::vector<std::int64_t>{batch, size});
  Graph graph;
  const ValueId t = graph.input("step", {DType::i64, {}});
  const ValueId ids = graph.input("sample", {DType::i64, {batch}});
  graph.set_output("y", apply(graph, op, {t, ids}, attrs));
  const std::vector<Tensor> out = evaluate(
      graph, {{"step", Tensor::scalar_i64(step)}, {"sample", Tensor::of<std::int64_t>(DType::i64, {batch}, samples)}},
      kernels::cpu::best_isa());
  const std::span<const float> y = out[0].as<float>();
  return {y.begin(), y.end()};
}

// The Kolmogorov-Smirnov statistic times sqrt(n): above 1.95 in one of 1,000 cases.
double distance(std::vector<float> x, double (*cdf)(double)) {
  std::sort(x.begin(), x.end());
  const auto n = static_cast<double>(x.size());
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = cdf(static_cast<double>(x[i]));
    const double above = (static_cast<double>(i) + 1) / n - expected;
    const double below = expected - static_cast<double>(i) / n;
    if (!(above <= largest)) largest = above;
    if (!(below <= largest)) largest = below;
  }
  return largest * std::sqrt(n);
}

double correlation(const std::vector<float>& x, std::size_t lag) {
  double sum = 0, square = 0;
  for (std::size_t i = 0; i + lag < x.size(); ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i + lag]);
    square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return sum / square;
}

TEST(RandomNormal, HasTheNormalDistribution) {
  const std::vector<float> x = draw("random_normal", {1, 2}, kSize, 3, {{"seed", std::int64_t{5}}});
  EXPECT_LT(distance(x, [](double v) { return 0.5 * std::erfc(-v / std::sqrt(2.0)); }), 1.95);
  // Five standard deviations of a correlation.
  for (const std::size_t lag : {1U, 2U, 3U, 4U, 100000U}) {
    EXPECT_NEAR(correlation(x, lag), 0, 5 / std::sqrt(static_cast<double>(kSize))) << "lag " << lag;
  }
}

TEST(RandomNormal, HasTheMeanAndTheScaleAskedFor) {
  const std::vector<float> x = draw("random_normal", {1}, kSize, 3, {{"mean", -2.0}, {"scale", 0.5}});
  double mean = 0, square = 0;
  for (const float v : x) mean += static_cast<double>(v) / kSize;
  for (const float v : x) square += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean) / kSize;
  EXPECT_NEAR(mean, -2, 5 * 0.5 / std::sqrt(kSize));
  EXPECT_NEAR(std::sqrt(square), 0.5, 5 * 0.5 / std::sqrt(2.0 * kSize));
}

TEST(RandomUniform, HasTheUniformDistributionBetweenItsEnds) {
  const std::vector<float> x = draw("random_uniform", {1, 2}, kSize, 3, {{"low", -1.0}, {"high", 3.0}});
  EXPECT_LT(distance(x, [](double v) { return (v + 1) / 4; }), 1.95);
  EXPECT_GE(*std::min_element(x.begin(), x.end()), -1.0F);
  EXPECT_LT(*std::max_element(x.begin(), x.end()), 3.0F);
}

TEST(RandomTensors, DrawAnewForEachStepSeedLayerAndSample) {
  for (const std::string op : {"random_normal", "random_uniform"}) {
    const std::vector<float> base = draw(op, {7}, 1000, 1);
    for (const std::vector<float>& other :
         {draw(op, {7}, 1000, 2), draw(op, {7}, 1000, 1, {{"seed", std::int64_t{1}}}),
          draw(op, {7}, 1000, 1, {{"op", std::int64_t{1}}}), draw(op, {8}, 1000, 1)}) {
      int equal = 0;
      for (std::size_t i = 0; i < base.size(); ++i) equal += base[i] == other[i] ? 1 : 0;
      EXPECT_LT(equal, 3) << op;  // 2^-24 of the elements
    }
  }
}

TEST(RandomTensors, GiveASampleTheSameDrawsInAnyBatch) {
  for (const std::string op : {"random_normal", "random_uniform"}) {
    const std::vector<float> alone = draw(op, {42}, 777, 9);
    const std::vector<float> third = draw(op, {5, 6, 42, 7}, 777, 9);
    EXPECT_EQ(alone, std::vector<float>(third.begin() + 2 * 777, third.begin() + 3 * 777)) << op;
  }
}

TEST(RandomTensors, CountTheirRowsAsSamplesWithoutSampleInput) {
  Graph graph;
  const ValueId t = graph.input("step", {DType::i64, {}});
  graph.set_output("y", apply(graph, "random_normal", {t}, {{"shape", std::vector<std::int64_t>{3, 50}}}));
  const std::vector<Tensor> out = evaluate(graph, {{"step", Tensor::scalar_i64(4)}}, kernels::cpu::best_isa());
  const std::span<const float> y = out[0].as<float>();
  EXPECT_EQ(std::vector<float>(y.begin(), y.end()), draw("random_normal", {0, 1, 2}, 50, 4));
}

TEST(RandomTensors, RefuseAttributesThatHaveNoMeaning) {
  Graph graph;
  const ValueId t = graph.input("step", {DType::i64, {}});
  const Attrs shape = {{"shape", std::vector<std::int64_t>{3}}};
  const auto with = [&](const std::string& name, AttrValue value) {
    Attrs attrs = shape;
    attrs.emplace_back(name, std::move(value));
    return attrs;
  };
  EXPECT_THROW(apply(graph, "random_uniform", {t}, with("low", 2.0)), Error);
  EXPECT_THROW(apply(graph, "random_uniform", {t}, with("high", std::nan(""))), Error);
  EXPECT_THROW(apply(graph, "random_normal", {t}, with("scale", -1.0)), Error);
  EXPECT_THROW(apply(graph, "random_normal", {t}, with("dtype", std::string("i32"))), Error);
  EXPECT_THROW(apply(graph, "random_normal", {t}, {{"shape", std::vector<std::int64_t>{}}}), Error);
  EXPECT_THROW(apply(graph, "random_normal", {t}, {{"shape", std::vector<std::int64_t>{3, -1}}}), Error);
  EXPECT_NO_THROW(apply(graph, "random_normal", {t}, shape));
}

}  // namespace
}  // namespace trivet
