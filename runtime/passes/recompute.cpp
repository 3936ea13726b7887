#include "trivet/passes/recompute.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// For each node, whether it depends on the gradient of the loss.
std::vector<bool> backward_nodes(const Graph& graph, ValueId seed) {
  std::vector<bool> depends(graph.values().size(), false);
  depends[at(seed)] = true;
  std::vector<bool> backward(graph.nodes().size(), false);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    for (const ValueId v : node.inputs) backward[i] = backward[i] || (v != kNoValue && depends[at(v)]);
    if (!backward[i]) continue;
    for (const ValueId v : node.outputs) depends[at(v)] = true;
  }
  return backward;
}

class Recomputer {
 public:
  Recomputer(const Graph& graph, ValueId seed, const std::set<ValueId>& dropped)
      : graph_(graph),
        backward_(backward_nodes(graph, seed)),
        dropped_(dropped),
        result_(graph.name()),
        copier_(graph, result_),
        again_(graph.values().size(), kNoValue) {}

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes().size(); ++i) {
      const Node& node = graph_.nodes()[i];
      if (!backward_[i]) {
        copier_.copy(node);
        continue;
      }
      std::vector<ValueId> inputs;
      for (const ValueId v : node.inputs) inputs.push_back(late(v));
      const std::vector<ValueId> outputs = result_.add(*node.op, inputs, node.attrs, node.name);
      for (std::size_t o = 0; o < outputs.size(); ++o) {
        copier_.map(node.outputs[o], outputs[o]);
        result_.set_memory(outputs[o], graph_.value(node.outputs[o]).memory);
      }
    }
    copier_.finish();
    return std::move(result_);
  }

 private:
  // The value as a node of the backward part reads it.
  ValueId late(ValueId v) {
    if (v == kNoValue || !dropped_.contains(v)) return copier_(v);
    if (again_[at(v)] == kNoValue) make_again(graph_.node(graph_.value(v).producer));
    return again_[at(v)];
  }

  void make_again(const Node& node) {
    std::vector<ValueId> inputs;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(late(input_of(node, i)));
    const std::vector<ValueId> outputs = result_.add(*node.op, inputs, node.attrs, node.name + ".again");
    for (std::size_t o = 0; o < outputs.size(); ++o) again_[at(node.outputs[o])] = outputs[o];
  }

  // batch_norm_train has overwritten the running statistics by then. The second time they only lead to statistics that
  // nobody reads, so that others of the same type do as well: scale and bias.
  static ValueId input_of(const Node& node, std::size_t i) {
    constexpr std::size_t kScale = 1, kRunningMean = 3, kRunningVariance = 4;
    const bool running = node.op->name == "batch_norm_train" && (i == kRunningMean || i == kRunningVariance);
    return node.inputs[running ? kScale : i];
  }

  const Graph& graph_;
  const std::vector<bool> backward_;
  const std::set<ValueId>& dropped_;
  Graph result_;
  GraphCopier copier_;
  std::vector<ValueId> again_;  // by value of graph_: the second one
};

}  // namespace

std::vector<ValueId> kept_activations(const Graph& graph, ValueId seed) {
  const std::vector<bool> backward = backward_nodes(graph, seed);
  std::vector<bool> read(graph.values().size(), false);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    if (!backward[i]) continue;
    for (const ValueId v : graph.nodes()[i].inputs) {
      if (v != kNoValue) read[at(v)] = true;
    }
  }
  std::vector<ValueId> kept;
  for (std::size_t v = 0; v < read.size(); ++v) {
    const NodeId producer = graph.values()[v].producer;
    if (read[v] && producer >= 0 && !backward[at(producer)]) kept.push_back(static_cast<ValueId>(v));
  }
  return kept;
}

Graph recompute(const Graph& graph, ValueId seed, const std::set<ValueId>& dropped) {
  return Recomputer(graph, seed, dropped).run();
}

}  // namespace trivet
