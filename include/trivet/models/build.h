// Models by name, from a job file's ModelConfig.
#pragma once

#include <cstdint>

#include "trivet/graph/graph.h"
#include "trivet/models/config.h"

namespace trivet {

// What one sample looks like.
struct ModelInput {
  Shape sample_shape;  // (H, W, C)

  TensorType batch(std::int64_t samples) const;  // f32[samples,H,W,C]
};

// The layers of a model, in order. For `mlp` and `cnn` this is what their settings stand for; build_model counts the
// layers of this list in its errors, from 1.
std::vector<LayerConfig> model_layers(const ModelConfig& config);

// Adds the model to the graph: x (B, H, W, C) or (B, F) to logits (B, classes). Names and order of the parameters are
// the same for training and inference: "conv1.weight", "conv1.bias", "dense1.weight", ... A training graph with dropout
// has the inputs "step" (i64[]) and "sample" (i64[B]) as well; `seed` keys dropout. Error(graph) names the layer:
// "layer 3 (conv): needs an image (N,H,W,C), got f32[128,10]".
ValueId build_model(Graph& graph, const ModelConfig& config, ValueId x, bool training, std::uint64_t seed);

}  // namespace trivet
