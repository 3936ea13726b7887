#include "trivet/train/graphs.h"

#include <fmt/format.h>

#include "trivet/models/build.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

ValueId input_once(Graph& graph, const std::string& name, TensorType type) {
  if (const auto known = graph.find(name)) return *known;
  return graph.input(name, std::move(type));
}

TensorType batch_type(const ModelTask& task, std::int64_t samples) {
  Shape shape = task.sample_shape;
  shape.insert(shape.begin(), samples);
  return {DType::f32, shape};
}

ValueId total(Graph& graph, ValueId v, const std::string& name) {
  return apply(graph, "reduce_sum", {v}, {{"keepdims", false}}, name);
}

// Counts come before the loss, which may overwrite the logits.
void add_counts(Graph& graph, ValueId logits, ValueId y, std::int64_t top_k) {
  graph.set_output("correct", apply(graph, "top_k_correct", {logits, y}, {{"k", std::int64_t{1}}}, "correct"));
  if (top_k > 1) graph.set_output("top_k", apply(graph, "top_k_correct", {logits, y}, {{"k", top_k}}, "top_k"));
}

std::vector<ValueId> trainable(const Graph& graph) {
  std::vector<ValueId> result;
  for (const ValueId v : graph.states()) {
    if (graph.value(v).trainable) result.push_back(v);
  }
  return result;
}

// The model with its input x, rewritten for speed. `logits` is the value to go on from.
Graph forward_graph(const std::string& name, const ModelTask& task, std::int64_t samples, bool training,
                    ValueId& logits) {
  Graph model(name);
  const ValueId x = model.input("x", batch_type(task, samples));
  model.set_output("logits", build_model(model, task.model, x, training, task.seed));
  Graph graph = pool_before_relu(model);
  logits = graph.remove_output("logits");
  return graph;
}

// Forward and backward; gradients of the mean loss of the whole optimizer step.
Graph gradient_graph(const std::string& name, const ModelTask& task, const TrainConfig& config, std::int64_t samples,
                     std::vector<ValueId>& grads) {
  ValueId logits = kNoValue;
  Graph graph = forward_graph(name, task, samples, true, logits);
  const ValueId y = graph.input("y", {DType::i32, {samples}});
  const ValueId inv_count = graph.input("inv_count", {DType::f32, {}});
  add_counts(graph, logits, y, config.top_k);
  const ValueId loss = apply(graph, "cross_entropy", {logits, y}, {}, "loss");
  graph.set_output("loss", total(graph, loss, "loss_sum"));
  const ValueId seed =
      apply(graph, "expand", {inv_count}, {{"shape", std::vector<std::int64_t>{samples}}}, "loss_gradient");
  grads = gradients(graph, loss, seed, trainable(graph));
  return graph;
}

// Biases and the scales of norms are vectors; decaying them only harms.
double weight_decay(const Graph& graph, ValueId parameter, const OptimizerConfig& config) {
  return graph.type(parameter).rank() > 1 ? config.weight_decay : 0.0;
}

ValueId optimizer_state(Graph& graph, ValueId parameter, const std::string& what) {
  const std::string name = fmt::format("{}/{}", what, graph.value(parameter).name);
  const TensorType type = graph.type(parameter);
  return graph.state(name, type, MemoryClass::optimizer);
}

void add_sgd(Graph& graph, const OptimizerConfig& config, ValueId parameter, ValueId gradient, ValueId lr,
             ValueId scale) {
  const ValueId buffer = optimizer_state(graph, parameter, "momentum");
  const auto out = apply_all(graph, "sgd_step", {parameter, gradient, buffer, lr, scale},
                             {{"momentum", config.momentum}, {"weight_decay", weight_decay(graph, parameter, config)}},
                             "update." + graph.value(parameter).name);
  graph.set_update(parameter, out[0]);
  graph.set_update(buffer, out[1]);
}

void add_adamw(Graph& graph, const OptimizerConfig& config, ValueId parameter, ValueId gradient, ValueId lr,
               ValueId scale) {
  const ValueId m = optimizer_state(graph, parameter, "m");
  const ValueId v = optimizer_state(graph, parameter, "v");
  const ValueId step = input_once(graph, "step", {DType::i64, {}});
  const auto out = apply_all(graph, "adamw_step", {parameter, gradient, m, v, lr, step, scale},
                             {{"beta1", config.beta1},
                              {"beta2", config.beta2},
                              {"epsilon", config.epsilon},
                              {"weight_decay", weight_decay(graph, parameter, config)}},
                             "update." + graph.value(parameter).name);
  graph.set_update(parameter, out[0]);
  graph.set_update(m, out[1]);
  graph.set_update(v, out[2]);
}

void add_updates(Graph& graph, const TrainConfig& config, const std::vector<ValueId>& parameters,
                 const std::vector<ValueId>& gradients) {
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  ValueId scale = kNoValue;
  if (config.clip_norm > 0) {
    std::vector<ValueId> norms;
    for (const ValueId g : gradients)
      norms.push_back(apply(graph, "squared_norm", {g}, {}, "norm." + graph.value(g).name));
    const auto out = apply_all(graph, "clip_scale", norms, {{"max_norm", config.clip_norm}}, "clip");
    scale = out[0];
    graph.set_output("grad_norm", out[1]);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    (config.optimizer.name == "sgd" ? add_sgd : add_adamw)(graph, config.optimizer, parameters[i], gradients[i], lr,
                                                           scale);
  }
}

ValueId accumulator(Graph& graph, ValueId parameter) {
  const std::string name = "grad/" + graph.value(parameter).name;
  const TensorType type = graph.type(parameter);
  return graph.state(name, type, MemoryClass::gradients);
}

}  // namespace

Graph step_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  std::vector<ValueId> grads;
  Graph graph = gradient_graph(fmt::format("{}.step{}", task.model.name, samples), task, config, samples, grads);
  add_updates(graph, config, trainable(graph), grads);
  return graph;
}

Graph accumulate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  std::vector<ValueId> grads;
  Graph graph = gradient_graph(fmt::format("{}.accumulate{}", task.model.name, samples), task, config, samples, grads);
  const std::vector<ValueId> parameters = trainable(graph);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const ValueId sum = accumulator(graph, parameters[i]);
    graph.set_update(sum, apply(graph, "add", {sum, grads[i]}, {}, "accumulate." + graph.value(parameters[i]).name));
  }
  return graph;
}

Graph apply_graph(const ModelTask& task, const TrainConfig& config) {
  // The parameters' names and types come from the model itself, built for one sample and left unused.
  Graph model("model");
  build_model(model, task.model, model.input("x", batch_type(task, 1)), true, task.seed);
  Graph graph(task.model.name + ".apply");
  std::vector<ValueId> parameters, sums;
  for (const ValueId v : trainable(model)) {
    parameters.push_back(graph.parameter(model.value(v).name, model.type(v), model.value(v).init));
  }
  for (const ValueId p : parameters) sums.push_back(accumulator(graph, p));
  add_updates(graph, config, parameters, sums);
  for (const ValueId sum : sums)
    graph.set_update(sum, apply(graph, "zero", {sum}, {}, "zero." + graph.value(sum).name));
  return graph;
}

Graph evaluate_graph(const ModelTask& task, std::int64_t top_k, std::int64_t samples) {
  ValueId logits = kNoValue;
  Graph graph = forward_graph(fmt::format("{}.evaluate{}", task.model.name, samples), task, samples, false, logits);
  const ValueId y = graph.input("y", {DType::i32, {samples}});
  add_counts(graph, logits, y, top_k);
  graph.set_output("loss", total(graph, apply(graph, "cross_entropy", {logits, y}, {}, "loss"), "loss_sum"));
  return graph;
}

Graph predict_graph(const ModelTask& task, std::int64_t samples) {
  ValueId logits = kNoValue;
  Graph graph = forward_graph(fmt::format("{}.predict{}", task.model.name, samples), task, samples, false, logits);
  graph.set_output("probabilities", apply(graph, "softmax", {logits}, {}, "probabilities"));
  return graph;
}

}  // namespace trivet
