// The training steps whose losses make_golden.py has computed with PyTorch, as graphs.
#pragma once

#include "tests/golden/golden.h"
#include "trivet/models/build.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"

namespace trivet::golden {

// How far float32 and float64 are apart after ten steps is each file's "spread", about 2e-7, and 100 times as much
// where batch norm and AdamW divide by small numbers; sums in another order may differ more.
inline double tolerance(const nlohmann::json& run) { return std::max(1e-5, 10 * run.at("spread").get<double>()); }

struct Run {
  const char* model;
  const char* optimizer;
};

inline constexpr Run kRuns[] = {{"mlp", "sgd"},    {"mlp", "adamw"},    {"cnn", "sgd"},  {"cnn", "adamw"},
                                {"resnet", "sgd"}, {"resnet", "adamw"}, {"lstm", "sgd"}, {"lstm", "adamw"}};

inline ModelConfig model_config(const std::string& name) {
  ModelConfig config;
  config.name = name;
  config.classes = kClasses;
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
inline void add_update(Graph& graph, const std::string& optimizer, const nlohmann::json& settings, ValueId parameter,
                       ValueId gradient, ValueId lr, ValueId step) {
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

// A whole training step as one graph with inputs x, labels, lr and optimizer_step, the losses of the samples as output
// "loss" and an update of each state.
inline Graph training_graph(const std::string& model, const std::string& optimizer, const nlohmann::json& settings) {
  Graph forward(model);
  const ValueId x = forward.input("x", {DType::f32, {kBatch, kSide, kSide, 1}});
  forward.set_output("logits", build_model(forward, model_config(model), x, true, 1));
  Graph graph = fuse_norm(forward);
  const ValueId logits = graph.remove_output("logits");
  const ValueId labels = graph.input("labels", {DType::i32, {kBatch}});
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  const ValueId step = graph.input("optimizer_step", {DType::i64, {}});
  const ValueId loss = apply(graph, "cross_entropy", {logits, labels});
  graph.set_output("loss", loss);

  const std::vector<float> mean(kBatch, 1.0F / static_cast<float>(kBatch));
  const ValueId seed = graph.constant(Tensor::of<float>(DType::f32, {kBatch}, mean));
  std::vector<ValueId> parameters;
  for (const ValueId state : graph.states()) {
    if (graph.value(state).trainable) parameters.push_back(state);
  }
  const std::vector<ValueId> grads = gradients(graph, loss, seed, parameters);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    add_update(graph, optimizer, settings, parameters[i], grads[i], lr, step);
  }
  return graph;
}

inline double mean_of(const Tensor& losses) {
  double sum = 0;
  for (const float loss : losses.as<float>()) sum += static_cast<double>(loss);
  return sum / static_cast<double>(losses.as<float>().size());
}

}  // namespace trivet::golden
