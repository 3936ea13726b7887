// Who reads the values of a graph, as rewrites ask.
#pragma once

#include <vector>

#include "trivet/graph/graph.h"

namespace trivet {

class Readers {
 public:
  explicit Readers(const Graph& graph) : graph_(graph), of_(graph.values().size()) {
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
      for (const ValueId v : graph.nodes()[i].inputs) {
        if (v != kNoValue) of(v).nodes.push_back(static_cast<NodeId>(i));
      }
    }
    for (const NamedValue& o : graph.outputs()) of(o.value).outside = true;
    for (const Update& u : graph.updates()) of(u.value).outside = true;
  }

  // The node that reads `v` once, if nothing else does and `v` is neither an output nor an update; else -1.
  NodeId sole(ValueId v) const {
    const Reading& reading = of(v);
    return reading.nodes.size() == 1 && !reading.outside ? reading.nodes[0] : -1;
  }
  // The same as a node, if its op is `op`; else null.
  const Node* sole(ValueId v, std::string_view op) const {
    const NodeId reader = sole(v);
    return reader >= 0 && graph_.node(reader).op->name == op ? &graph_.node(reader) : nullptr;
  }
  // In the order of the graph, once for each input.
  const std::vector<NodeId>& nodes(ValueId v) const { return of(v).nodes; }

 private:
  struct Reading {
    std::vector<NodeId> nodes;
    bool outside = false;
  };
  const Reading& of(ValueId v) const { return of_[static_cast<std::size_t>(v)]; }
  Reading& of(ValueId v) { return of_[static_cast<std::size_t>(v)]; }

  const Graph& graph_;
  std::vector<Reading> of_;
};

// The attribute, or null if the op has none of this name.
inline const AttrValue* find_attribute(const Node& node, std::string_view name) {
  for (const auto& [key, value] : node.attrs) {
    if (key == name) return &value;
  }
  return nullptr;
}

inline Attrs with_attribute(Attrs attrs, std::string_view name, const AttrValue& value) {
  for (auto& [key, old] : attrs) {
    if (key == name) old = value;
  }
  return attrs;
}

// Whether the op could apply an activation at its end and does not.
inline bool takes_activation(const Node& node) {
  const AttrValue* activation = find_attribute(node, "activation");
  return activation && std::get<std::string>(*activation) == "none";
}

}  // namespace trivet
