// Inference in integers of 8 bits. Weights become i8 with a scale for each output channel, from the channel's largest
// magnitude; what products read becomes u8 with one scale and zero point, from the range that it was seen to have
// (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018).
#pragma once

#include "trivet/graph/graph.h"

namespace trivet {

// batch_norm without a residual that alone reads a product (linear or conv2d): its scale goes into the weights and its
// shift into the bias, which are then computed from parameters alone.
Graph fold_batch_norm(const Graph& graph);

// linear and conv2d of f32 graphs, after fusing, become linear_int8 and conv2d_int8 where that pays. Where all that
// reads a product's result, perhaps behind relu, reshape or max_pool, is such a product again, the result is u8 as
// well. For each value v that is read in 8 bits the graph has the states "scale/v" (f32[]) and, unless v cannot be
// negative, "zero_point/v" (u8[]), to be set as quantization_of() says. What depends on parameters alone, the weights
// in 8 bits among it, are nodes of their own. The graph's own inputs, outputs and states stay.
Graph quantize(const Graph& graph);

// The same graph with the outputs "lowest/v" and "highest/v" (f32[]) for each of these values.
Graph with_ranges(const Graph& graph);

struct Quantization {
  float scale = 1;
  std::uint8_t zero_point = 0;
};

// For values from `lowest` to `highest`, which is widened to hold 0: padding and ReLU need it exact. Error(diverged) if
// the range is not finite.
Quantization quantization_of(float lowest, float highest);

}  // namespace trivet
