// All ops, by name.
#pragma once

#include <string_view>
#include <vector>

#include "trivet/graph/graph.h"
#include "trivet/ops/grad_context.h"

namespace trivet {

const std::vector<OpDef>& all_ops();             // ordered by name
const OpDef* find_op(std::string_view name);     // null if there is none
const OpDef& require_op(std::string_view name);  // Error(graph) with the nearest name

// Adds a node with one output / with several.
ValueId apply(Graph& graph, std::string_view op, std::vector<ValueId> inputs, const Attrs& attrs = {},
              const std::string& name = {});
std::vector<ValueId> apply_all(Graph& graph, std::string_view op, std::vector<ValueId> inputs, const Attrs& attrs = {},
                               const std::string& name = {});

// Shape rules used by many ops.
Shape broadcast_shapes(const OpContext& context, const Shape& a, const Shape& b);
// Gradient of a broadcast: sums `gradient` back to the shape of `target`'s type. Returns `gradient` if equal.
ValueId sum_to(GradContext& context, ValueId gradient, const TensorType& target);

}  // namespace trivet
