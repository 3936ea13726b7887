// Ten training steps of small models give the losses that PyTorch computes (tests/golden/make_golden.py).
#include "tests/golden/golden.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "trivet/exec/evaluate.h"
#include "trivet/models/build.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

using nlohmann::json;

// How far float32 and float64 are apart after ten steps is each file's "spread", about 2e-7, and 100 times as much
// where batch norm and AdamW divide by small numbers; sums in another order may differ more.
constexpr double kTolerance = 1e-5;
constexpr double kSpreads = 10;

ModelConfig golden_model(const std::string& name) {
  ModelConfig config;
  config.name = name;
  config.classes = golden::kClasses;
  config.hidden = {name == "mlp" ? 32 : 16};
  config.channels = {4, 8};
  if (name == "resnet") {
    config.depth = 8;
    config.width = 4;
  }
  config.units = 8;
  return config;
}

// Adds the optimizer's step for one parameter; weight decay acts on weights only.
void add_update(Graph& graph, const std::string& optimizer, const json& settings, ValueId parameter, ValueId gradient,
                ValueId lr, ValueId step) {
  const Value value = graph.value(parameter);
  const double weight_decay = value.type.rank() > 1 ? settings.at("weight_decay").get<double>() : 0.0;
  const ValueId first = graph.state(value.name + ".first", value.type, MemoryClass::optimizer);
  if (optimizer == "sgd") {
    const auto out = apply_all(graph, "sgd_step", {parameter, gradient, first, lr},
                               {{"momentum", settings.at("momentum").get<double>()}, {"weight_decay", weight_decay}});
    graph.set_update(parameter, out[0]);
    graph.set_update(first, out[1]);
    return;
  }
  const ValueId second = graph.state(value.name + ".second", value.type, MemoryClass::optimizer);
  const auto out = apply_all(graph, "adamw_step", {parameter, gradient, first, second, lr, step},
                             {{"beta1", settings.at("beta1").get<double>()},
                              {"beta2", settings.at("beta2").get<double>()},
                              {"epsilon", settings.at("epsilon").get<double>()},
                              {"weight_decay", weight_decay}});
  graph.set_update(parameter, out[0]);
  graph.set_update(first, out[1]);
  graph.set_update(second, out[2]);
}

// A whole training step as one graph: the losses of the samples are output 0, new states follow in update order.
Graph training_graph(const std::string& model, const std::string& optimizer, const json& settings) {
  Graph forward(model);
  const ValueId x = forward.input("x", {DType::f32, {golden::kBatch, golden::kSide, golden::kSide, 1}});
  forward.set_output("logits", build_model(forward, golden_model(model), x, true, 1));
  Graph graph = fuse_norm(forward);
  const ValueId logits = graph.remove_output("logits");
  const ValueId labels = graph.input("labels", {DType::i32, {golden::kBatch}});
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  const ValueId step = graph.input("optimizer_step", {DType::i64, {}});
  const ValueId loss = apply(graph, "cross_entropy", {logits, labels});
  graph.set_output("loss", loss);

  const std::vector<float> mean(golden::kBatch, 1.0F / static_cast<float>(golden::kBatch));
  const ValueId seed = graph.constant(Tensor::of<float>(DType::f32, {golden::kBatch}, mean));
  std::vector<ValueId> parameters;
  for (const ValueId state : graph.states()) {
    if (graph.value(state).trainable) parameters.push_back(state);
  }
  const std::vector<ValueId> grads = gradients(graph, loss, seed, parameters);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    add_update(graph, optimizer, settings, parameters[i], grads[i], lr, step);
  }
  for (const Update& update : graph.updates()) graph.set_output(graph.value(update.state).name, update.value);
  return graph;
}

double mean_of(const Tensor& losses) {
  double sum = 0;
  for (const float loss : losses.as<float>()) sum += static_cast<double>(loss);
  return sum / static_cast<double>(losses.as<float>().size());
}

struct GoldenRun {
  const char* model;
  const char* optimizer;
};

class GoldenLosses : public ::testing::TestWithParam<GoldenRun> {};

TEST_P(GoldenLosses, OfTenStepsAreThoseOfAnIndependentImplementation) {
  const auto [model, optimizer] = GetParam();
  const json golden_file = golden::file(model);
  const json& run = golden_file.at(optimizer);
  const Graph graph = training_graph(model, optimizer, run.at("settings"));
  const double tolerance = std::max(kTolerance, kSpreads * run.at("spread").get<double>());
  for (const kernels::cpu::Isa isa : {kernels::cpu::Isa::baseline, kernels::cpu::best_isa()}) {
    std::map<std::string, Tensor> bindings = golden::parameters(graph);
    ASSERT_EQ(bindings.size(), golden_file.at("parameters").size());
    for (const auto& [name, shape] : golden_file.at("parameters").items()) {
      ASSERT_EQ(bindings.at(name).type.shape, shape.get<Shape>()) << name;
    }
    bindings["lr"] = Tensor::scalar_f32(run.at("settings").at("lr").get<float>());
    for (std::size_t step = 0; step < run.at("float64").size(); ++step) {
      bindings["x"] = golden::images(static_cast<std::int64_t>(step));
      bindings["labels"] = golden::labels(static_cast<std::int64_t>(step));
      bindings["optimizer_step"] = Tensor::scalar_i64(static_cast<std::int64_t>(step) + 1);
      std::vector<Tensor> out = evaluate(graph, bindings, isa);
      const double expected = run.at("float64")[step].get<double>();
      EXPECT_NEAR(mean_of(out[0]), expected, tolerance * expected)
          << model << " with " << optimizer << " on " << kernels::cpu::isa_name(isa) << ", step " << step;
      for (std::size_t i = 1; i < out.size(); ++i) bindings[graph.outputs()[i].name] = std::move(out[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLosses,
                         ::testing::Values(GoldenRun{"mlp", "sgd"}, GoldenRun{"mlp", "adamw"}, GoldenRun{"cnn", "sgd"},
                                           GoldenRun{"cnn", "adamw"}, GoldenRun{"resnet", "sgd"},
                                           GoldenRun{"resnet", "adamw"}, GoldenRun{"lstm", "sgd"},
                                           GoldenRun{"lstm", "adamw"}),
                         [](const auto& p) { return fmt::format("{}_{}", p.param.model, p.param.optimizer); });

}  // namespace
}  // namespace trivet
