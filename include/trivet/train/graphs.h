// The graphs of training, evaluation and prediction of a model. Parameters have the same names in all of them, so their
// plans share one layout of states.
#pragma once

#include <cstdint>

#include "trivet/graph/graph.h"
#include "trivet/models/config.h"
#include "trivet/train/config.h"

namespace trivet {

struct ModelTask {
  ModelConfig model;
  Shape sample_shape;  // (H, W, C)
  std::uint64_t seed = 0;
};

// Inputs of the training graphs:
//   x f32(B,H,W,C), y i32(B), inv_count f32[] = 1 / samples of the whole optimizer step, lr f32[],
//   step i64[] = the optimizer step, counted from 1 (where dropout or AdamW needs it),
//   sample i64(B) = indices in the data set (where dropout needs them).
// Outputs: loss f32[] = sum over the samples, correct f32[], top_k f32[] (if k > 1), grad_norm f32[] (if clipped).

// One optimizer step over `samples` samples: forward, backward, update.
Graph step_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples);

// Forward and backward over `samples` of an optimizer step's samples; gradients are added to the states "grad/<name>".
Graph accumulate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples);

// The update from the accumulated gradients, which it sets back to zero.
Graph apply_graph(const ModelTask& task, const TrainConfig& config);

// Inputs x, y. Outputs loss, correct, top_k as above.
Graph evaluate_graph(const ModelTask& task, std::int64_t top_k, std::int64_t samples);

// Input x. Output probabilities f32(B, classes).
Graph predict_graph(const ModelTask& task, std::int64_t samples);

}  // namespace trivet
