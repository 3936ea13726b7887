#include "runtime/train/memory_budget.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/passes/recompute.h"

namespace trivet {
namespace {

// The input through which the loss gradient comes in (trivet/train/graphs.h).
ValueId gradient_seed(const Graph& graph) {
  for (const char* name : {"inv_count", "weight"}) {
    if (const auto value = graph.find(name)) return *value;
  }
  throw Error(ErrorCode::internal, fmt::format("graph '{}' has no gradient of the loss", graph.name()));
}

class Fitter {
 public:
  Fitter(const Graph& graph, const StateLayout& states, const Device& device, std::size_t budget)
      : graph_(graph), states_(states), device_(device), budget_(budget), seed_(gradient_seed(graph)) {}

  FittedGraph run() {
    if (!try_dropping({})) {
      const std::vector<ValueId> kept = kept_activations(graph_, seed_);
      if (!drop_the_cheapest(kept)) drop_between_checkpoints(kept);
    }
    return {recompute(graph_, seed_, best_), least_, static_cast<int>(best_.size())};
  }

 private:
  // True if the plan fits; remembers the smallest one so far.
  bool try_dropping(const std::set<ValueId>& dropped) {
    const std::size_t bytes = compile(recompute(graph_, seed_, dropped), states_, device_)->transient_bytes;
    if (bytes < least_) {
      least_ = bytes;
      best_ = dropped;
    }
    return bytes <= budget_;
  }

  // Seconds for each byte that is saved.
  double price(ValueId v, const std::map<std::string, double>& seconds) const {
    const auto found = seconds.find(graph_.node(graph_.value(v).producer).name);
    const double time = found == seconds.end() ? 0 : found->second;
    return time / static_cast<double>(std::max<std::size_t>(graph_.type(v).bytes(), 1));
  }

  // More and more of the values, those first that are made again most quickly for their size.
  bool drop_the_cheapest(std::vector<ValueId> kept) {
    constexpr std::size_t kTries = 16;
    const auto plan = compile(graph_, states_, device_);
    const Ceilings ceilings = device_.ceilings();
    std::map<std::string, double> seconds;
    for (const PlannedStep& step : plan->steps) seconds[step.node] = Plan::seconds(step, ceilings);
    std::stable_sort(kept.begin(), kept.end(),
                     [&](ValueId a, ValueId b) { return price(a, seconds) < price(b, seconds); });
    for (std::size_t i = 1; i <= kTries; ++i) {
      const std::size_t count = kept.size() * i / kTries;
      if (try_dropping({kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(count)})) return true;
    }
    return false;
  }

  // All but every n-th value in the order of the graph: what lies between two that stay is made again at once.
  void drop_between_checkpoints(const std::vector<ValueId>& kept) {
    for (std::size_t spacing = 2; spacing < kept.size(); spacing += 1 + spacing / 4) {
      std::set<ValueId> dropped;
      for (std::size_t i = 0; i < kept.size(); ++i) {
        if (i % spacing != 0) dropped.insert(kept[i]);
      }
      if (try_dropping(dropped)) return;
    }
  }

  const Graph& graph_;
  const StateLayout& states_;
  const Device& device_;
  const std::size_t budget_;
  const ValueId seed_;
  std::size_t least_ = SIZE_MAX;
  std::set<ValueId> best_;
};

}  // namespace

FittedGraph fit_memory(const Graph& graph, const StateLayout& states, const Device& device, std::size_t budget) {
  return Fitter(graph, states, device, budget).run();
}

}  // namespace trivet
