#include <gtest/gtest.h>

#include "tests/plan/random_graph.h"
#include "trivet/exec/evaluate.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

using testing::filled;

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

const TensorType kImage = f32({3, 4, 5, 6});
const TensorType kChannels = f32({6});

int count(const Graph& g, const std::string& op) {
  return static_cast<int>(
      std::count_if(g.nodes().begin(), g.nodes().end(), [&](const Node& n) { return n.op->name == op; }));
}

std::vector<std::string> ops(const Graph& g) {
  std::vector<std::string> names;
  for (const Node& node : g.nodes()) names.push_back(node.op->name);
  return names;
}

// All outputs of batch_norm or batch_norm_train with statistics that are updated.
std::vector<ValueId> norm(Graph& g, ValueId x, const std::string& name, bool training) {
  const Init ones{Init::Kind::constant, 1};
  const ValueId gamma = g.parameter(name + ".weight", kChannels, {Init::Kind::normal, 1});
  const ValueId beta = g.parameter(name + ".bias", kChannels, {Init::Kind::normal, 1});
  const ValueId mean = g.state(name + ".mean", kChannels, MemoryClass::parameters);
  const ValueId var = g.state(name + ".var", kChannels, MemoryClass::parameters, ones);
  if (!training) return {apply(g, "batch_norm", {x, gamma, beta, mean, var}, {}, name)};
  const std::vector<ValueId> out = apply_all(g, "batch_norm_train", {x, gamma, beta, mean, var}, {}, name);
  g.set_update(mean, out[3]);
  g.set_update(var, out[4]);
  return out;
}

ValueId relu(Graph& g, ValueId x) { return apply(g, "relu", {x}); }
ValueId add(Graph& g, ValueId a, ValueId b) { return apply(g, "add", {a, b}); }

// Two norms, a shortcut with a norm of its own and one without: what residual networks are made of.
Graph blocks(bool training) {
  Graph g;
  const ValueId x = g.input("x", kImage);
  const ValueId shortcut = norm(g, apply(g, "tanh", {x}), "shortcut", training)[0];
  const ValueId inner = relu(g, norm(g, x, "inner", training)[0]);
  const ValueId first = relu(g, add(g, norm(g, inner, "outer", training)[0], shortcut));
  const ValueId second = relu(g, add(g, first, norm(g, apply(g, "exp", {first}), "last", training)[0]));
  g.set_output("y", second);
  return g;
}

// With the gradients of all parameters and x, and the new states.
Graph with_gradients(Graph g) {
  const ValueId y = g.remove_output("y");
  std::vector<ValueId> wrt = {*g.find("x")};
  for (const ValueId v : g.states()) {
    if (g.value(v).trainable) wrt.push_back(v);
  }
  const std::vector<ValueId> grads = gradients(g, y, g.input("dy", kImage), wrt);
  g.set_output("y", y);
  for (std::size_t i = 0; i < wrt.size(); ++i) g.set_output("d/" + g.value(wrt[i]).name, grads[i]);
  for (const Update& u : g.updates()) g.set_output("new/" + g.value(u.state).name, u.value);
  return g;
}

void expect_same_values(const Graph& expected_graph, const Graph& found_graph, double tolerance) {
  const std::map<std::string, Tensor> bindings = {{"x", filled(kImage, 1)}, {"dy", filled(kImage, 2)}};
  const auto run = [&](const Graph& g) {
    std::map<std::string, Tensor> used;
    for (const ValueId v : g.inputs()) used[g.value(v).name] = bindings.at(g.value(v).name);
    return evaluate(g, used, kernels::cpu::best_isa());
  };
  const std::vector<Tensor> expected = run(expected_graph), found = run(found_graph);
  ASSERT_EQ(expected.size(), found.size());
  for (std::size_t o = 0; o < expected.size(); ++o) {
    const std::string& name = expected_graph.outputs()[o].name;
    ASSERT_EQ(found_graph.outputs()[o].name, name);
    ASSERT_EQ(expected[o].type, found[o].type);
    for (std::size_t i = 0; i < expected[o].as<float>().size(); ++i) {
      ASSERT_NEAR(expected[o].as<float>()[i], found[o].as<float>()[i], tolerance) << name << ", element " << i;
    }
  }
}

TEST(FuseNorm, TakesInShortcutsAndActivationsOfInference) {
  const Graph g = blocks(false), fused = fuse_norm(g);
  EXPECT_EQ(fused.nodes().size(), 6U);  // four norms, tanh, exp
  EXPECT_EQ(count(fused, "batch_norm"), 4);
  expect_same_values(g, fused, 1e-5);
}

TEST(FuseNorm, TakesInShortcutsAndActivationsOfTrainingWithTheirGradients) {
  const Graph g = blocks(true), fused = fuse_norm(g);
  EXPECT_EQ(fused.nodes().size(), 6U);
  EXPECT_EQ(count(fused, "batch_norm_train"), 4);
  const Graph plain_step = with_gradients(g), fused_step = with_gradients(fused);
  EXPECT_EQ(count(plain_step, "relu_backward"), 3);
  EXPECT_EQ(count(fused_step, "relu_backward"), 0);
  expect_same_values(plain_step, fused_step, 2e-4);
}

TEST(FuseNorm, KeepsStatesAndTheirUpdates) {
  const Graph g = blocks(true), fused = fuse_norm(g);
  ASSERT_EQ(fused.states().size(), g.states().size());
  for (std::size_t i = 0; i < g.states().size(); ++i) {
    EXPECT_EQ(fused.value(fused.states()[i]).name, g.value(g.states()[i]).name);
  }
  EXPECT_EQ(fused.updates().size(), g.updates().size());
}

TEST(FuseNorm, AlsoServesAGraphThatHasItsGradients) {
  const Graph step = with_gradients(blocks(true)), fused = fuse_norm(step);
  EXPECT_EQ(fused.nodes().size() + 5, step.nodes().size());
  expect_same_values(step, fused, 1e-5);
}

TEST(FuseNorm, AddsWhatIsMadeAfterTheNorm) {
  Graph g;
  const ValueId x = g.input("x", kImage);
  const ValueId y = norm(g, x, "norm", true)[0];
  g.set_output("y", relu(g, add(g, y, apply(g, "tanh", {x}))));
  const Graph fused = fuse_norm(g);
  ASSERT_EQ(fused.nodes().size(), 2U);
  EXPECT_EQ(fused.nodes()[0].op->name, "tanh");
  expect_same_values(with_gradients(g), with_gradients(fused), 2e-4);
}

TEST(FuseNorm, LeavesValuesThatAreNeededElsewhere) {
  for (const char* needed : {"norm", "sum", "norm as output", "sum as output", "norm twice"}) {
    SCOPED_TRACE(needed);
    const std::string what = needed;
    Graph g;
    const ValueId x = g.input("x", kImage);
    const ValueId y = norm(g, x, "norm", true)[0];
    const ValueId sum = add(g, y, what == "norm twice" ? y : x);
    g.set_output("y", relu(g, sum));
    if (what == "norm") g.set_output("more", apply(g, "exp", {y}));
    if (what == "sum") g.set_output("more", apply(g, "exp", {sum}));
    if (what == "norm as output") g.set_output("more", y);
    if (what == "sum as output") g.set_output("more", sum);
    EXPECT_EQ(fuse_norm(g).dump(), g.dump());
  }
}

TEST(FuseNorm, LeavesStatisticsThatAreReadBeforeTheActivation) {
  Graph g;
  const ValueId x = g.input("x", kImage);
  const std::vector<ValueId> out = norm(g, x, "norm", true);
  g.set_output("spread", apply(g, "exp", {out[2]}));
  g.set_output("y", relu(g, out[0]));
  EXPECT_EQ(fuse_norm(g).dump(), g.dump());
}

TEST(FuseNorm, LeavesOtherAdditionsAndActivations) {
  Graph g;
  const ValueId x = g.input("x", kImage);
  const ValueId broadcast = add(g, norm(g, x, "a", true)[0], g.input("row", kChannels));
  const ValueId smooth = apply(g, "tanh", {norm(g, x, "b", true)[0]});
  const ValueId no_activation = add(g, norm(g, x, "c", true)[0], x);
  g.set_output("y", add(g, relu(g, broadcast), add(g, smooth, no_activation)));
  g.set_output("z", relu(g, x));
  EXPECT_EQ(ops(fuse_norm(g)), ops(g));
}

}  // namespace
}  // namespace trivet
