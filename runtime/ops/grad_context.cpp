#include "trivet/ops/grad_context.h"

#include <fmt/format.h>

#include "trivet/ops/registry.h"

namespace trivet {

GradContext::GradContext(Graph& graph, const Node& node, std::span<const ValueId> dout, std::vector<bool> needed)
    : graph_(graph),
      name_(node.name),
      inputs_(node.inputs),
      outputs_(node.outputs),
      attrs_(node.attrs),
      packed_(node.packed),
      dout_(dout.begin(), dout.end()),
      needed_(std::move(needed)),
      result_(node.inputs.size(), kNoValue) {
  // Copies, because adding nodes moves the graph's vectors.
  for (const ValueId v : inputs_) in_types_.push_back(v == kNoValue ? TensorType{} : graph.type(v));
  for (const ValueId v : outputs_) out_types_.push_back(graph.type(v));
}

ValueId GradContext::in(int i) const {
  return static_cast<std::size_t>(i) < inputs_.size() ? inputs_[static_cast<std::size_t>(i)] : kNoValue;
}
ValueId GradContext::out(int i) const { return outputs_[static_cast<std::size_t>(i)]; }
const TensorType& GradContext::in_type(int i) const { return in_types_[static_cast<std::size_t>(i)]; }
const TensorType& GradContext::out_type(int i) const { return out_types_[static_cast<std::size_t>(i)]; }
const Attrs& GradContext::attrs_list() const { return attrs_; }
const void* GradContext::raw_attrs() const { return packed_.data(); }

std::vector<ValueId> GradContext::apply_all(std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
  const std::string name = fmt::format("{}.grad_{}_{}", name_, op, graph_.nodes().size());
  return trivet::apply_all(graph_, op, std::move(inputs), attrs, name);
}

ValueId GradContext::apply(std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
  return apply_all(op, std::move(inputs), std::move(attrs)).front();
}

}  // namespace trivet
