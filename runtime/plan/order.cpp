#include "runtime/plan/order.h"

#include <fmt/format.h>

#include <queue>

#include "trivet/base/error.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// The node that makes each state's new value, or -1.
std::vector<NodeId> update_nodes(const Graph& graph, const std::vector<ValueId>& roots) {
  std::vector<NodeId> updater(graph.values().size(), -1);
  for (const Update& u : graph.updates()) {
    updater[at(u.state)] = graph.value(roots[at(u.value)]).producer;
    if (updater[at(u.state)] < 0) {
      throw Error(ErrorCode::graph, fmt::format("state '{}': its update '{}' is not computed by a node",
                                                graph.value(u.state).name, graph.value(u.value).name));
    }
  }
  return updater;
}

}  // namespace

std::vector<ValueId> alias_roots(const Graph& graph) {
  std::vector<ValueId> roots(graph.values().size());
  for (std::size_t i = 0; i < roots.size(); ++i) roots[i] = static_cast<ValueId>(i);
  for (const Node& node : graph.nodes()) {
    if (node.op->alias) roots[at(node.outputs[0])] = roots[at(node.inputs[0])];
  }
  return roots;
}

std::vector<NodeId> execution_order(const Graph& graph) {
  const std::vector<ValueId> roots = alias_roots(graph);
  const std::vector<NodeId> updater = update_nodes(graph, roots);
  const std::size_t n = graph.nodes().size();
  std::vector<std::vector<NodeId>> after(n);  // after[a]: nodes that wait for a
  std::vector<int> waits(n, 0);
  std::vector<bool> updates(n, false);
  const auto add_edge = [&](NodeId from, NodeId to) {
    after[at(from)].push_back(to);
    ++waits[at(to)];
  };
  for (std::size_t i = 0; i < n; ++i) {
    const auto id = static_cast<NodeId>(i);
    for (const ValueId v : graph.nodes()[i].inputs) {
      if (v == kNoValue) continue;
      if (const NodeId producer = graph.value(v).producer; producer >= 0) add_edge(producer, id);
      // A reader of a state's old value comes before the node that overwrites it.
      if (const NodeId writer = updater[at(roots[at(v)])]; writer >= 0 && writer != id) add_edge(id, writer);
    }
  }
  for (const NodeId id : updater) {
    if (id >= 0) updates[at(id)] = true;
  }
  // Sums over ranks start as soon as they can and are waited for when nothing else is left to do; those for one rank as
  // soon as they may be, which frees the memory of the others. Updates come before other nodes, which are taken in
  // graph order.
  enum Class { start, update, plain, wait };
  const auto class_of = [&](NodeId id) {
    const std::string& op = graph.node(id).op->name;
    if (op == "sum_ranks_start" || op.starts_with("reduce_ranks_")) return start;
    if (op == "sum_ranks_wait") return wait;
    return updates[at(id)] ? update : plain;
  };
  using Entry = std::pair<Class, NodeId>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> ready;
  for (std::size_t i = 0; i < n; ++i) {
    if (waits[i] == 0) ready.emplace(class_of(static_cast<NodeId>(i)), static_cast<NodeId>(i));
  }
  std::vector<NodeId> order;
  while (!ready.empty()) {
    const NodeId id = ready.top().second;
    ready.pop();
    order.push_back(id);
    for (const NodeId next : after[at(id)]) {
      if (--waits[at(next)] == 0) ready.emplace(class_of(next), next);
    }
  }
  if (order.size() != n) {
    for (std::size_t i = 0; i < n; ++i) {
      if (waits[i] > 0 && updates[i]) {
        throw Error(ErrorCode::graph,
                    fmt::format("{}: updates a state whose old value is still needed after it", graph.nodes()[i].name));
      }
    }
    throw Error(ErrorCode::internal, "the graph has a cycle");
  }
  return order;
}

}  // namespace trivet
