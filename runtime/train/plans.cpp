#include "trivet/train/plans.h"

#include <fmt/format.h>

#include <set>

#include "runtime/train/memory_budget.h"
#include "runtime/train/updates.h"
#include "trivet/exec/evaluate.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::set<std::int64_t> distinct(const std::vector<std::int64_t>& values) { return {values.begin(), values.end()}; }

bool accumulates(const TrainConfig& config) { return config.micro_batch > 0 && config.micro_batch < config.batch; }

// Sizes of this rank's passes of one epoch: its parts of batches of config.batch, each cut into micro-batches. A rank
// without samples in a step takes one that does not count.
std::set<std::int64_t> training_pieces(const TrainConfig& config, std::int64_t samples) {
  std::set<std::int64_t> sizes;
  for (const std::int64_t batch : distinct(pieces(samples, config.batch))) {
    const std::int64_t own = own_slice(config, batch).count;
    if (!accumulates(config)) {
      sizes.insert(std::max<std::int64_t>(own, 1));
    } else {
      for (const std::int64_t size : pieces(own, config.micro_batch)) sizes.insert(size);
    }
  }
  return sizes;
}

// The passes over this rank's shards, likewise.
std::set<std::pair<std::int64_t, ShardPlace>> shard_passes(const TrainConfig& config, std::int64_t samples) {
  std::set<std::pair<std::int64_t, ShardPlace>> passes;
  const std::int64_t own = config.shards / config.ranks;
  for (const std::int64_t batch : distinct(pieces(samples, config.batch))) {
    for (std::int64_t leaf = 0; leaf < own; ++leaf) {
      const Slice slice = slice_of(batch, config.rank * own + leaf, config.shards);
      passes.emplace(std::max<std::int64_t>(slice.count, 1), ShardPlace::of(leaf));
    }
  }
  return passes;
}

// Of the training graph as one rank has it, so that a checkpoint serves any number of them.
std::string graph_hash(const ModelTask& task, TrainConfig config, std::int64_t samples) {
  config.ranks = 1;
  config.rank = 0;
  const std::int64_t batch = std::min(config.batch, samples);
  if (config.shards > 0) {
    return optimized(shard_graph(task, config, slice_of(batch, 0, config.shards).count, {})).hash();
  }
  const std::int64_t size = accumulates(config) ? std::min(config.micro_batch, batch) : batch;
  return optimized(accumulates(config) ? accumulate_graph(task, config, size) : step_graph(task, config, size)).hash();
}

// From the graph that updates the parameters, as one rank would have it that keeps everything.
ShardedStates sharded_states(const ModelTask& task, TrainConfig config) {
  ShardedStates result;
  config.rank = 0;
  TrainConfig whole = config;
  whole.zero = 0;
  const bool apart = accumulates(config) || config.shards > 0;
  const Graph graph = apart ? apply_graph(task, whole) : step_graph(task, whole, 1);
  const Owners owners = owners_of(graph, config);
  if (owners.empty()) return result;
  for (const ValueId state : graph.states()) {
    const Value& value = graph.value(state);
    if (value.memory == MemoryClass::parameters) result.parameters.push_back({value, owners.at(value.name)});
    if (value.memory == MemoryClass::optimizer) result.optimizer.push_back({value, owner_of_state(owners, value.name)});
  }
  return result;
}

bool computes(const kernels::KernelEntry* kernel, const Graph& graph, const Node& node, int threads) {
  if (!kernel) return false;
  std::vector<kernels::TensorDesc> in, out;
  for (const ValueId v : node.inputs) in.push_back(v == kNoValue ? kernels::TensorDesc{} : graph.type(v).desc());
  for (const ValueId v : node.outputs) out.push_back(graph.type(v).desc());
  return kernel->supports({in, out, node.packed.data(), threads, false, false, kernel});
}

bool computes_on_cpu(const Graph& graph, const Node& node) {
  return computes(kernels::cpu::find(node.op->name, kernels::cpu::best_isa()), graph, node, 1);
}

// What the device has no f16 kernel for is computed in f32.
Graph fitted_to(const Device& device, const Graph& graph) {
  return widen_f16(graph, [&](const Graph& whole, const Node& node) {
    return computes(device.find(node.op->name), whole, node, device.threads());
  });
}

// The pass as it is run: with its samples taken from the device's memory, if they are there.
Graph fed(Graph graph, const ModelTask& task, const TrainConfig& config) {
  if (config.resident == 0) return graph;
  std::vector<std::string> names = {"y"};
  for (const Field& field : task.input.fields) names.push_back(field.name);
  return gather_inputs(graph, names, config.resident);
}

}  // namespace

std::vector<std::int64_t> pieces(std::int64_t samples, std::int64_t piece) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(samples / piece), piece);
  if (samples % piece != 0) sizes.push_back(samples % piece);
  return sizes;
}

Slice slice_of(std::int64_t samples, std::int64_t index, std::int64_t parts) {
  const std::int64_t base = samples / parts;
  const std::int64_t larger = samples % parts;
  return {index * base + std::min(index, larger), base + (index < larger ? 1 : 0)};
}

Slice own_slice(const TrainConfig& config, std::int64_t samples) {
  if (config.shards == 0) return slice_of(samples, config.rank, config.ranks);
  const std::int64_t own = config.shards / config.ranks;
  const std::int64_t first = slice_of(samples, config.rank * own, config.shards).first;
  const Slice last = slice_of(samples, (config.rank + 1) * own - 1, config.shards);
  return {first, last.first + last.count - first};
}

std::int64_t evaluation_batch(const TrainConfig& config) {
  if (accumulates(config)) return config.micro_batch;
  return slice_of(config.batch, 0, config.shards > 0 ? config.shards : config.ranks).count;
}

std::vector<PlanPtr> TrainPlans::all() const {
  std::vector<PlanPtr> result;
  for (const auto* group : {&step, &accumulate, &evaluate}) {
    for (const auto& [samples, plan] : *group) result.push_back(plan);
  }
  for (const auto& [key, plan] : shard) result.push_back(plan);
  if (apply) result.push_back(apply);
  return result;
}

std::pair<std::int64_t, PlanPtr> TrainPlans::main_entry() const {
  if (!shard.empty()) return {shard.rbegin()->first.first, shard.rbegin()->second};
  return step.empty() ? *accumulate.rbegin() : *step.rbegin();
}

Graph optimized(const Graph& graph) {
  return optimize(graph, [](const Graph& piece) {
    return evaluate(widen_f16(piece, computes_on_cpu), {}, kernels::cpu::best_isa());
  });
}

PlanPtr compile_graph(const Graph& graph, StateLayout& states, const Device& device) {
  const Graph rewritten = fitted_to(device, optimized(graph));
  states.add(rewritten);
  return compile(rewritten, states, device);
}

TilePlans predict_plans(const ModelTask& task, const std::set<std::int64_t>& batches, StateLayout& states,
                        const Device& device) {
  const auto graph = [&](std::int64_t samples) { return fitted_to(device, optimized(predict_graph(task, samples))); };
  return compile_tiles(graph, batches, states, device);
}

TrainPlans plan_training(const ModelTask& task, const TrainConfig& config, const SampleCounts& counts,
                         const Device& device, std::size_t transient_budget) {
  TrainPlans plans;
  const auto fitted_plan = [&](const Graph& graph) {
    plans.graph_hash = graph.hash();
    const Graph run = fitted_to(device, fed(graph, task, config));
    plans.states.add(run);
    const FittedGraph fitted = fit_memory(run, plans.states, device, transient_budget);
    plans.recomputed = fitted.dropped;
    return compile(fitted.graph, plans.states, device);
  };
  if (config.shards > 0) {
    for (const auto& [size, place] : shard_passes(config, counts.train)) {
      plans.shard[{size, place}] = fitted_plan(optimized(shard_graph(task, config, size, place)));
    }
  } else if (accumulates(config)) {
    for (const std::int64_t size : training_pieces(config, counts.train)) {
      plans.accumulate[size] = fitted_plan(optimized(accumulate_graph(task, config, size)));
    }
  } else {
    for (const std::int64_t size : training_pieces(config, counts.train)) {
      plans.step[size] = fitted_plan(optimized(step_graph(task, config, size)));
    }
  }
  if (config.ranks > 1 || config.shards > 0) plans.graph_hash = graph_hash(task, config, counts.train);
  if (accumulates(config) || config.shards > 0) {
    plans.apply = compile_graph(apply_graph(task, config), plans.states, device);
  }
  if (config.ranks > 1 && config.zero > 0) plans.sharded = sharded_states(task, config);
  const std::int64_t batch = evaluation_batch(config);
  for (const std::int64_t samples : {counts.validation, counts.test}) {
    for (const std::int64_t size : distinct(pieces(samples, batch))) {
      if (!plans.evaluate.contains(size)) {
        plans.evaluate[size] = compile_graph(evaluate_graph(task, config, size), plans.states, device);
      }
    }
  }
  return plans;
}

}  // namespace trivet
