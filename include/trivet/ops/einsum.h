// Einstein summation, written in other ops.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trivet/graph/graph.h"

namespace trivet {

// Adds the nodes that compute `equation` of the operands, as ONNX Einsum and NumPy's einsum define it, and returns the
// result. The parts of "bhid,bhjd->bhij" name the operands' dimensions and the result's with letters: dimensions of the
// same letter have the same size (or 1, which is repeated), and what the result does not name is summed over. A letter
// twice in one operand takes its diagonal. "..." stands for any further dimensions, aligned at the last one and
// broadcast. Without "->" the result has the dimensions of "..." and then the letters that occur once, in the order of
// the alphabet, capitals first.
//
// Operands are joined from left to right, by matmul where a letter is summed over. Every operand has the same dtype,
// one that mul, reduce_sum and matmul take. Nodes are named `name` (or "einsum") with a number.
//
// Throws Error(graph) that names the equation and the place in it, or the operand and its type.
ValueId einsum(Graph& graph, std::string_view equation, const std::vector<ValueId>& operands,
               const std::string& name = {});

}  // namespace trivet
