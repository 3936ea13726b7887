#include "trivet/train/plans.h"

#include <fmt/format.h>

#include <set>

#include "runtime/train/memory_budget.h"
#include "trivet/exec/evaluate.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::set<std::int64_t> distinct(const std::vector<std::int64_t>& values) { return {values.begin(), values.end()}; }

// Sizes of all passes of one epoch: batches of config.batch, each cut into micro-batches.
std::set<std::int64_t> training_pieces(const TrainConfig& config, std::int64_t samples) {
  const std::int64_t micro = config.micro_batch > 0 ? config.micro_batch : config.batch;
  std::set<std::int64_t> sizes;
  for (const std::int64_t batch : distinct(pieces(samples, config.batch))) {
    for (const std::int64_t size : pieces(batch, micro)) sizes.insert(size);
  }
  return sizes;
}

}  // namespace

std::vector<std::int64_t> pieces(std::int64_t samples, std::int64_t piece) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(samples / piece), piece);
  if (samples % piece != 0) sizes.push_back(samples % piece);
  return sizes;
}

std::vector<PlanPtr> TrainPlans::all() const {
  std::vector<PlanPtr> result;
  for (const auto* group : {&step, &accumulate, &evaluate}) {
    for (const auto& [samples, plan] : *group) result.push_back(plan);
  }
  if (apply) result.push_back(apply);
  return result;
}

const std::pair<const std::int64_t, PlanPtr>& TrainPlans::main_entry() const {
  return step.empty() ? *accumulate.rbegin() : *step.rbegin();
}

Graph optimized(const Graph& graph) {
  return optimize(graph, [](const Graph& piece) { return evaluate(piece, {}, kernels::cpu::best_isa()); });
}

PlanPtr compile_graph(const Graph& graph, StateLayout& states, const Device& device) {
  const Graph rewritten = optimized(graph);
  states.add(rewritten);
  return compile(rewritten, states, device);
}

TilePlans predict_plans(const ModelTask& task, const std::set<std::int64_t>& batches, StateLayout& states,
                        const Device& device) {
  const auto graph = [&](std::int64_t samples) { return optimized(predict_graph(task, samples)); };
  return compile_tiles(graph, batches, states, device);
}

TrainPlans plan_training(const ModelTask& task, const TrainConfig& config, const SampleCounts& counts,
                         const Device& device, std::size_t transient_budget) {
  TrainPlans plans;
  const bool accumulates = config.micro_batch > 0 && config.micro_batch < config.batch;
  for (const std::int64_t size : training_pieces(config, counts.train)) {
    const Graph graph = optimized(accumulates ? accumulate_graph(task, config, size) : step_graph(task, config, size));
    plans.states.add(graph);
    const FittedGraph fitted = fit_memory(graph, plans.states, device, transient_budget);
    (accumulates ? plans.accumulate : plans.step)[size] = compile(fitted.graph, plans.states, device);
    plans.graph_hash = graph.hash();
    plans.recomputed = fitted.dropped;
  }
  if (accumulates) plans.apply = compile_graph(apply_graph(task, config), plans.states, device);
  const std::int64_t batch = accumulates ? config.micro_batch : config.batch;
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
