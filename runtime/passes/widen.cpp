#include <fmt/format.h>

#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

class Widening {
 public:
  Widening(const Graph& graph, const ComputesNode& computes)
      : graph_(graph), computes_(computes), result_(graph.name()), copier_(graph, result_) {}

  Graph run() {
    for (const Node& node : graph_.nodes()) {
      if (touches_f16(node) && !node.op->alias && !computes_(graph_, node)) {
        widen(node);
      } else {
        copier_.copy(node);
      }
    }
    copier_.finish();
    return std::move(result_);
  }

 private:
  bool touches_f16(const Node& node) const {
    const auto is_f16 = [&](ValueId v) { return v != kNoValue && graph_.type(v).dtype == DType::f16; };
    return std::any_of(node.inputs.begin(), node.inputs.end(), is_f16) ||
           std::any_of(node.outputs.begin(), node.outputs.end(), is_f16);
  }

  void widen(const Node& node) {
    std::vector<ValueId> inputs;
    for (const ValueId v : node.inputs) inputs.push_back(v == kNoValue ? v : wide(v));
    const std::vector<ValueId> outputs = result_.add(*node.op, inputs, node.attrs, node.name);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const ValueId old = node.outputs[i];
      ValueId now = outputs[i];
      if (graph_.type(old).dtype != result_.type(now).dtype) {
        now = apply(result_, "cast", {now}, {{"to", std::string(dtype_name(graph_.type(old).dtype))}},
                    graph_.value(old).name + ".narrowed");
      }
      result_.set_memory(now, graph_.value(old).memory);
      copier_.map(old, now);
    }
  }

  // Each reader widens for itself: what is short-lived takes memory for a short time only.
  ValueId wide(ValueId v) {
    const ValueId now = copier_(v);
    if (result_.type(now).dtype != DType::f16) return now;
    return apply(result_, "cast", {now}, {{"to", std::string("f32")}}, graph_.value(v).name + ".widened");
  }

  const Graph& graph_;
  const ComputesNode& computes_;
  Graph result_;
  GraphCopier copier_;
};

}  // namespace

Graph widen_f16(const Graph& graph, const ComputesNode& computes) { return Widening(graph, computes).run(); }

}  // namespace trivet
