// Reverse-mode differentiation as a pass: adds the nodes of the backward graph. Nodes are visited in reverse order and
// contributions to a value are added in that order, so the result is the same every time.
#pragma once

#include <span>
#include <vector>

#include "trivet/graph/graph.h"

namespace trivet {

// Gradients of sum(y * seed) with respect to each of `wrt`. `seed` has y's type; kNoValue means ones.
// A wrt value that y does not depend on gets kNoValue. Error(graph) names the node if an op on the way has no gradient.
std::vector<ValueId> gradients(Graph& graph, ValueId y, ValueId seed, std::span<const ValueId> wrt);

}  // namespace trivet
