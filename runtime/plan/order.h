// The order in which a plan runs its nodes.
#pragma once

#include <vector>

#include "trivet/graph/graph.h"

namespace trivet {

// Graph order, but a state's update runs as soon as its inputs are there and nobody needs the old value any more, so
// that gradients are freed early. Every other reader of the old value comes before the update. Error(graph) if that is
// impossible: a reader of the old value needs the new one.
std::vector<NodeId> execution_order(const Graph& graph);

// For every value the value whose memory it is: itself, or through alias ops (reshape) their first input.
std::vector<ValueId> alias_roots(const Graph& graph);

}  // namespace trivet
