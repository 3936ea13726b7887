#include "runtime/passes/readers.h"
#include "trivet/passes/passes.h"

namespace trivet {
namespace {

constexpr std::size_t kResidual = 5;  // the input of batch norms

class NormFuser {
 public:
  explicit NormFuser(const Graph& graph) : graph_(graph), readers_(graph) {
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
      if (graph.nodes()[i].op->name == "relu") plan(static_cast<NodeId>(i));
    }
  }

  Graph run() {
    Graph result(graph_.name());
    GraphCopier copier(graph_, result);
    for (std::size_t i = 0; i < graph_.nodes().size(); ++i) {
      const auto id = static_cast<NodeId>(i);
      const auto found = fusions_.find(id);
      if (found != fusions_.end()) {
        make(graph_.node(id), found->second, copier, result);
      } else if (!replaced_.contains(id)) {
        copier.copy(graph_.node(id));
      }
    }
    copier.finish();
    return result;
  }

 private:
  struct Fusion {
    NodeId norm = -1;
    ValueId residual = kNoValue;
  };

  // The batch norm without an activation whose y is `v`, if only one node reads that; else -1.
  NodeId norm_of(ValueId v) const {
    const Value& value = graph_.value(v);
    if (value.producer < 0 || value.output != 0 || readers_.sole(v) < 0) return -1;
    const Node& node = graph_.node(value.producer);
    const bool norm = node.op->name == "batch_norm" || node.op->name == "batch_norm_train";
    return norm && takes_activation(node) ? value.producer : -1;
  }

  // The same, if it has no residual and `other` can be it.
  NodeId norm_to_add(ValueId v, ValueId other) const {
    const NodeId norm = norm_of(v);
    if (norm < 0 || graph_.type(v) != graph_.type(other)) return -1;
    const std::vector<ValueId>& inputs = graph_.node(norm).inputs;
    return inputs.size() <= kResidual || inputs[kResidual] == kNoValue ? norm : -1;
  }

  void plan(NodeId relu) {
    const ValueId v = graph_.node(relu).inputs[0];
    Fusion fusion{norm_of(v), kNoValue};
    NodeId add = -1;
    if (fusion.norm < 0) {
      if (graph_.value(v).producer < 0 || readers_.sole(v) < 0) return;
      add = graph_.value(v).producer;
      if (graph_.node(add).op->name != "add") return;
      fusion = added(graph_.node(add));
      if (fusion.norm < 0) return;
    }
    // The node moves to the place of the relu, where the residual is there too.
    const Node& norm = graph_.node(fusion.norm);
    for (std::size_t i = 1; i < norm.outputs.size(); ++i) {
      const std::vector<NodeId>& nodes = readers_.nodes(norm.outputs[i]);
      if (!nodes.empty() && nodes.front() < relu) return;
    }
    replaced_.insert(fusion.norm);
    if (add >= 0) replaced_.insert(add);
    fusions_[relu] = fusion;
  }

  // Of two norms, the later one takes up the other.
  Fusion added(const Node& add) const {
    const ValueId a = add.inputs[0], b = add.inputs[1];
    const NodeId first = norm_to_add(a, b), second = norm_to_add(b, a);
    return first > second ? Fusion{first, b} : Fusion{second, a};
  }

  void make(const Node& relu, const Fusion& fusion, GraphCopier& copier, Graph& result) const {
    const Node& norm = graph_.node(fusion.norm);
    std::vector<ValueId> inputs;
    for (const ValueId v : norm.inputs) inputs.push_back(copier(v));
    if (fusion.residual != kNoValue) {
      inputs.resize(kResidual, kNoValue);
      inputs.push_back(copier(fusion.residual));
    }
    const Attrs attrs = with_attribute(norm.attrs, "activation", std::string("relu"));
    const std::vector<ValueId> out = result.add(*norm.op, std::move(inputs), attrs, norm.name);
    copier.map(relu.outputs[0], out[0]);
    for (std::size_t i = 1; i < out.size(); ++i) copier.map(norm.outputs[i], out[i]);
  }

  const Graph& graph_;
  const Readers readers_;
  std::map<NodeId, Fusion> fusions_;  // by the relu that ends it
  std::set<NodeId> replaced_;         // the norms and additions in them
};

}  // namespace

Graph fuse_norm(const Graph& graph) { return NormFuser(graph).run(); }

}  // namespace trivet
