#include "trivet/passes/recompute.h"

#include <gtest/gtest.h>

#include "tests/plan/random_graph.h"
#include "trivet/exec/device.h"
#include "trivet/exec/session.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

using testing::filled;

constexpr std::int64_t kRows = 64;
constexpr std::int64_t kColumns = 32;
constexpr int kLayers = 6;

// Layers of linear, batch norm, relu and dropout with their gradients; an SGD step on each parameter.
struct Network {
  Graph graph{"network"};
  ValueId seed = kNoValue;

  Network() {
    ValueId x = graph.input("x", {DType::f32, {kRows, kColumns}});
    const ValueId step = graph.input("step", {DType::i64, {}});
    const ValueId sample = graph.input("sample", {DType::i64, {kRows}});
    std::vector<ValueId> parameters;
    const auto parameter = [&](const std::string& name, Shape shape, Init init) {
      parameters.push_back(graph.parameter(name, {DType::f32, std::move(shape)}, init));
      return parameters.back();
    };
    for (int i = 0; i < kLayers; ++i) {
      const std::string n = fmt::format("layer{}.", i);
      x = apply(graph, "linear", {x, parameter(n + "w", {kColumns, kColumns}, {Init::Kind::normal, 0.2})}, {}, n + "l");
      const ValueId scale = parameter(n + "scale", {kColumns}, {Init::Kind::constant, 1.0});
      const ValueId bias = parameter(n + "bias", {kColumns}, {});
      const ValueId mean = graph.state(n + "mean", {DType::f32, {kColumns}}, MemoryClass::parameters);
      const ValueId var = graph.state(n + "var", {DType::f32, {kColumns}}, MemoryClass::parameters);
      const auto norm = apply_all(graph, "batch_norm_train", {x, scale, bias, mean, var}, {}, n + "norm");
      graph.set_update(mean, norm[3]);
      graph.set_update(var, norm[4]);
      x = apply(graph, "tanh", {norm[0]}, {}, n + "tanh");
      x = apply(graph, "dropout", {x, step, sample}, {{"rate", 0.25}, {"op", std::int64_t{i}}}, n + "dropout");
    }
    seed = graph.input("seed", graph.type(x));
    const ValueId lr = graph.input("lr", {DType::f32, {}});
    graph.set_output("y", apply(graph, "reduce_sum", {x}, {{"keepdims", false}}));
    const std::vector<ValueId> slopes = gradients(graph, x, seed, parameters);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const std::string name = "momentum/" + graph.value(parameters[i]).name;
      const TensorType type = graph.type(parameters[i]);
      const ValueId momentum = graph.state(name, type, MemoryClass::optimizer);
      const auto out = apply_all(graph, "sgd_step", {parameters[i], slopes[i], momentum, lr});
      graph.set_update(parameters[i], out[0]);
      graph.set_update(momentum, out[1]);
    }
    graph = drop_dead(graph);
    seed = *graph.find("seed");
  }
};

// All states after two steps, and the size of the transient memory.
std::pair<std::vector<Tensor>, std::size_t> train(const Graph& graph) {
  const auto device = open_device("cpu", {1, {}});
  StateLayout states(64);
  states.add(graph);
  const auto plan = compile(graph, states, *device);
  const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
  arena->initialize(3);
  Session session(arena, plan, true);
  for (std::int64_t step = 1; step <= 2; ++step) {
    for (const ValueId v : graph.inputs()) {
      Tensor t = graph.type(v).dtype == DType::f32 ? filled(graph.type(v), static_cast<std::uint32_t>(v + step))
                                                   : Tensor(graph.type(v));
      if (graph.value(v).name == "step") t = Tensor::scalar_i64(step);
      session.set_input(graph.value(v).name, t.data.data(), t.data.size());
    }
    session.run();
  }
  std::vector<Tensor> result;
  for (const auto& slot : states.slots()) result.push_back(arena->get_state(slot.value.name));
  return {result, plan->transient_bytes};
}

void expect_equal(const std::vector<Tensor>& found, const std::vector<Tensor>& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].data, expected[i].data) << what << ", state " << i;
}

TEST(Recompute, GivesTheSameBitsWhateverIsDropped) {
  const Network network;
  const std::vector<ValueId> kept = kept_activations(network.graph, network.seed);
  ASSERT_GE(kept.size(), 3U * kLayers);
  const std::vector<Tensor> expected = train(network.graph).first;
  expect_equal(train(recompute(network.graph, network.seed, {kept.begin(), kept.end()})).first, expected, "all");
  for (const ValueId v : kept) {
    expect_equal(train(recompute(network.graph, network.seed, {v})).first, expected, network.graph.value(v).name);
  }
  for (unsigned pattern = 1; pattern < 8; ++pattern) {
    std::set<ValueId> some;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if ((pattern >> (i % 3)) & 1U) some.insert(kept[i]);
    }
    expect_equal(train(recompute(network.graph, network.seed, some)).first, expected, fmt::format("set {}", pattern));
  }
}

TEST(Recompute, NeedsLessMemoryBetweenCheckpoints) {
  const Network network;
  const std::size_t before = train(network.graph).second;
  std::set<ValueId> dropped;
  for (const ValueId v : kept_activations(network.graph, network.seed)) {
    const std::string name = network.graph.node(network.graph.value(v).producer).name;
    if (network.graph.type(v).rank() == 2 && !name.ends_with("dropout")) dropped.insert(v);
  }
  EXPECT_LT(train(recompute(network.graph, network.seed, dropped)).second, before * 3 / 4);
}

TEST(Recompute, WithNothingDroppedChangesNothing) {
  const Network network;
  EXPECT_EQ(recompute(network.graph, network.seed, {}).dump(), network.graph.dump());
}

}  // namespace
}  // namespace trivet
