// Models by name, from a job file's ModelConfig.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trivet/data/dataset.h"
#include "trivet/graph/graph.h"
#include "trivet/models/config.h"

namespace trivet {

// What a model is fed with and what it gives.
struct ModelInput {
  std::vector<Field> fields;  // of one sample: f32 numbers, i32 categories
  // For each field as Dataset::category_sizes(): empty for numbers.
  std::vector<std::vector<std::int64_t>> category_sizes;
  std::int64_t outputs = 0;  // for each sample: its classes, or the numbers to predict
};

// Whether the model's output is its own input again, in the input's shape, instead of a prediction about it.
bool reconstructs(const ModelConfig& config);

// The layers of a model, in order. For `mlp`, `cnn` and `autoencoder` (whose outputs are its input's elements) this is
// what their settings stand for; build_model counts the layers of this list in its errors, from 1.
std::vector<LayerConfig> model_layers(const ModelConfig& config, std::int64_t outputs);

// Adds the model to the graph: from the values of input.fields, each (B, shape of the field), to logits or numbers
// (B, outputs), or to a reconstruction of the first one. Names and order of the parameters are
// the same for training and inference: "conv1.weight", "conv1.bias", "dense1.weight", ... A training graph with dropout
// has the inputs "step" (i64[]) and "sample" (i64[B]) as well; `seed` keys dropout. Error(graph) names the layer:
// "layer 3 (conv): needs an image (N,H,W,C), got f32[128,10]".
ValueId build_model(Graph& graph, const ModelConfig& config, const ModelInput& input, std::span<const ValueId> values,
                    bool training, std::uint64_t seed);

// The same for one input x, (B, H, W, C) or (B, F), and config.classes outputs.
ValueId build_model(Graph& graph, const ModelConfig& config, ValueId x, bool training, std::uint64_t seed);

}  // namespace trivet
