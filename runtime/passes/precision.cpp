#include "trivet/ops/precision.h"

#include <fmt/format.h>

#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// Ops that only move elements: they keep whatever dtype their input has come to.
bool moves_elements(const Node& node) {
  static const std::set<std::string_view> kOps = {"reshape", "transpose", "slice",    "concat",
                                                  "pad",     "expand",    "embedding"};
  return kOps.contains(node.op->name);
}

// Biases and the scales of norms are few, and small steps of theirs matter.
bool is_weight(const Value& value) {
  return value.trainable && value.type.dtype == DType::f32 && value.type.rank() > 1;
}

class Lowering {
 public:
  Lowering(const Graph& graph, DType low, DType weights)
      : graph_(graph),
        low_(low),
        result_(graph.name()),
        mapping_(graph.values().size(), kNoValue),
        casts_(graph.values().size()) {
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
      const Value& v = graph.values()[i];
      const TensorType type{is_weight(v) ? weights : v.type.dtype, v.type.shape};
      if (v.kind == ValueKind::input) mapping_[i] = result_.input(v.name, v.type);
      if (v.kind != ValueKind::state) continue;
      mapping_[i] =
          v.trainable ? result_.parameter(v.name, type, v.init) : result_.state(v.name, type, v.memory, v.init);
    }
  }

  Graph run() {
    for (const Node& node : graph_.nodes()) {
      std::vector<ValueId> inputs;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(input(node, i));
      const std::vector<ValueId> outputs = result_.add(*node.op, std::move(inputs), node.attrs, node.name);
      for (std::size_t o = 0; o < outputs.size(); ++o) {
        mapping_[at(node.outputs[o])] = outputs[o];
        result_.set_memory(outputs[o], graph_.value(node.outputs[o]).memory);
      }
    }
    for (const NamedValue& o : graph_.outputs()) result_.set_output(o.name, as(o.value, graph_.type(o.value).dtype));
    for (const Update& u : graph_.updates()) {
      result_.set_update(now(u.state), as(u.value, result_.type(now(u.state)).dtype));
    }
    return std::move(result_);
  }

 private:
  // The value in the result; constants are copied when they are used.
  ValueId now(ValueId v) {
    if (mapping_[at(v)] == kNoValue) {
      mapping_[at(v)] = result_.constant(graph_.constant_of(v), graph_.value(v).name);
    }
    return mapping_[at(v)];
  }

  ValueId input(const Node& node, std::size_t i) {
    const ValueId v = node.inputs[i];
    if (v == kNoValue) return v;
    const DType dtype = graph_.type(v).dtype;
    if (dtype != DType::f32) return now(v);
    if (moves_elements(node)) return as(v, any_lowered(node) ? low_ : dtype);
    const std::span<const int> low = bf16_inputs(node.op->name);
    return as(v, std::find(low.begin(), low.end(), static_cast<int>(i)) != low.end() ? low_ : dtype);
  }

  bool any_lowered(const Node& node) {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
      return v != kNoValue && graph_.type(v).dtype == DType::f32 && result_.type(now(v)).dtype == low_;
    });
  }

  // The value in the wanted dtype; each is cast once.
  ValueId as(ValueId v, DType wanted) {
    const ValueId value = now(v);
    if (result_.type(value).dtype == wanted) return value;
    const auto [known, added] = casts_[at(v)].try_emplace(wanted, kNoValue);
    if (added) {
      const std::string dtype = dtype_name(wanted);
      known->second =
          apply(result_, "cast", {value}, {{"to", dtype}}, fmt::format("{}.{}", graph_.value(v).name, dtype));
    }
    return known->second;
  }

  const Graph& graph_;
  const DType low_;  // what is computed in
  Graph result_;
  std::vector<ValueId> mapping_;
  std::vector<std::map<DType, ValueId>> casts_;
};

}  // namespace

Graph to_bf16(const Graph& graph, DType weights) { return Lowering(graph, DType::bf16, weights).run(); }

Graph to_f16(const Graph& graph) { return Lowering(graph, DType::f16, DType::f32).run(); }

}  // namespace trivet
