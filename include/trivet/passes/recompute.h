// Memory for time: activations that the backward part reads are not kept but made again just before (Chen et al.,
// "Training Deep Nets with Sublinear Memory Cost", 2016). Made by the same kernels from the same numbers, random ones
// included, so the bits stay. To be applied last, because merging common nodes would undo it.
#pragma once

#include <set>
#include <vector>

#include "trivet/graph/graph.h"

namespace trivet {

// The computed values that do not depend on `seed`, the gradient of the loss, but are read by nodes that do. In the
// order of the graph.
std::vector<ValueId> kept_activations(const Graph& graph, ValueId seed);

// The graph with each of `dropped` (some of kept_activations()) made again before its first reader of the backward
// part. What it is made from and is dropped as well is made again too, so a run of neighbours costs one more forward
// pass over them, not one for each.
Graph recompute(const Graph& graph, ValueId seed, const std::set<ValueId>& dropped);

}  // namespace trivet
