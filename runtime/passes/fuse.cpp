#include <fmt/format.h>

#include "runtime/passes/readers.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

class Fuser {
 public:
  explicit Fuser(const Graph& graph)
      : graph_(graph),
        result_(graph.name()),
        copier_(graph, result_),
        readers_(graph),
        done_(graph.nodes().size(), false) {}

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes().size(); ++i) {
      if (done_[i]) continue;
      const Node& node = graph_.nodes()[i];
      if (node.op->name == "cross_entropy" && fuse_loss(node, static_cast<NodeId>(i))) continue;
      if (has_epilogue(node.op->name)) {
        fuse_epilogue(node);
      } else {
        copier_.copy(node);
      }
    }
    copier_.finish();
    return std::move(result_);
  }

 private:
  static bool has_epilogue(std::string_view op) {
    return op == "linear" || op == "conv2d" || op == "conv" || op == "conv_transpose";
  }

  void mark_done(const Node& node) { done_[at(graph_.value(node.outputs[0]).producer)] = true; }

  // A vector of one number per output channel that is known before `node` runs can be its bias.
  bool is_bias(const Node& node, ValueId v) const {
    const Value& value = graph_.value(v);
    return value.kind != ValueKind::computed && value.type.rank() == 1 &&
           value.type.dim(0) == graph_.type(node.outputs[0]).dim(-1) &&
           value.type.dtype == graph_.type(node.outputs[0]).dtype;
  }

  void fuse_epilogue(const Node& node) {
    std::vector<ValueId> inputs = node.inputs;
    Attrs attrs = node.attrs;
    const Node* last = &node;
    const bool has_bias = inputs.size() > 2 && inputs[2] != kNoValue;
    const bool is_active = find_attribute(node, "activation") && !takes_activation(node);
    if (const Node* add = has_bias || is_active ? nullptr : readers_.sole(node.outputs[0], "add")) {
      const ValueId other = add->inputs[0] == node.outputs[0] ? add->inputs[1] : add->inputs[0];
      if (is_bias(node, other)) {
        inputs.resize(3, kNoValue);
        inputs[2] = other;
        last = add;
      }
    }
    if (const Node* relu = takes_activation(node) ? readers_.sole(last->outputs[0], "relu") : nullptr) {
      attrs = with_attribute(std::move(attrs), "activation", std::string("relu"));
      if (last != &node) mark_done(*last);
      last = relu;
    }
    if (last != &node) mark_done(*last);
    for (ValueId& v : inputs) v = copier_(v);
    copier_.map(last->outputs[0], result_.add(*node.op, inputs, attrs, node.name).front());
  }

  // The gradient of `loss` from the same logits, labels and attributes; its class weights come after the gradient of
  // the loss, and make it a softmax_cross_entropy whose own loss nobody reads.
  static bool is_gradient_of(const Node& backward, const Node& loss) {
    const bool weighted = loss.inputs.size() > 2 && loss.inputs[2] != kNoValue;
    if (backward.op->name != (weighted ? "softmax_cross_entropy" : "cross_entropy_backward")) return false;
    return backward.inputs[0] == loss.inputs[0] && backward.inputs[1] == loss.inputs[1] &&
           backward.attrs == loss.attrs &&
           (!weighted || (backward.inputs.size() > 3 && backward.inputs[3] == loss.inputs[2]));
  }

  // Both are made at the place of the first, for which the gradient that comes in must not depend on the loss. What it
  // does depend on is brought forward.
  bool fuse_loss(const Node& loss, NodeId id) {
    for (std::size_t j = at(id) + 1; j < graph_.nodes().size(); ++j) {
      const Node& backward = graph_.nodes()[j];
      if (!is_gradient_of(backward, loss)) continue;
      const std::set<NodeId> before = pending_ancestors(backward.inputs[2], id);
      if (before.contains(id)) return false;
      for (const NodeId ancestor : before) {
        copier_.copy(graph_.node(ancestor));
        done_[at(ancestor)] = true;
      }
      std::vector<ValueId> inputs;
      for (const ValueId v : backward.inputs) inputs.push_back(copier_(v));
      const std::vector<ValueId> out =
          result_.add(require_op("softmax_cross_entropy"), std::move(inputs), loss.attrs, loss.name);
      copier_.map(loss.outputs[0], out[0]);
      copier_.map(backward.outputs.back(), out[1]);
      if (backward.outputs.size() > 1) copier_.map(backward.outputs[0], out[0]);
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
  const Readers readers_;
  std::vector<bool> done_;
};

}  // namespace

Graph fuse(const Graph& graph) { return Fuser(graph).run(); }

}  // namespace trivet
