// Fitting a training plan into memory by recomputation.
#pragma once

#include <cstddef>

#include "trivet/exec/device.h"
#include "trivet/graph/graph.h"
#include "trivet/plan/plan.h"

namespace trivet {

struct FittedGraph {
  Graph graph;
  std::size_t transient_bytes = 0;  // of its plan
  int dropped = 0;                  // activations that are made again
};

// `graph` has been through the passes; `states` holds its states. Recomputes as little as brings the plan's transient
// memory down to `budget`, or, if nothing does, what comes nearest.
FittedGraph fit_memory(const Graph& graph, const StateLayout& states, const Device& device, std::size_t budget);

}  // namespace trivet
