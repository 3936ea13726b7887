#include "trivet/ops/precision.h"

#include <fmt/format.h>

#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// Ops that only move elements: they keep whatever dtype their input has come to.
bool moves_elements(const Node& node) {
  static const std::set<std::string_view> kOps = {"reshape", "transpose", "slice", "concat", "pad", "expand"};
  return kOps.contains(node.op->name);
}

class Lowering {
 public:
  explicit Lowering(const Graph& graph)
      : graph_(graph), result_(graph.name()), copier_(graph, result_), casts_(graph.values().size()) {}

  Graph run() {
    for (const Node& node : graph_.nodes()) {
      std::vector<ValueId> inputs;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(input(node, i));
      const std::vector<ValueId> outputs = result_.add(*node.op, std::move(inputs), node.attrs, node.name);
      for (std::size_t o = 0; o < outputs.size(); ++o) {
        copier_.map(node.outputs[o], outputs[o]);
        result_.set_memory(outputs[o], graph_.value(node.outputs[o]).memory);
      }
    }
    for (const NamedValue& o : graph_.outputs()) result_.set_output(o.name, as(o.value, graph_.type(o.value).dtype));
    for (const Update& u : graph_.updates()) {
      result_.set_update(copier_(u.state), as(u.value, graph_.type(u.value).dtype));
    }
    return std::move(result_);
  }

 private:
  ValueId input(const Node& node, std::size_t i) {
    const ValueId v = node.inputs[i];
    if (v == kNoValue) return v;
    const DType dtype = graph_.type(v).dtype;
    if (dtype != DType::f32) return copier_(v);
    if (moves_elements(node)) return as(v, any_lowered(node) ? DType::bf16 : dtype);
    const std::span<const int> low = bf16_inputs(node.op->name);
    return as(v, std::find(low.begin(), low.end(), static_cast<int>(i)) != low.end() ? DType::bf16 : dtype);
  }

  bool any_lowered(const Node& node) {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
      return v != kNoValue && graph_.type(v).dtype == DType::f32 && result_.type(copier_(v)).dtype == DType::bf16;
    });
  }

  // The value in the wanted dtype; each is cast once.
  ValueId as(ValueId v, DType wanted) {
    const ValueId now = copier_(v);
    if (result_.type(now).dtype == wanted) return now;
    const auto [known, added] = casts_[at(v)].try_emplace(wanted, kNoValue);
    if (added) {
      const std::string dtype = dtype_name(wanted);
      known->second = apply(result_, "cast", {now}, {{"to", dtype}}, fmt::format("{}.{}", graph_.value(v).name, dtype));
    }
    return known->second;
  }

  const Graph& graph_;
  Graph result_;
  GraphCopier copier_;
  std::vector<std::map<DType, ValueId>> casts_;
};

}  // namespace

Graph to_bf16(const Graph& graph) { return Lowering(graph).run(); }

}  // namespace trivet
