// What an op's gradient rule is given.
#pragma once

#include "trivet/graph/graph.h"

namespace trivet {

// A node as its gradient rule sees it. The rule adds nodes to the graph and gives, for each input that needs
// one, the gradient of the loss with respect to it (same type as the input).
class GradContext {
 public:
  GradContext(Graph& graph, const Node& node, std::span<const ValueId> dout, std::vector<bool> needed);

  Graph& graph() { return graph_; }
  ValueId in(int i) const;
  ValueId out(int i = 0) const;
  const TensorType& in_type(int i) const;
  const TensorType& out_type(int i = 0) const;
  bool has(int i) const { return in(i) != kNoValue; }
  // Gradient of output i; kNoValue where none flows.
  ValueId dout(int i = 0) const { return dout_[static_cast<std::size_t>(i)]; }
  bool needs(int i) const { return needed_[static_cast<std::size_t>(i)]; }
  void set(int i, ValueId gradient) { result_[static_cast<std::size_t>(i)] = gradient; }
  const std::vector<ValueId>& result() const { return result_; }

  // Adds a node with one output; it is named after this node: "conv1.grad_matmul".
  ValueId apply(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {});
  std::vector<ValueId> apply_all(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {});
  const Attrs& attrs_list() const;  // to hand on to a _backward op with the same schema
  template <class A>
  const A& attrs() const {
    return *static_cast<const A*>(raw_attrs());
  }

 private:
  const void* raw_attrs() const;

  Graph& graph_;
  std::string name_;
  std::vector<ValueId> inputs_;
  std::vector<ValueId> outputs_;
  std::vector<TensorType> in_types_;
  std::vector<TensorType> out_types_;
  Attrs attrs_;
  std::vector<std::byte> packed_;
  std::vector<ValueId> dout_;
  std::vector<bool> needed_;
  std::vector<ValueId> result_;
};

}  // namespace trivet
