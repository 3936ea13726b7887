#include "trivet/train/graphs.h"

#include <fmt/format.h>

#include "runtime/train/updates.h"
#include "trivet/base/error.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

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

ValueId build(Graph& graph, const ModelTask& task, std::int64_t samples, bool training) {
  std::vector<ValueId> values;
  for (const Field& field : task.input.fields) values.push_back(graph.input(field.name, field.batch(samples)));
  return build_model(graph, task.model, task.input, values, training, task.seed);
}

// In what model.precision says.
Graph lowered(Graph model, const std::string& precision) {
  if (precision == "bf16") return to_bf16(model);
  if (precision == "bf16_weights") return to_bf16(model, DType::bf16);
  return model;
}

// A model and its output: logits, numbers or a reconstruction.
struct Forward {
  Graph graph;
  ValueId out;
};

// The model with its inputs, rewritten for speed.
Forward forward_graph(const std::string& name, const ModelTask& task, std::int64_t samples, bool training) {
  Graph model(name);
  model.set_output("out", build(model, task, samples, training));
  Forward forward{pool_before_relu(lowered(fuse_norm(model), task.model.precision)), kNoValue};
  forward.out = forward.graph.remove_output("out");
  return forward;
}

// The loss of each sample (B), a mean over its elements.
ValueId number_losses(Graph& graph, const std::string& kind, ValueId predicted, ValueId truth) {
  const auto loss = [&](const char* op) { return apply(graph, op, {predicted, truth}, {}, "loss"); };
  if (kind.empty() || kind == "mse") return loss("mean_squared_error");
  if (kind == "l1") return loss("l1_loss");
  if (kind == "huber") return loss("huber_loss");
  throw Error(ErrorCode::graph, fmt::format("there is no loss '{}'", kind), "one of mse, l1, huber");
}

// Adds the target, the counts of labels and the loss of each sample (B), whose sum is an output.
ValueId add_losses(Graph& graph, ValueId out, const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  ValueId loss = kNoValue;
  if (task.goal() == Goal::label) {
    const ValueId y = graph.input("y", {DType::i32, {samples}});
    add_counts(graph, out, y, config.top_k);
    loss = apply(graph, "cross_entropy", {out, y}, {}, "loss");
  } else if (task.goal() == Goal::number) {
    loss = number_losses(graph, config.loss, out, graph.input("y", {DType::f32, {samples, task.input.outputs}}));
  } else {
    const ValueId x = *graph.find(task.input.fields.at(0).name);
    loss = number_losses(graph, config.loss, out, x);
  }
  graph.set_output("loss", total(graph, loss, "loss_sum"));
  return loss;
}

// Forward and backward; gradients of the mean loss of the whole optimizer step.
Graph gradient_graph(const std::string& name, const ModelTask& task, const TrainConfig& config, std::int64_t samples,
                     std::vector<ValueId>& grads) {
  Forward forward = forward_graph(name, task, samples, true);
  Graph& graph = forward.graph;
  const ValueId loss = add_losses(graph, forward.out, task, config, samples);
  ValueId seed = kNoValue;
  if (task.weighted) {
    seed = graph.input("weight", {DType::f32, {samples}});
  } else {
    const ValueId inv_count = graph.input("inv_count", {DType::f32, {}});
    seed = apply(graph, "expand", {inv_count}, {{"shape", std::vector<std::int64_t>{samples}}}, "loss_gradient");
  }
  grads = gradients(graph, loss, seed, trainable(graph));
  return std::move(forward.graph);
}

// Sums are in f32, also of bf16 gradients: in bf16 the later ones would be lost.
ValueId accumulator(Graph& graph, ValueId parameter) {
  const std::string name = "grad/" + graph.value(parameter).name;
  return graph.state(name, {DType::f32, graph.type(parameter).shape}, MemoryClass::gradients);
}

ValueId in_f32(Graph& graph, ValueId v) {
  if (graph.type(v).dtype == DType::f32) return v;
  return apply(graph, "cast", {v}, {{"to", std::string("f32")}}, graph.value(v).name + ".f32");
}

void add_prediction(Graph& graph, ValueId out, const ModelTask& task) {
  if (task.goal() == Goal::label) out = apply(graph, "softmax", {out}, {}, "prediction");
  graph.set_output("prediction", out);
}

}  // namespace

const char* goal_name(Goal goal) {
  switch (goal) {
    case Goal::label:
      return "label";
    case Goal::number:
      return "number";
    case Goal::reconstruction:
      return "reconstruction";
  }
  return "label";
}

Goal ModelTask::goal() const {
  if (reconstructs(model)) return Goal::reconstruction;
  return target.kind == TargetKind::number ? Goal::number : Goal::label;
}

ModelTask label_task(ModelConfig model, Shape sample_shape, std::uint64_t seed) {
  ModelTask task;
  task.model = std::move(model);
  task.input.fields = {{"x", DType::f32, std::move(sample_shape)}};
  task.input.category_sizes = {{}};
  task.input.outputs = task.model.classes;
  task.target.kind = TargetKind::label;
  task.target.classes = task.model.classes;
  for (std::int64_t i = 0; i < task.target.classes; ++i) task.target.class_names.push_back(std::to_string(i));
  task.seed = seed;
  return task;
}

std::int64_t prediction_elements(const ModelTask& task) {
  return task.goal() == Goal::reconstruction ? element_count(task.input.fields.at(0).shape) : task.input.outputs;
}

Graph step_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  std::vector<ValueId> grads;
  Graph graph = gradient_graph(fmt::format("{}.step{}", task.model.name, samples), task, config, samples, grads);
  add_updates(graph, config, trainable(graph), grads, task.seed);
  if (config.average) add_averages(graph, *config.average);
  return graph;
}

Graph accumulate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  std::vector<ValueId> grads;
  Graph graph = gradient_graph(fmt::format("{}.accumulate{}", task.model.name, samples), task, config, samples, grads);
  const std::vector<ValueId> parameters = trainable(graph);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const ValueId sum = accumulator(graph, parameters[i]);
    const ValueId grad = in_f32(graph, grads[i]);
    graph.set_update(sum, apply(graph, "add", {sum, grad}, {}, "accumulate." + graph.value(parameters[i]).name));
  }
  return graph;
}

Graph apply_graph(const ModelTask& task, const TrainConfig& config) {
  // The states' names and types come from the model itself, built for one sample and left unused.
  Graph built("model");
  build(built, task, 1, true);
  const Graph model = lowered(std::move(built), task.model.precision);
  Graph graph(task.model.name + ".apply");
  std::vector<ValueId> parameters, sums;
  for (const ValueId v : trainable(model)) {
    parameters.push_back(graph.parameter(model.value(v).name, model.type(v), model.value(v).init));
  }
  for (const ValueId p : parameters) sums.push_back(accumulator(graph, p));
  add_updates(graph, config, parameters, sums, task.seed);
  for (const ValueId sum : sums)
    graph.set_update(sum, apply(graph, "zero", {sum}, {}, "zero." + graph.value(sum).name));
  if (!config.average) return graph;
  for (const ValueId v : model.states()) {  // running statistics, which the passes before have updated
    const Value& value = model.value(v);
    if (value.memory == MemoryClass::parameters && !value.trainable) {
      graph.state(value.name, value.type, value.memory, value.init);
    }
  }
  add_averages(graph, *config.average);
  return graph;
}

Graph evaluate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  Forward forward = forward_graph(fmt::format("{}.evaluate{}", task.model.name, samples), task, samples, false);
  add_prediction(forward.graph, forward.out, task);
  add_losses(forward.graph, forward.out, task, config, samples);
  return std::move(forward.graph);
}

Graph predict_graph(const ModelTask& task, std::int64_t samples) {
  Forward forward = forward_graph(fmt::format("{}.predict{}", task.model.name, samples), task, samples, false);
  add_prediction(forward.graph, forward.out, task);
  return std::move(forward.graph);
}

}  // namespace trivet
