#include "trivet/passes/gradients.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

// Which values depend on one of `wrt` through ops that pass gradients on.
std::vector<bool> depends_on(const Graph& graph, std::span<const ValueId> wrt) {
  std::vector<bool> depends(graph.values().size(), false);
  for (const ValueId v : wrt) depends[static_cast<std::size_t>(v)] = true;
  for (const Node& node : graph.nodes()) {
    bool any = false;
    for (const ValueId v : node.inputs) any = any || (v != kNoValue && depends[static_cast<std::size_t>(v)]);
    if (!any) continue;
    for (const ValueId v : node.outputs) {
      if (is_float(graph.type(v).dtype)) depends[static_cast<std::size_t>(v)] = true;
    }
  }
  return depends;
}

}  // namespace

std::vector<ValueId> gradients(Graph& graph, ValueId y, ValueId seed, std::span<const ValueId> wrt) {
  if (seed == kNoValue) {
    const TensorType type = graph.type(y);
    seed = apply(graph, "full", {}, {{"shape", type.shape}, {"value", 1.0}}, "seed");
  }
  if (graph.type(seed) != graph.type(y)) {
    throw Error(ErrorCode::graph, fmt::format("the seed of the gradients is {}, expected {}",
                                              to_string(graph.type(seed)), to_string(graph.type(y))));
  }
  const std::vector<bool> depends = depends_on(graph, wrt);
  std::vector<ValueId> gradient(graph.values().size(), kNoValue);
  gradient[static_cast<std::size_t>(y)] = seed;

  const auto last = static_cast<NodeId>(graph.nodes().size()) - 1;
  for (NodeId id = last; id >= 0; --id) {
    const Node node = graph.node(id);  // a copy: adding nodes moves them
    std::vector<ValueId> dout;
    bool flows = false;
    for (const ValueId v : node.outputs) {
      dout.push_back(gradient[static_cast<std::size_t>(v)]);
      flows = flows || dout.back() != kNoValue;
    }
    std::vector<bool> needed;
    bool any_needed = false;
    for (const ValueId v : node.inputs) {
      needed.push_back(v != kNoValue && depends[static_cast<std::size_t>(v)]);
      any_needed = any_needed || needed.back();
    }
    if (!flows || !any_needed) continue;
    if (!node.op->gradient) {
      throw Error(ErrorCode::graph, fmt::format("{}: op '{}' has no gradient, but a gradient through it was asked for",
                                                node.name, node.op->name));
    }
    GradContext context(graph, node, dout, needed);
    node.op->gradient(context);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId g = context.result()[i];
      if (g == kNoValue || !needed[i]) continue;
      const TensorType type = graph.type(node.inputs[i]);
      if (graph.type(g) != type) {
        throw Error(ErrorCode::internal,
                    fmt::format("{}: the gradient of input {} of op '{}' is {}, expected {}", node.name, i,
                                node.op->name, to_string(graph.type(g)), to_string(type)));
      }
      ValueId& sum = gradient[static_cast<std::size_t>(node.inputs[i])];
      sum = sum == kNoValue
                ? g
                : apply(graph, "add", {sum, g}, {}, fmt::format("{}.grad_sum_{}", node.name, graph.nodes().size()));
    }
  }
  std::vector<ValueId> result;
  for (const ValueId v : wrt) {
    const ValueId g = gradient[static_cast<std::size_t>(v)];
    if (g != kNoValue) graph.set_memory(g, MemoryClass::gradients);
    result.push_back(g);
  }
  return result;
}

}  // namespace trivet
