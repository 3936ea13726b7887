// The graphs of training, evaluation and prediction of a model. Parameters have the same names in all of them, so their
// plans share one layout of states.
#pragma once

#include <cstdint>
#include <string>

#include "trivet/graph/graph.h"
#include "trivet/models/build.h"
#include "trivet/models/config.h"
#include "trivet/train/config.h"

namespace trivet {

// What a model is trained for; it decides loss and metrics.
enum class Goal {
  label,           // classes: cross entropy
  number,          // numbers, standardised as DataTarget says: train.loss
  reconstruction,  // its own first input: train.loss
};
const char* goal_name(Goal goal);

struct ModelTask {
  ModelConfig model;
  ModelInput input;
  DataTarget target;  // of the kind none for a reconstruction
  std::uint64_t seed = 0;
  bool weighted = false;  // samples count differently in the gradient: classes have weights

  Goal goal() const;
};

// The task of telling model.classes classes by one input x.
ModelTask label_task(ModelConfig model, Shape sample_shape, std::uint64_t seed);

// Inputs of the training graphs:
//   the task's input fields, each with (B, ...) by its name, and y: i32(B) labels or f32(B,k) numbers (none for a
//   reconstruction),
//   inv_count f32[] = 1 / samples of the whole optimizer step; for a weighted task instead weight f32(B) = the sample's
//   weight / sum of the weights of the whole optimizer step,
//   lr f32[],
//   step i64[] = the optimizer step, counted from 1 (where dropout or an optimizer needs it),
//   sample i64(B) = indices in the data set (where dropout needs them),
//   share f32[] = this pass's samples / samples of the whole optimizer step (several ranks or shards, where running
//   statistics are averaged).
// Outputs: loss f32[] = sum over the samples, without weights; for labels correct f32[] and top_k f32[] (if k > 1);
// grad_norm f32[] (if clipped).
// With train.average each state of the class parameters has an optimizer state "average/<name>".

// One optimizer step over `samples` samples: forward, backward, update.
Graph step_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples);

// Forward and backward over `samples` of an optimizer step's samples; gradients are added to the states "grad/<name>".
Graph accumulate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples);

// A shard of an optimizer step, as a leaf of the tree in which gradients are added. Sums that wait for their neighbours
// are a stack of states, "grad/<name>" at the bottom. The pass of leaf i = 0, 1, ... finds as many as i has bits set,
// adds `merges` of them to its own gradients, the uppermost first, and leaves the result on the stack.
struct ShardPlace {
  int depth = 0;
  int merges = 0;
  static ShardPlace of(std::int64_t leaf);
  auto operator<=>(const ShardPlace&) const = default;
};
Graph shard_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples, ShardPlace place);

// The update from the accumulated gradients, which it sets back to zero. For several ranks it adds theirs first.
Graph apply_graph(const ModelTask& task, const TrainConfig& config);

// Inputs: fields and y. Outputs loss, correct, top_k as above, and prediction: f32(B, classes) probabilities, f32(B, k)
// numbers, still standardised, or the reconstruction in the shape of the first input.
Graph evaluate_graph(const ModelTask& task, const TrainConfig& config, std::int64_t samples);

// Inputs: fields. Output prediction as above.
Graph predict_graph(const ModelTask& task, std::int64_t samples);

// Elements of a prediction for one sample.
std::int64_t prediction_elements(const ModelTask& task);

}  // namespace trivet
