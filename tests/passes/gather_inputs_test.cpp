#include <gtest/gtest.h>

#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

template <class T>
Tensor tensor(DType dtype, Shape shape, const std::vector<T>& values) {
  return Tensor::of<T>(dtype, std::move(shape), values);
}

// y = relu(x) + b, and the numbers of the samples.
Graph model(bool with_sample) {
  Graph graph("model");
  const ValueId x = graph.input("x", {DType::f32, {2, 3}});
  const ValueId b = graph.input("b", {DType::f32, {}});
  graph.set_output("y", apply(graph, "add", {apply(graph, "relu", {x}), b}));
  if (with_sample) {
    graph.set_output("s", apply(graph, "neg", {graph.input("sample", {DType::i64, {2}})}));
  }
  return graph;
}

TEST(GatherInputs, TakesTheRowsOfTheSamplesThatAreNamed) {
  const std::vector<std::string> names = {"y", "x"};
  for (const bool with_sample : {false, true}) {
    const Graph gathered = gather_inputs(model(with_sample), names, 4);
    const Value& rows = gathered.value(*gathered.find("data/x"));
    EXPECT_EQ(rows.type, (TensorType{DType::f32, {4, 3}}));
    EXPECT_EQ(rows.memory, MemoryClass::data);
    EXPECT_FALSE(rows.trainable);
    EXPECT_FALSE(gathered.find("x"));
    std::map<std::string, Tensor> bindings;
    bindings["data/x"] = tensor<float>(DType::f32, {4, 3}, {0, 1, 2, -3, 4, 5, 6, 7, 8, 9, -1, -2});
    bindings["sample"] = tensor<std::int64_t>(DType::i64, {2}, {3, 1});
    bindings["b"] = tensor<float>(DType::f32, {}, {10});
    const std::vector<Tensor> out = evaluate(gathered, bindings, kernels::cpu::best_isa());
    EXPECT_EQ(out[0].data, tensor<float>(DType::f32, {2, 3}, {19, 10, 10, 10, 14, 15}).data);
    if (with_sample) {
      EXPECT_EQ(out[1].data, tensor<std::int64_t>(DType::i64, {2}, {-3, -1}).data);
    }
  }
}

TEST(GatherInputs, AsksForNoSamplesWhereNothingIsGathered) {
  const std::vector<std::string> names = {"categories"};
  const Graph graph = gather_inputs(model(false), names, 4);
  EXPECT_TRUE(graph.find("x"));
  EXPECT_FALSE(graph.find("sample"));
  EXPECT_TRUE(graph.states().empty());
}

}  // namespace
}  // namespace trivet
