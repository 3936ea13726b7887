// Rewrites graph -> graph. Each keeps the meaning: names and types of inputs, states and outputs stay.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "trivet/graph/graph.h"

namespace trivet {

// Computes a graph without inputs and states; passes stand below the devices, so the caller brings one.
using Evaluate = std::function<std::vector<Tensor>(const Graph&)>;

// Nodes whose inputs are all constants become constants, if the result has at most kLargestFold bytes.
Graph fold_constants(const Graph& graph, const Evaluate& evaluate);
inline constexpr std::size_t kLargestFold = 1 << 20;

// Nodes with the same op, inputs and attributes become one. (Random ops carry their own number as an attribute.)
Graph merge_common(const Graph& graph);

// Nodes that no output and no update needs are dropped; inputs and states stay, since callers bind them by name.
Graph drop_dead(const Graph& graph);

// linear or a convolution, then a bias of its own, then relu: one node; a transposed convolution and its bias too.
// cross_entropy with its backward: one softmax_cross_entropy, which may write the gradient over the logits.
Graph fuse(const Graph& graph);

// relu(batch_norm(x)) and relu(batch_norm(x) + r), for inference or training, become one node, unless the values
// between are needed elsewhere. To be applied before gradients are taken, so that these become one node as well.
Graph fuse_norm(const Graph& graph);

// max_pool(relu(x)) becomes relu(max_pool(x)), the same values with fewer elements to visit. To be applied before
// gradients are taken, so that the backward pass gains as well.
Graph pool_before_relu(const Graph& graph);

// The forward part of a model in bf16: every op that bf16_inputs() knows computes in it; f32 inputs, weights and the
// graph's outputs are cast. Parameters of rank 2 or more are kept in `weights`, f32 or bf16, all other states in their
// own types. Gradients, to be taken afterwards, have the types of their parameters.
Graph to_bf16(const Graph& graph, DType weights = DType::f32);

// The same in f16, with f32 parameters. The loss's gradient is to be scaled before it goes backward, because f16 holds
// nothing below 6e-8.
Graph to_f16(const Graph& graph);

// Whether a device computes a node as it stands.
using ComputesNode = std::function<bool(const Graph&, const Node&)>;

// Nodes that read or give f16 and that the device does not compute become f32 ones, between casts: the same values, as
// sums are in f32 and results are rounded once. A graph without f16 stays as it is.
Graph widen_f16(const Graph& graph, const ComputesNode& computes);

// The named inputs, whose first dimension is a batch, become rows of states `data/<name>` of `samples` rows each,
// chosen by the input `sample` i64 (batch).
Graph gather_inputs(const Graph& graph, std::span<const std::string> names, std::int64_t samples);
// The state of an input.
std::string data_state_name(const std::string& input);

// Folding, merging, fusing of both kinds and dropping, in the order that lets each feed the next.
Graph optimize(const Graph& graph, const Evaluate& evaluate);

}  // namespace trivet
