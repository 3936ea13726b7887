#include "trivet/passes/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/plan/random_graph.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

using Bindings = std::map<std::string, Tensor>;
using testing::filled;

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

std::vector<Tensor> run(const Graph& g, const Bindings& bindings) {
  return evaluate(g, bindings, kernels::cpu::best_isa());
}

int count(const Graph& g, const std::string& op) {
  return static_cast<int>(
      std::count_if(g.nodes().begin(), g.nodes().end(), [&](const Node& n) { return n.op->name == op; }));
}

std::vector<std::string> state_names(const Graph& g) {
  std::vector<std::string> names;
  for (const ValueId v : g.states()) names.push_back(g.value(v).name);
  return names;
}

// Scales and zero points from the ranges that the values have for these bindings.
Bindings calibrated(const Graph& g, Bindings bindings) {
  const Graph ranges = with_ranges(g);
  const std::vector<Tensor> values = run(ranges, bindings);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string& name = ranges.outputs()[i].name;
    if (!name.starts_with("lowest/")) continue;
    const std::string of = name.substr(7);
    const auto highest = std::find_if(ranges.outputs().begin(), ranges.outputs().end(),
                                      [&](const NamedValue& o) { return o.name == "highest/" + of; });
    const Tensor& high = values[static_cast<std::size_t>(highest - ranges.outputs().begin())];
    const Quantization q = quantization_of(values[i].as<float>()[0], high.as<float>()[0]);
    bindings["scale/" + of] = Tensor::scalar_f32(q.scale);
    bindings["zero_point/" + of] = Tensor::of<std::uint8_t>(DType::u8, {}, std::span(&q.zero_point, 1));
  }
  return bindings;
}

Bindings random_states(const Graph& g) {
  Bindings bindings;
  std::uint32_t seed = 1;
  for (const ValueId v : g.states()) bindings[g.value(v).name] = filled(g.type(v), ++seed);
  for (const ValueId v : g.inputs()) bindings[g.value(v).name] = filled(g.type(v), ++seed);
  return bindings;
}

// Largest difference by the largest magnitude.
double relative_error(const Tensor& expected, const Tensor& found) {
  double most = 0, difference = 0;
  for (std::size_t i = 0; i < expected.as<float>().size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(expected.as<float>()[i])));
    const double d = std::abs(static_cast<double>(expected.as<float>()[i]) - static_cast<double>(found.as<float>()[i]));
    difference = std::isnan(d) ? d : std::max(difference, d);
  }
  return difference / most;
}

const Init kNormal{Init::Kind::normal, 1.0};

// x -> dense -> relu -> dense -> relu -> dense, the last one with few outputs.
Graph mlp() {
  Graph g;
  ValueId x = g.input("x", f32({8, 6, 8}));
  x = apply(g, "reshape", {x}, {{"shape", Shape{8, 48}}}, "flat");
  const ValueId w1 = g.parameter("w1", f32({64, 48}), kNormal);
  const ValueId b1 = g.parameter("b1", f32({64}), kNormal);
  x = apply(g, "linear", {x, w1, b1}, {{"activation", std::string("relu")}}, "dense1");
  const ValueId w2 = g.parameter("w2", f32({32, 64}), kNormal);
  x = apply(g, "relu", {apply(g, "linear", {x, w2}, {}, "dense2")}, {}, "relu2");
  const ValueId w3 = g.parameter("w3", f32({10, 32}), kNormal);
  g.set_output("y", apply(g, "linear", {x, w3}, {}, "dense3"));
  return g;
}

TEST(Quantize, ProductsOfAChainPassBytesToEachOther) {
  const Graph g = mlp();
  const Graph q = quantize(g);
  EXPECT_EQ(count(q, "linear_int8"), 2);
  EXPECT_EQ(count(q, "linear"), 1);           // 10 outputs are too few
  EXPECT_EQ(count(q, "quantize_linear"), 3);  // the input, and the weights of both
  EXPECT_EQ(count(q, "dequantize_linear"), 0);
  EXPECT_THAT(state_names(q), ::testing::IsSupersetOf({"scale/flat", "zero_point/flat", "scale/dense1"}));
  EXPECT_FALSE(q.find("zero_point/dense1").has_value());  // behind a relu
  const Bindings bindings = calibrated(g, random_states(g));
  const double error = relative_error(run(g, bindings)[0], run(q, bindings)[0]);
  EXPECT_LT(error, 0.03);
  EXPECT_GT(error, 0);
}

TEST(Quantize, ARangeAsksForTheValuesThatAreReadInBytes) {
  const Graph g = mlp();
  const Graph ranges = with_ranges(g);
  std::vector<std::string> names;
  for (const NamedValue& o : ranges.outputs()) names.push_back(o.name);
  EXPECT_THAT(names, ::testing::ElementsAre("y", "lowest/flat", "highest/flat", "lowest/dense1", "highest/dense1"));
  const Bindings bindings = random_states(g);
  const std::vector<Tensor> values = run(ranges, bindings);
  EXPECT_EQ(values[0].data, run(g, bindings)[0].data);
  EXPECT_EQ(values[3].as<float>()[0], 0.0F);
  EXPECT_GT(values[4].as<float>()[0], 1.0F);
}

TEST(Quantize, AResultThatIsReadInF32AsWellStaysInF32) {
  Graph g;
  const ValueId x = g.input("x", f32({8, 64}));
  const ValueId a = apply(g, "linear", {x, g.parameter("w1", f32({64, 64}), kNormal)}, {}, "a");
  const ValueId b = apply(g, "linear", {a, g.parameter("w2", f32({64, 64}), kNormal)}, {}, "b");
  g.set_output("y", apply(g, "add", {a, b}));
  const Graph q = quantize(g);
  EXPECT_EQ(count(q, "linear_int8"), 2);
  EXPECT_EQ(count(q, "quantize_linear"), 4);  // x, a and the weights
  const Bindings bindings = calibrated(g, random_states(g));
  EXPECT_LT(relative_error(run(g, bindings)[0], run(q, bindings)[0]), 0.03);
}

// A convolution's u8 results are pooled as they are; an f32 image is pooled before it becomes u8.
TEST(Quantize, PoolsBytesWhereTheyAreThere) {
  const Attrs same = {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}};
  const Attrs windows = {{"kernel", std::vector<std::int64_t>{2, 2}}};
  Graph g;
  ValueId x = apply(g, "max_pool", {g.input("x", f32({2, 12, 12, 16}))}, windows, "pool1");
  x = apply(g, "conv2d", {x, g.parameter("w1", f32({32, 3, 3, 16}), kNormal)}, same, "conv1");
  x = apply(g, "relu", {apply(g, "max_pool", {x}, windows, "pool2")}, {}, "relu2");
  x = apply(g, "reshape", {x}, {{"shape", Shape{2, 288}}}, "flat");
  x = apply(g, "linear", {x, g.parameter("w2", f32({16, 288}), kNormal)}, {}, "dense");
  g.set_output("y", x);
  const Graph q = quantize(g);
  EXPECT_EQ(count(q, "relu"), 0);
  EXPECT_EQ(count(q, "quantize_linear"), 3);  // pool1, and both weights
  std::vector<DType> pooled;
  for (const Node& n : q.nodes()) {
    if (n.op->name == "max_pool") pooled.push_back(q.type(n.inputs[0]).dtype);
  }
  EXPECT_THAT(pooled, ::testing::ElementsAre(DType::f32, DType::u8));
  const Bindings bindings = calibrated(g, random_states(g));
  const double error = relative_error(run(g, bindings)[0], run(q, bindings)[0]);
  EXPECT_LT(error, 0.03);
  EXPECT_GT(error, 0);
}

TEST(Quantize, ConvolutionsWithPaddingAndZeroPoints) {
  Graph g;
  const ValueId x = g.input("x", f32({2, 9, 9, 16}));
  const Attrs same = {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}};
  const ValueId w1 = g.parameter("w1", f32({32, 3, 3, 16}), kNormal);
  const ValueId b1 = g.parameter("b1", f32({32}), kNormal);
  const ValueId a = apply(g, "conv2d", {x, w1, b1}, same, "a");
  const ValueId w2 = g.parameter("w2", f32({16, 3, 3, 32}), kNormal);
  g.set_output("y", apply(g, "conv2d", {a, w2}, same, "b"));
  const Graph q = quantize(g);
  EXPECT_EQ(count(q, "conv2d_int8"), 2);
  EXPECT_TRUE(q.find("zero_point/a").has_value());
  const Bindings bindings = calibrated(g, random_states(g));
  EXPECT_LT(relative_error(run(g, bindings)[0], run(q, bindings)[0]), 0.04);
}

TEST(Quantize, LeavesAloneWhatHasNoFixedWeightsOrIsSmall) {
  Graph g;
  const ValueId x = g.input("x", f32({32, 64}));
  const ValueId other = g.input("other", f32({32, 64}));
  const ValueId narrow = apply(g, "linear", {x, g.parameter("w", f32({8, 64}), kNormal)});
  g.set_output("a", apply(g, "linear", {x, other}));
  g.set_output("b", narrow);
  const Graph q = quantize(g);
  EXPECT_EQ(count(q, "linear"), 2);
  EXPECT_EQ(q.dump(), g.dump());
}

TEST(Quantize, AChannelOfZerosIsZero) {
  Graph g;
  const ValueId x = g.input("x", f32({4, 32}));
  g.set_output("y", apply(g, "linear", {x, g.parameter("w", f32({16, 32}), kNormal)}));
  Bindings bindings = random_states(g);
  std::fill_n(bindings["w"].as<float>().begin(), 32, 0.0F);
  bindings = calibrated(g, bindings);
  const Tensor y = run(quantize(g), bindings)[0];
  for (std::size_t row = 0; row < 4; ++row) EXPECT_EQ(y.as<float>()[row * 16], 0.0F);
}

TEST(FoldBatchNorm, GoesIntoWeightsAndBias) {
  for (const bool biased : {false, true}) {
    Graph g;
    const ValueId x = g.input("x", f32({2, 5, 5, 3}));
    std::vector<ValueId> inputs = {x, g.parameter("w", f32({4, 3, 3, 3}), kNormal)};
    if (biased) inputs.push_back(g.parameter("b", f32({4}), kNormal));
    const ValueId conv = apply(g, "conv2d", inputs);
    std::vector<ValueId> norm = {conv};
    for (const char* name : {"gamma", "beta", "mean", "var"}) norm.push_back(g.parameter(name, f32({4}), kNormal));
    g.set_output("y", apply(g, "batch_norm", norm, {{"activation", std::string("relu")}}));
    const Graph folded = fold_batch_norm(g);
    EXPECT_EQ(count(folded, "batch_norm"), 0);
    Bindings bindings = random_states(g);
    for (float& v : bindings["var"].as<float>()) v = std::abs(v) + 0.1F;
    const Tensor expected = run(g, bindings)[0], found = run(folded, bindings)[0];
    EXPECT_LT(relative_error(expected, found), 1e-5);
  }
}

TEST(FoldBatchNorm, LeavesAResidualAndASharedResult) {
  for (const bool residual : {false, true}) {
    Graph g;
    const ValueId x = g.input("x", f32({2, 5, 5, 4}));
    const ValueId conv = apply(g, "conv2d", {x, g.parameter("w", f32({4, 1, 1, 4}), kNormal)});
    std::vector<ValueId> norm = {conv};
    for (const char* name : {"gamma", "beta", "mean", "var"}) norm.push_back(g.parameter(name, f32({4}), kNormal));
    if (residual) norm.push_back(x);
    g.set_output("y", apply(g, "batch_norm", norm));
    if (!residual) g.set_output("conv", conv);
    const Graph folded = fold_batch_norm(g);
    EXPECT_EQ(folded.nodes().size(), g.nodes().size());
    EXPECT_EQ(count(folded, "batch_norm"), 1);
  }
}

TEST(QuantizationOf, HoldsZeroExactly) {
  for (const auto& [low, high] : {std::pair{-1.0F, 3.0F}, {0.5F, 2.0F}, {-4.0F, -1.0F}, {0.0F, 0.0F}, {-0.3F, 0.7F}}) {
    const Quantization q = quantization_of(low, high);
    EXPECT_GT(q.scale, 0);
    const double least = -static_cast<double>(q.zero_point) * static_cast<double>(q.scale);
    EXPECT_NEAR(least, std::min(0.0F, low), 0.51 * static_cast<double>(q.scale));
    EXPECT_NEAR(least + 255 * static_cast<double>(q.scale), std::max({0.0F, high, low == high ? 255.0F : 0.0F}),
                0.51 * static_cast<double>(q.scale));
  }
  EXPECT_EQ(quantization_of(0.5F, 2.0F).zero_point, 0);
  EXPECT_THROW(quantization_of(std::nanf(""), 1), Error);
  EXPECT_THROW(quantization_of(0, INFINITY), Error);
}

}  // namespace
}  // namespace trivet
