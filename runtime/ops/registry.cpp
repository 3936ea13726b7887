#include "trivet/ops/registry.h"

#include <fmt/format.h>

#include "runtime/ops/families.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {

const std::vector<OpDef>& all_ops() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> all;
    for (auto family : {elementwise_ops,  reduction_ops,     shape_ops,
                        padding_ops,      matrix_ops,        convolution_ops,
                        pooling_ops,      normalization_ops, row_normalization_ops,
                        softmax_ops,      loss_ops,          pointwise_loss_ops,
                        random_ops,       optimizer_ops,     unary_ops,
                        activation_ops,   indexing_ops,      sorting_ops,
                        resize_ops,       recurrent_ops,     attention_ops,
                        quantization_ops, ranks_ops}) {
      for (OpDef& op : family()) all.push_back(std::move(op));
    }
    std::sort(all.begin(), all.end(), [](const OpDef& a, const OpDef& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < all.size(); ++i) {
      if (all[i].name == all[i - 1].name)
        throw Error(ErrorCode::internal, fmt::format("op '{}' is declared twice", all[i].name));
    }
    return all;
  }();
  return ops;
}

const OpDef* find_op(std::string_view name) {
  const std::vector<OpDef>& ops = all_ops();
  const auto it =
      std::lower_bound(ops.begin(), ops.end(), name, [](const OpDef& op, std::string_view n) { return op.name < n; });
  return it != ops.end() && it->name == name ? &*it : nullptr;
}

const OpDef& require_op(std::string_view name) {
  if (const OpDef* op = find_op(name)) return *op;
  std::vector<std::string> names;
  for (const OpDef& op : all_ops()) names.push_back(op.name);
  const std::string near = nearest(name, names);
  throw Error(ErrorCode::graph, fmt::format("there is no op '{}'", name),
              near.empty() ? std::string() : fmt::format("did you mean '{}'?", near));
}

std::vector<ValueId> apply_all(Graph& graph, std::string_view op, std::vector<ValueId> inputs, const Attrs& attrs,
                               const std::string& name) {
  return graph.add(require_op(op), std::move(inputs), attrs, name);
}

ValueId apply(Graph& graph, std::string_view op, std::vector<ValueId> inputs, const Attrs& attrs,
              const std::string& name) {
  return apply_all(graph, op, std::move(inputs), attrs, name).front();
}

Shape broadcast_shapes(const OpContext& context, const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t da = i < rank - a.size() ? 1 : a[i - (rank - a.size())];
    const std::int64_t db = i < rank - b.size() ? 1 : b[i - (rank - b.size())];
    if (da != db && da != 1 && db != 1) {
      context.fail(fmt::format("shapes {} and {} do not broadcast", to_string(a), to_string(b)),
                   "aligned at the last dimension, sizes must be equal or 1");
    }
    out[i] = da == 1 ? db : da;
  }
  return out;
}

ValueId sum_to(GradContext& context, ValueId gradient, const TensorType& target) {
  const TensorType type = context.graph().type(gradient);
  if (type == target) return gradient;
  const int extra = type.rank() - target.rank();
  std::vector<std::int64_t> axes;
  for (int i = 0; i < type.rank(); ++i) {
    if (i < extra || (target.dim(i - extra) == 1 && type.dim(i) != 1)) axes.push_back(i);
  }
  if (!axes.empty()) gradient = context.apply("reduce_sum", {gradient}, {{"axes", axes}, {"keepdims", true}});
  if (context.graph().type(gradient).shape != target.shape) {
    gradient = context.apply("reshape", {gradient}, {{"shape", target.shape}});
  }
  return gradient;
}

}  // namespace trivet
