#include "trivet/train/graphs.h"

#include <fmt/format.h>

#include <bit>

#include "runtime/train/updates.h"
#include "trivet/base/error.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"
#include "trivet/passes/quantize.h"
#include "trivet/passes/ranks.h"

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
  if (precision == "f16") return to_f16(model);
  return model;
}

bool scales_loss(const ModelTask& task) { return task.model.precision == "f16"; }

// A model and its output: logits, numbers or a reconstruction.
struct Forward {
  Graph graph;
  ValueId out;
};

enum class Norms { kept, folded };  // batch norms, into the weights before them

// The model with its inputs, rewritten for speed.
Forward forward_graph(const std::string& name, const ModelTask& task, std::int64_t samples, bool training,
                      Norms norms = Norms::kept) {
  Graph model(name);
  model.set_output("out", build(model, task, samples, training));
  Graph fused = fuse_norm(model);  // first: a norm that adds a shortcut stays, which one pass does
  if (norms == Norms::folded) fused = fold_batch_norm(fused);
  Forward forward{pool_before_relu(lowered(std::move(fused), task.model.precision)), kNoValue};
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
  if (scales_loss(task)) seed = scaled_by_loss_scale(graph, seed);
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

// What a training graph updates of itself: running statistics. The updates are taken out of the graph.
std::vector<Update> take_statistics(Graph& graph) {
  const std::vector<Update> updates = graph.updates();
  for (const Update& update : updates) graph.remove_update(update.state);
  return updates;
}

// A pass's part of the mean over all passes of the step.
ValueId shared(Graph& graph, ValueId value) {
  const ValueId share = input_once(graph, "share", {DType::f32, {}});
  return apply(graph, "mul", {value, share}, {}, "share." + graph.value(value).name);
}

void assign(Graph& graph, ValueId state, ValueId value) {
  graph.set_update(state, apply(graph, "assign", {state, value}, {}, "assign." + graph.value(state).name));
}

// Sums over the ranks of the gradients of `parameters` and of what comes after them in `values`.
std::vector<ValueId> sum_all(Graph& graph, const TrainConfig& config, const std::vector<ValueId>& values,
                             const std::vector<ValueId>& parameters) {
  if (config.zero < 2) return sum_over_ranks(graph, values, config.ranks);
  const Owners owners = owners_of(graph, config);
  std::vector<int> ranks;
  for (const ValueId p : parameters) ranks.push_back(owners.at(graph.value(p).name));
  const std::span<const ValueId> all(values);
  std::vector<ValueId> sums = sum_for_owners(graph, all.first(parameters.size()), ranks, config.rank, config.ranks);
  const std::vector<ValueId> others = sum_over_ranks(graph, all.subspan(parameters.size()), config.ranks);
  sums.insert(sums.end(), others.begin(), others.end());
  return sums;
}

// Gradients and running statistics of all ranks together.
void sum_step(Graph& graph, const TrainConfig& config, std::vector<ValueId>& grads) {
  const std::vector<Update> statistics = take_statistics(graph);
  std::vector<ValueId> values = grads;
  for (const Update& update : statistics) values.push_back(shared(graph, update.value));
  const std::vector<ValueId> sums = sum_all(graph, config, values, trainable(graph));
  for (std::size_t i = 0; i < statistics.size(); ++i) assign(graph, statistics[i].state, sums[grads.size() + i]);
  grads.assign(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(grads.size()));
}

// A sum that waits on the stack of shard_graph().
ValueId partial(Graph& graph, const Value& of, int depth) {
  const std::string name = depth == 0 ? "grad/" + of.name : fmt::format("grad{}/{}", depth, of.name);
  return graph.state(name, {DType::f32, of.type.shape}, MemoryClass::gradients);
}

void put_on_stack(Graph& graph, const Value& of, ValueId sum, ShardPlace place) {
  const std::string name = "add." + of.name;
  for (int i = 1; i <= place.merges; ++i) {
    const ValueId below = partial(graph, of, place.depth - i);
    sum = apply(graph, "add", {below, sum}, {}, name);
    if (i == place.merges) graph.set_update(below, sum);
  }
  if (place.merges == 0) assign(graph, partial(graph, of, place.depth), sum);
}

// Of a step of several passes. Those over shards leave the statistic as it was; others have updated it already, and its
// value from before the step is kept beside it.
void guard_statistic(Graph& graph, const TrainConfig& config, ValueId taken, ValueId statistic) {
  if (config.shards > 0) return guard_update(graph, taken, statistic);
  const Value value = graph.value(statistic);
  const ValueId before = graph.state(before_name(value.name), value.type, MemoryClass::optimizer, value.init);
  guard_update(graph, taken, statistic, before);
  assign(graph, before, update_of(graph, statistic));
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
  if (config.ranks > 1) sum_step(graph, config, grads);
  const std::vector<Update> statistics = graph.updates();
  const ValueId taken = add_updates(graph, config, trainable(graph), grads, task.seed, scales_loss(task));
  if (taken != kNoValue) {
    for (const Update& update : statistics) guard_update(graph, taken, update.state);
  }
  if (config.average) add_averages(graph, config, taken);
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

ShardPlace ShardPlace::of(std::int64_t leaf) {
  const auto bits = static_cast<std::uint64_t>(leaf);
  return {std::popcount(bits), std::countr_one(bits)};
}

Graph shard_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples, ShardPlace place) {
  std::vector<ValueId> grads;
  const std::string name = fmt::format("{}.shard{}.{}.{}", task.model.name, samples, place.depth, place.merges);
  Graph graph = gradient_graph(name, task, config, samples, grads);
  const std::vector<ValueId> parameters = trainable(graph);
  for (const Update& update : take_statistics(graph)) {
    put_on_stack(graph, Value(graph.value(update.state)), shared(graph, update.value), place);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    put_on_stack(graph, Value(graph.value(parameters[i])), in_f32(graph, grads[i]), place);
  }
  return graph;
}

Graph apply_graph(const ModelTask& task, const TrainConfig& config) {
  // The states' names and types come from the model itself, built for one sample and left unused.
  Graph built("model");
  build(built, task, 1, true);
  const Graph model = lowered(std::move(built), task.model.precision);
  Graph graph(task.model.name + ".apply");
  std::vector<ValueId> parameters, statistics, sums;
  for (const ValueId v : trainable(model)) {
    parameters.push_back(graph.parameter(model.value(v).name, model.type(v), model.value(v).init));
    sums.push_back(accumulator(graph, parameters.back()));
  }
  // The passes before have updated the running statistics, but for one rank's samples only, or left them as they were.
  const bool together = config.ranks > 1 || config.shards > 0;
  for (const Update& update : model.updates()) {
    if (!together && !config.average && !scales_loss(task)) break;
    const Value& value = model.value(update.state);
    statistics.push_back(graph.state(value.name, value.type, value.memory, value.init));
    if (!together) continue;
    sums.push_back(config.shards > 0 ? partial(graph, value, 0) : shared(graph, statistics.back()));
  }
  const std::vector<ValueId> own(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(parameters.size()));
  if (config.ranks > 1) sums = sum_all(graph, config, sums, parameters);
  const ValueId taken = add_updates(graph, config, parameters,
                                    {sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(parameters.size())},
                                    task.seed, scales_loss(task));
  for (std::size_t i = parameters.size(); i < sums.size(); ++i) {
    assign(graph, statistics[i - parameters.size()], sums[i]);
  }
  if (taken != kNoValue) {
    for (const ValueId statistic : statistics) guard_statistic(graph, config, taken, statistic);
  }
  if (config.shards == 0) {
    for (const ValueId sum : own)
      graph.set_update(sum, apply(graph, "zero", {sum}, {}, "zero." + graph.value(sum).name));
  }
  if (config.average) add_averages(graph, config, taken);
  return graph;
}

Graph evaluate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples) {
  Forward forward = forward_graph(fmt::format("{}.evaluate{}", task.model.name, samples), task, samples, false);
  add_prediction(forward.graph, forward.out, task);
  add_losses(forward.graph, forward.out, task, config, samples);
  return std::move(forward.graph);
}

Graph predict_graph(const ModelTask& task, std::int64_t samples) {
  // In bf16 the folded weights would be computed in bf16 as well.
  const Norms norms = task.model.precision == "f32" ? Norms::folded : Norms::kept;
  Forward forward = forward_graph(fmt::format("{}.predict{}", task.model.name, samples), task, samples, false, norms);
  add_prediction(forward.graph, forward.out, task);
  return std::move(forward.graph);
}

}  // namespace trivet
