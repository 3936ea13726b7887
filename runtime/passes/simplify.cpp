#include <fmt/format.h>

#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// What makes two nodes the same computation.
std::string signature(const Node& node, const std::vector<ValueId>& inputs) {
  std::string text = node.op->name;
  for (const ValueId v : inputs) text += fmt::format(",{}", v);
  for (const auto& [name, value] : node.attrs) text += fmt::format(";{}={}", name, to_string(value));
  return text;
}

}  // namespace

Graph fold_constants(const Graph& graph, const Evaluate& evaluate) {
  Graph result(graph.name());
  GraphCopier copier(graph, result);
  for (const Node& node : graph.nodes()) {
    bool constant = true;
    for (const ValueId v : node.inputs) {
      constant = constant && v != kNoValue && result.value(copier(v)).kind == ValueKind::constant;
    }
    std::size_t bytes = 0;
    for (const ValueId v : node.outputs) bytes += graph.type(v).bytes();
    if (!constant || bytes > kLargestFold) {
      copier.copy(node);
      continue;
    }
    Graph piece("fold");
    std::vector<ValueId> inputs;
    for (const ValueId v : node.inputs) inputs.push_back(piece.constant(result.constant_of(copier(v))));
    const std::vector<ValueId> outputs = piece.add(*node.op, inputs, node.attrs, node.name);
    for (std::size_t i = 0; i < outputs.size(); ++i) piece.set_output(fmt::format("{}", i), outputs[i]);
    std::vector<Tensor> tensors = evaluate(piece);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      copier.map(node.outputs[i], result.constant(std::move(tensors[i]), graph.value(node.outputs[i]).name));
    }
  }
  copier.finish();
  return result;
}

Graph merge_common(const Graph& graph) {
  Graph result(graph.name());
  GraphCopier copier(graph, result);
  std::map<std::string, std::vector<ValueId>> seen;
  // Two updates may not share one value: each state needs memory of its own.
  std::vector<bool> is_update(graph.values().size(), false);
  for (const Update& u : graph.updates()) is_update[at(u.value)] = true;
  for (const Node& node : graph.nodes()) {
    std::vector<ValueId> inputs;
    bool merge = true;
    for (const ValueId v : node.inputs) inputs.push_back(copier(v));
    for (const ValueId v : node.outputs) merge = merge && !is_update[at(v)];
    const std::string key = signature(node, inputs);
    const auto found = merge ? seen.find(key) : seen.end();
    if (found == seen.end()) {
      copier.copy(node);
      std::vector<ValueId> outputs;
      for (const ValueId v : node.outputs) outputs.push_back(copier(v));
      if (merge) seen[key] = outputs;
      continue;
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) copier.map(node.outputs[i], found->second[i]);
  }
  copier.finish();
  return result;
}

Graph drop_dead(const Graph& graph) {
  std::vector<bool> needed(graph.values().size(), false);
  for (const NamedValue& o : graph.outputs()) needed[at(o.value)] = true;
  for (const Update& u : graph.updates()) needed[at(u.value)] = true;
  std::vector<bool> keep(graph.nodes().size(), false);
  for (std::size_t i = graph.nodes().size(); i-- > 0;) {
    const Node& node = graph.nodes()[i];
    for (const ValueId v : node.outputs) keep[i] = keep[i] || needed[at(v)];
    if (!keep[i]) continue;
    for (const ValueId v : node.inputs) {
      if (v != kNoValue) needed[at(v)] = true;
    }
  }
  Graph result(graph.name());
  GraphCopier copier(graph, result);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    if (keep[i]) copier.copy(graph.nodes()[i]);
  }
  copier.finish();
  return result;
}

Graph pool_before_relu(const Graph& graph) {
  std::vector<int> readers(graph.values().size(), 0);
  for (const Node& node : graph.nodes()) {
    for (const ValueId v : node.inputs) {
      if (v != kNoValue) ++readers[at(v)];
    }
  }
  for (const NamedValue& o : graph.outputs()) ++readers[at(o.value)];
  for (const Update& u : graph.updates()) ++readers[at(u.value)];
  const auto relu_before = [&](const Node& node) -> const Node* {
    const NodeId producer = node.op->name == "max_pool" ? graph.value(node.inputs[0]).producer : -1;
    if (producer < 0 || graph.node(producer).op->name != "relu" || readers[at(node.inputs[0])] != 1) return nullptr;
    // A padded pool may have windows of padding alone, where only the values after relu are defined alike.
    for (const auto& [name, value] : node.attrs) {
      if (name != "pads") continue;
      for (const std::int64_t pad : std::get<std::vector<std::int64_t>>(value)) {
        if (pad != 0) return nullptr;
      }
    }
    return &graph.node(producer);
  };
  std::set<const Node*> moved;
  for (const Node& node : graph.nodes()) {
    if (const Node* relu = relu_before(node)) moved.insert(relu);
  }
  Graph result(graph.name());
  GraphCopier copier(graph, result);
  for (const Node& node : graph.nodes()) {
    if (moved.contains(&node)) continue;
    const Node* relu = relu_before(node);
    if (!relu) {
      copier.copy(node);
      continue;
    }
    const ValueId pooled = result.add(*node.op, {copier(relu->inputs[0])}, node.attrs, node.name).front();
    copier.map(node.outputs[0], result.add(*relu->op, {pooled}, relu->attrs, relu->name).front());
  }
  copier.finish();
  return result;
}

Graph optimize(const Graph& graph, const Evaluate& evaluate) {
  Graph result = fold_constants(drop_dead(graph), evaluate);
  result = merge_common(result);
  result = fuse(fuse_norm(result));
  return drop_dead(result);
}

}  // namespace trivet
