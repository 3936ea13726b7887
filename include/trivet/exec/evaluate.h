// Runs a graph node by node without a plan: each value gets memory of its own. For tests, constant folding and
// debugging; a session is what trains and serves.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trivet/graph/graph.h"
#include "trivet/kernels/cpu.h"

namespace trivet {

// Values of all outputs, in order. `bindings` gives inputs and states by name; states without one start as their Init
// says with seed 0. Throws Error(graph) where a kernel is missing.
std::vector<Tensor> evaluate(const Graph& graph, const std::map<std::string, Tensor>& bindings, kernels::cpu::Isa isa,
                             int threads = 1);

}  // namespace trivet
