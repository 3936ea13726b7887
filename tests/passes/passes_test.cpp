#include "trivet/passes/passes.h"

#include <gtest/gtest.h>

#include "kernels/math/small_float.h"
#include "tests/plan/random_graph.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/exec/float_cast.h"
#include "trivet/passes/gradients.h"

namespace trivet {
namespace {

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

std::vector<Tensor> run(const Graph& g, const std::map<std::string, Tensor>& bindings) {
  return evaluate(g, bindings, kernels::cpu::best_isa());
}

Evaluate evaluator() {
  return [](const Graph& g) { return run(g, {}); };
}

using testing::filled;

int count(const Graph& g, const std::string& op) {
  return static_cast<int>(
      std::count_if(g.nodes().begin(), g.nodes().end(), [&](const Node& n) { return n.op->name == op; }));
}

TEST(Passes, EachKeepsTheBitsOfRandomGraphs) {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const Graph g = testing::RandomGraph(seed).make();
    std::map<std::string, Tensor> bindings;
    for (const ValueId v : g.inputs())
      bindings[g.value(v).name] = filled(g.type(v), seed + static_cast<std::uint32_t>(v));
    const std::vector<Tensor> expected = run(g, bindings);
    for (const Graph& rewritten :
         {fold_constants(g, evaluator()), merge_common(g), drop_dead(g), fuse(g), optimize(g, evaluator())}) {
      const std::vector<Tensor> found = run(rewritten, bindings);
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].data, expected[i].data) << "graph " << seed;
      EXPECT_EQ(rewritten.updates().size(), g.updates().size());
    }
  }
}

TEST(WidenF16, ComputesInF32WhatTheDeviceDoesNotAndRoundsItsResultsOnce) {
  Graph g;
  const ValueId x = g.input("x", f32({3, 4})), w = g.input("w", f32({4, 4}));
  const ValueId narrow_x = apply(g, "cast", {x}, {{"to", std::string("f16")}});
  const ValueId narrow_w = apply(g, "cast", {w}, {{"to", std::string("f16")}});
  const ValueId y = apply(g, "linear", {narrow_x, narrow_w});
  const ValueId moved = apply(g, "transpose", {y}, {{"perm", std::vector<std::int64_t>{1, 0}}});
  g.set_output("y", moved);
  g.set_output("sum", apply(g, "add", {x, x}));
  const Graph widened = widen_f16(g, [](const Graph&, const Node& node) { return node.op->name != "linear"; });
  EXPECT_EQ(widened.type(widened.outputs()[0].value), (TensorType{DType::f16, {4, 3}}));
  EXPECT_EQ(count(widened, "cast"), 5);
  for (const Node& node : widened.nodes()) {
    const DType expected = node.op->name == "transpose" ? DType::f16 : DType::f32;
    if (node.op->name == "linear" || node.op->name == "transpose") {
      EXPECT_EQ(widened.type(node.outputs[0]).dtype, expected) << node.op->name;
    }
  }
  const auto rounded = [](const Tensor& t) {
    return float_cast({DType::f16, t.type.shape}, float_cast(t.type, t.data, DType::f16).data, DType::f32);
  };
  const std::map<std::string, Tensor> bindings = {{"x", filled(f32({3, 4}), 1)}, {"w", filled(f32({4, 4}), 2)}};
  Graph plain;
  plain.set_output("y", apply(plain, "linear", {plain.input("x", f32({3, 4})), plain.input("w", f32({4, 4}))}));
  const Tensor sums = run(plain, {{"x", rounded(bindings.at("x"))}, {"w", rounded(bindings.at("w"))}})[0];
  const Tensor expected = float_cast(sums.type, sums.data, DType::f16);
  const Tensor found = run(widened, bindings)[0];
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      EXPECT_EQ(found.as<kernels::Float16>()[j * 3 + i].bits, expected.as<kernels::Float16>()[i * 4 + j].bits);
    }
  }
}

TEST(WidenF16, LeavesAGraphWithoutF16AsItIs) {
  const Graph g = testing::RandomGraph(3).make();
  EXPECT_EQ(widen_f16(g, [](const Graph&, const Node&) { return false; }).hash(), g.hash());
}

TEST(FoldConstants, ComputesWhatIsKnown) {
  Graph g;
  const ValueId a = g.constant(Tensor::scalar_f32(2.0F));
  const ValueId b = g.constant(Tensor::scalar_f32(3.0F));
  g.set_output("y", apply(g, "add", {g.input("x", f32({})), apply(g, "mul", {a, b})}));
  const Graph folded = fold_constants(g, evaluator());
  EXPECT_EQ(count(folded, "mul"), 0);
  EXPECT_EQ(run(folded, {{"x", Tensor::scalar_f32(1.0F)}})[0].as<float>()[0], 7.0F);
}

TEST(FoldConstants, LeavesLargeResultsToTheRun) {
  Graph g;
  g.set_output("y", apply(g, "full", {}, {{"shape", std::vector<std::int64_t>{1024, 1024}}, {"value", 1.0}}));
  EXPECT_EQ(count(fold_constants(g, evaluator()), "full"), 1);
}

TEST(MergeCommon, MergesEqualNodesButNotDifferentAttributes) {
  Graph g;
  const ValueId x = g.input("x", f32({4, 4}));
  const ValueId a = apply(g, "softmax", {x}, {{"axis", std::int64_t{1}}});
  const ValueId b = apply(g, "softmax", {x}, {{"axis", std::int64_t{1}}});
  const ValueId c = apply(g, "softmax", {x}, {{"axis", std::int64_t{0}}});
  g.set_output("y", apply(g, "add", {apply(g, "add", {a, b}), c}));
  EXPECT_EQ(count(merge_common(g), "softmax"), 2);
}

TEST(DropDead, DropsWhatNobodyNeedsAndKeepsInputsAndStates) {
  Graph g;
  const ValueId x = g.input("x", f32({4}));
  g.input("unused", f32({4}));
  apply(g, "exp", {x});
  g.set_output("y", apply(g, "tanh", {x}));
  const Graph result = drop_dead(g);
  EXPECT_EQ(result.nodes().size(), 1U);
  EXPECT_TRUE(result.find("unused").has_value());
}

TEST(Fuse, BiasAndActivationJoinTheProduct) {
  Graph g;
  const ValueId x = g.input("x", f32({5, 3}));
  const ValueId w = g.parameter("w", f32({4, 3}), {Init::Kind::normal, 1.0});
  const ValueId b = g.parameter("b", f32({4}), {Init::Kind::normal, 1.0});
  g.set_output("y", apply(g, "relu", {apply(g, "add", {apply(g, "linear", {x, w}), b})}));
  const Graph fused = fuse(g);
  ASSERT_EQ(fused.nodes().size(), 1U);
  EXPECT_EQ(fused.nodes()[0].op->name, "linear");
  const std::map<std::string, Tensor> bindings = {{"x", filled(f32({5, 3}), 1)}};
  const Tensor expected = run(g, bindings)[0], found = run(fused, bindings)[0];
  for (std::size_t i = 0; i < 20; ++i) EXPECT_NEAR(expected.as<float>()[i], found.as<float>()[i], 1e-6);
}

TEST(Fuse, KeepsAnActivationWhoseInputIsNeededElsewhere) {
  Graph g;
  const ValueId x = g.input("x", f32({5, 3}));
  const ValueId w = g.parameter("w", f32({4, 3}), {});
  const ValueId y = apply(g, "linear", {x, w});
  g.set_output("pre", y);
  g.set_output("post", apply(g, "relu", {y}));
  EXPECT_EQ(count(fuse(g), "relu"), 1);
}

// Loss, its mean, and the gradient: as people write it.
Graph classifier(bool mean_first) {
  Graph g;
  const ValueId x = g.input("x", f32({6, 3}));
  const ValueId y = g.input("y", {DType::i32, {6}});
  const ValueId w = g.parameter("w", f32({4, 3}), {Init::Kind::normal, 1.0});
  const ValueId loss = apply(g, "cross_entropy", {apply(g, "linear", {x, w}), y});
  const ValueId mean = apply(g, "reduce_mean", {loss}, {{"keepdims", false}});
  if (mean_first) g.set_output("loss", mean);
  const std::vector<ValueId> grads = gradients(g, mean, kNoValue, std::vector{w});
  if (!mean_first) g.set_output("loss", mean);
  g.set_output("dw", grads[0]);
  return g;
}

TEST(Fuse, SoftmaxCrossEntropyAndItsGradientBecomeOneNode) {
  const Graph g = classifier(true);
  const Graph fused = optimize(g, evaluator());
  EXPECT_EQ(count(fused, "softmax_cross_entropy"), 1);
  EXPECT_EQ(count(fused, "cross_entropy"), 0);
  EXPECT_EQ(count(fused, "cross_entropy_backward"), 0);
  const std::vector<std::int32_t> labels = {0, 1, 2, 3, 1, 2};
  const std::map<std::string, Tensor> bindings = {{"x", filled(f32({6, 3}), 5)},
                                                  {"y", Tensor::of<std::int32_t>(DType::i32, {6}, labels)}};
  const std::vector<Tensor> expected = run(g, bindings), found = run(fused, bindings);
  for (std::size_t o = 0; o < 2; ++o) {
    for (std::size_t i = 0; i < expected[o].as<float>().size(); ++i) {
      EXPECT_NEAR(expected[o].as<float>()[i], found[o].as<float>()[i], 1e-6) << "output " << o << ", element " << i;
    }
  }
}

TEST(Fuse, ALossWhoseGradientDependsOnItselfStaysApart) {
  Graph g;
  const ValueId x = g.input("x", f32({6, 4}));
  const ValueId y = g.input("y", {DType::i32, {6}});
  const ValueId loss = apply(g, "cross_entropy", {x, y});
  const ValueId total = apply(g, "reduce_sum", {apply(g, "square", {loss})}, {{"keepdims", false}});
  g.set_output("dx", gradients(g, total, kNoValue, std::vector{x})[0]);
  const Graph fused = fuse(g);
  EXPECT_EQ(count(fused, "cross_entropy"), 1);
  EXPECT_EQ(count(fused, "softmax_cross_entropy"), 0);
}

TEST(Fuse, ALossWithClassWeightsAndItsGradientBecomeOneNode) {
  Graph g;
  const ValueId x = g.input("x", f32({6, 4}));
  const ValueId y = g.input("y", {DType::i32, {6}});
  const ValueId weights = g.input("weights", f32({4}));
  const ValueId loss = apply(g, "cross_entropy", {x, y, weights}, {{"label_smoothing", 0.1}});
  g.set_output("loss", loss);
  g.set_output("dx", gradients(g, loss, g.input("dloss", f32({6})), std::vector{x})[0]);
  const Graph fused = fuse(g);
  EXPECT_EQ(fused.nodes().size() + 1, g.nodes().size());
  EXPECT_EQ(count(fused, "softmax_cross_entropy"), 1);
  EXPECT_EQ(count(fused, "cross_entropy"), 0);
  const std::vector<std::int32_t> labels = {0, 1, 2, 3, 1, 2};
  const std::map<std::string, Tensor> bindings = {{"x", filled(f32({6, 4}), 5)},
                                                  {"y", Tensor::of<std::int32_t>(DType::i32, {6}, labels)},
                                                  {"weights", filled(f32({4}), 6)},
                                                  {"dloss", filled(f32({6}), 7)}};
  const std::vector<Tensor> expected = run(g, bindings), found = run(fused, bindings);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(expected[0].as<float>()[i], found[0].as<float>()[i], 1e-6) << i;
  EXPECT_EQ(found[1].data, expected[1].data);
}

TEST(Fuse, ALossStaysApartFromTheGradientWithOtherClassWeights) {
  Graph g;
  const ValueId x = g.input("x", f32({6, 4}));
  const ValueId y = g.input("y", {DType::i32, {6}});
  const ValueId weighted = apply(g, "cross_entropy", {x, y, g.input("weights", f32({4}))});
  const ValueId plain = apply(g, "cross_entropy", {x, y});
  const ValueId other = apply(g, "cross_entropy", {x, y, g.input("other", f32({4}))});
  g.set_output("loss", apply(g, "add", {weighted, plain}));
  g.set_output("dx", gradients(g, other, g.input("dloss", f32({6})), std::vector{x})[0]);
  EXPECT_EQ(count(fuse(drop_dead(g)), "cross_entropy"), 2);
}

TEST(Fuse, BiasAndActivationJoinConvolutionsOfEveryRank) {
  for (const char* op : {"conv2d", "conv", "conv_transpose"}) {
    for (const std::size_t rank : {3U, 4U, 5U}) {
      const std::string name = op;
      if (name != "conv_transpose" && (name == "conv2d") != (rank == 4)) continue;
      SCOPED_TRACE(name + " of rank " + std::to_string(rank));
      Shape image(rank, 5), kernel(rank, 3);
      image[0] = 2;
      image.back() = kernel.front() = kernel.back() = 4;
      Graph g;
      const ValueId x = g.input("x", f32(image));
      const ValueId w = g.parameter("w", f32(kernel), {Init::Kind::normal, 0.3});
      const ValueId b = g.parameter("b", f32({4}), {Init::Kind::normal, 1.0});
      g.set_output("y", apply(g, "relu", {apply(g, "add", {b, apply(g, op, {x, w})})}));
      const Graph fused = fuse(g);
      // A transposed convolution takes a bias but no activation.
      EXPECT_EQ(fused.nodes().size(), name == "conv_transpose" ? 2U : 1U);
      EXPECT_EQ(count(fused, "add"), 0);
      const std::map<std::string, Tensor> bindings = {{"x", filled(f32(image), 1)}};
      const Tensor expected = run(g, bindings)[0], found = run(fused, bindings)[0];
      ASSERT_EQ(expected.as<float>().size(), found.as<float>().size());
      for (std::size_t i = 0; i < expected.as<float>().size(); ++i) {
        ASSERT_NEAR(expected.as<float>()[i], found.as<float>()[i], 1e-5) << i;
      }
    }
  }
}

TEST(PoolBeforeRelu, GivesTheSameBitsForwardAndBackward) {
  const auto build = [](bool rewrite) {
    Graph forward;
    const ValueId x = forward.input("x", f32({2, 6, 6, 3}));
    const ValueId y =
        apply(forward, "max_pool", {apply(forward, "relu", {x})}, {{"kernel", std::vector<std::int64_t>{2, 2}}});
    forward.set_output("y", y);
    Graph g = rewrite ? pool_before_relu(forward) : forward;
    const ValueId dx = gradients(g, g.outputs()[0].value, kNoValue, std::vector{*g.find("x")})[0];
    g.set_output("dx", dx);
    return g;
  };
  const Graph rewritten = build(true);
  EXPECT_EQ(rewritten.nodes()[0].op->name, "max_pool");
  const std::map<std::string, Tensor> bindings = {{"x", filled(f32({2, 6, 6, 3}), 9)}};
  const std::vector<Tensor> expected = run(build(false), bindings), found = run(rewritten, bindings);
  EXPECT_EQ(found[0].data, expected[0].data);
  EXPECT_EQ(found[1].data, expected[1].data);
}

TEST(PoolBeforeRelu, LeavesAnActivationThatOthersRead) {
  Graph g;
  const ValueId r = apply(g, "relu", {g.input("x", f32({1, 4, 4, 2}))});
  g.set_output("y", apply(g, "max_pool", {r}, {{"kernel", std::vector<std::int64_t>{2, 2}}}));
  g.set_output("r", r);
  EXPECT_EQ(pool_before_relu(g).dump(), g.dump());
}

TEST(Gradients, AValueThatIsUsedTwiceGetsTheSum) {
  Graph g;
  const ValueId x = g.input("x", f32({}));
  const ValueId y = apply(g, "add", {apply(g, "mul", {x, x}), x});
  g.set_output("dx", gradients(g, y, kNoValue, std::vector{x})[0]);
  EXPECT_FLOAT_EQ(run(g, {{"x", Tensor::scalar_f32(3.0F)}})[0].as<float>()[0], 7.0F);
}

TEST(Gradients, AreTheSameNodesEveryTime) { EXPECT_EQ(classifier(true).hash(), classifier(true).hash()); }

TEST(Gradients, AValueThatTheLossDoesNotDependOnHasNone) {
  Graph g;
  const ValueId x = g.input("x", f32({2}));
  const ValueId other = g.input("other", f32({2}));
  const ValueId y = apply(g, "square", {x});
  const std::vector<ValueId> grads = gradients(g, y, kNoValue, std::vector{x, other});
  EXPECT_NE(grads[0], kNoValue);
  EXPECT_EQ(grads[1], kNoValue);
}

TEST(Gradients, AnOpWithoutOneIsAnErrorThatNamesTheNode) {
  Graph g;
  const ValueId x = g.input("x", f32({4, 3}));
  const ValueId mean = g.input("mean", f32({3}));
  const ValueId y = apply(g, "batch_norm", {x, mean, mean, mean, mean}, {}, "frozen");
  try {
    gradients(g, y, kNoValue, std::vector{x});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("frozen"), std::string::npos);
  }
}

}  // namespace
}  // namespace trivet
