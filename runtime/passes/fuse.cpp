#include <fmt/format.h>

#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

Attrs with(Attrs attrs, const std::string& name, const AttrValue& value) {
  for (auto& [key, old] : attrs) {
    if (key == name) old = value;
  }
  return attrs;
}

const AttrValue& attribute(const Node& node, const std::string& name) {
  return std::find_if(node.attrs.begin(), node.attrs.end(), [&](const auto& a) { return a.first == name; })->second;
}

class Fuser {
 public:
  explicit Fuser(const Graph& graph)
      : graph_(graph),
        result_(graph.name()),
        copier_(graph, result_),
        readers_(graph.values().size(), 0),
        only_reader_(graph.values().size(), -1),
        done_(graph.nodes().size(), false) {
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
      for (const ValueId v : graph.nodes()[i].inputs) {
        if (v == kNoValue) continue;
        ++readers_[at(v)];
        only_reader_[at(v)] = static_cast<NodeId>(i);
      }
    }
    for (const NamedValue& o : graph.outputs()) readers_[at(o.value)] += 2;  // seen from outside: stays as it is
    for (const Update& u : graph.updates()) readers_[at(u.value)] += 2;
  }

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes().size(); ++i) {
      if (done_[i]) continue;
      const Node& node = graph_.nodes()[i];
      if (node.op->name == "cross_entropy" && fuse_loss(node, static_cast<NodeId>(i))) continue;
      if (node.op->name == "linear" || node.op->name == "conv2d") {
        fuse_activation(node);
      } else {
        copier_.copy(node);
      }
    }
    copier_.finish();
    return std::move(result_);
  }

 private:
  // The node that alone reads `v`, if its op is `op`.
  const Node* sole_reader(ValueId v, std::string_view op) const {
    if (readers_[at(v)] != 1) return nullptr;
    const Node& reader = graph_.node(only_reader_[at(v)]);
    return reader.op->name == op ? &reader : nullptr;
  }

  void mark_done(const Node& node) { done_[at(graph_.value(node.outputs[0]).producer)] = true; }

  // A vector of one number per output channel that is known before `node` runs can be its bias.
  bool is_bias(const Node& node, ValueId v) const {
    const Value& value = graph_.value(v);
    return value.kind != ValueKind::computed && value.type.rank() == 1 &&
           value.type.dim(0) == graph_.type(node.outputs[0]).dim(-1) &&
           value.type.dtype == graph_.type(node.outputs[0]).dtype;
  }

  void fuse_activation(const Node& node) {
    std::vector<ValueId> inputs = node.inputs;
    Attrs attrs = node.attrs;
    const Node* last = &node;
    const bool has_bias = inputs.size() > 2 && inputs[2] != kNoValue;
    if (const Node* add = has_bias || std::get<std::string>(attribute(node, "activation")) != "none"
                              ? nullptr
                              : sole_reader(node.outputs[0], "add")) {
      const ValueId other = add->inputs[0] == node.outputs[0] ? add->inputs[1] : add->inputs[0];
      if (is_bias(node, other)) {
        inputs.resize(3, kNoValue);
        inputs[2] = other;
        last = add;
      }
    }
    if (const Node* relu = sole_reader(last->outputs[0], "relu");
        relu && std::get<std::string>(attribute(node, "activation")) == "none") {
      attrs = with(std::move(attrs), "activation", std::string("relu"));
      if (last != &node) mark_done(*last);
      last = relu;
    }
    if (last != &node) mark_done(*last);
    for (ValueId& v : inputs) v = copier_(v);
    copier_.map(last->outputs[0], result_.add(*node.op, inputs, attrs, node.name).front());
  }

  // cross_entropy whose backward has the same logits, labels and attributes: both are made at the place of the first,
  // for which the gradient that comes in must not depend on the loss. What it does depend on is brought forward.
  bool fuse_loss(const Node& loss, NodeId id) {
    for (std::size_t j = at(id) + 1; j < graph_.nodes().size(); ++j) {
      const Node& backward = graph_.nodes()[j];
      if (backward.op->name != "cross_entropy_backward" || backward.inputs[0] != loss.inputs[0] ||
          backward.inputs[1] != loss.inputs[1] || backward.attrs != loss.attrs) {
        continue;
      }
      const std::set<NodeId> before = pending_ancestors(backward.inputs[2], id);
      if (before.contains(id)) return false;
      for (const NodeId ancestor : before) {
        copier_.copy(graph_.node(ancestor));
        done_[at(ancestor)] = true;
      }
      const std::vector<ValueId> out =
          result_.add(require_op("softmax_cross_entropy"),
                      {copier_(backward.inputs[0]), copier_(backward.inputs[1]), copier_(backward.inputs[2])},
                      loss.attrs, loss.name);
      copier_.map(loss.outputs[0], out[0]);
      copier_.map(backward.outputs[0], out[1]);
      done_[j] = true;
      return true;
    }
    return false;
  }

  // Nodes from `from` on that `v` depends on and that have not been copied, in order.
  std::set<NodeId> pending_ancestors(ValueId v, NodeId from) const {
    std::set<NodeId> found;
    std::vector<ValueId> open = {v};
    while (!open.empty()) {
      const NodeId producer = graph_.value(open.back()).producer;
      open.pop_back();
      if (producer < from || done_[at(producer)] || !found.insert(producer).second) continue;
      for (const ValueId input : graph_.node(producer).inputs) {
        if (input != kNoValue) open.push_back(input);
      }
    }
    return found;
  }

  const Graph& graph_;
  Graph result_;
  GraphCopier copier_;
  std::vector<int> readers_;
  std::vector<NodeId> only_reader_;
  std::vector<bool> done_;
};

}  // namespace

Graph fuse(const Graph& graph) { return Fuser(graph).run(); }

}  // namespace trivet
