// What a job file says about training. Plain values; the job file's checker has verified ranges.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace trivet {

struct OptimizerConfig {
  std::string name = "adamw";  // sgd, adamw, lion, adafactor, muon
  double lr = 1e-3;            // peak learning rate; the schedule multiplies it
  double momentum = 0.9;       // sgd, muon
  bool nesterov = false;       // sgd, muon
  double beta1 = 0.9;          // adamw, lion; muon: of the AdamW that it uses for vectors
  double beta2 = 0.999;        // likewise
  double epsilon = 1e-8;       // adamw; muon likewise
  double weight_decay = 0.0;   // sgd: added to the gradient; others: decoupled. Not applied to biases and norms
};

struct ScheduleConfig {
  std::string name = "constant";              // constant, step, cosine, linear, one_cycle
  std::int64_t warmup_steps = 0;              // all but one_cycle: linear from 0; counts optimizer steps
  double floor = 0.0;                         // cosine, linear, one_cycle: the last multiplier
  std::vector<std::int64_t> milestones = {};  // step: epochs after which the rate is multiplied by gamma
  double gamma = 0.1;                         // step
  double start = 0.04;                        // one_cycle: the first multiplier ...
  double rise = 0.3;                          // ... and the share of the steps in which it rises to 1
};

struct CheckpointConfig {
  std::int64_t every_steps = 0;  // 0: only at epoch ends
  std::int64_t every_epochs = 1;
  std::int64_t keep_last = 2;
  bool keep_best = true;  // by `best_metric`
  // On the validation split: accuracy, f1 (macro), auc, r2: the highest; loss, mae: the lowest. Empty: accuracy for
  // labels, else loss.
  std::string best_metric;
};

// Evaluation and checkpoints use an exponential moving average of the parameters instead of their last values.
struct AverageConfig {
  double decay = 0.999;         // average = decay * average + (1 - decay) * parameters, after each optimizer step
  std::int64_t start_step = 0;  // until then the average is the parameters themselves
};

// Stops when `checkpoint.best_metric` has not improved by more than `min_delta` in `patience` epochs.
struct EarlyStopConfig {
  std::int64_t patience = 5;
  double min_delta = 0.0;
};

struct TrainConfig {
  std::int64_t epochs = 10;
  std::int64_t batch = 128;      // samples of one optimizer step
  std::int64_t micro_batch = 0;  // samples of one pass; 0: batch. Smaller: gradients are accumulated
  // A power of two: each batch is cut into so many parts, whose gradients are added in a fixed tree, so that 1, 2, 4
  // ... ranks up to this number give the same bits. 0: as many parts as there are ranks.
  std::int64_t shards = 0;
  // What one rank keeps for all: 0: nothing, 1: the optimizer's states of some parameters, 2: their summed gradients as
  // well (Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020).
  std::int64_t zero = 0;
  // What the whole run may take, in bytes; 0: what the device has. Activations are recomputed until the plan fits.
  std::size_t memory = 0;
  std::string loss;  // mse, l1, huber, for numbers and reconstructions; empty: mse, cross entropy for labels
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  double clip_norm = 0.0;  // largest global gradient norm; 0: no clipping
  std::int64_t top_k = 0;  // labels: also report top-k accuracy; 1: do not; 0: 5, or all classes if they are less
  CheckpointConfig checkpoint;
  std::optional<AverageConfig> average;
  std::optional<EarlyStopConfig> early_stop;
  // Not of the section `train`: how many ranks work together, and which of them this process is.
  int ranks = 1;
  int rank = 0;
  // Not of any section: training passes find so many samples, all of the data set, in the device's memory and are given
  // their numbers; 0: they are given batches.
  std::int64_t resident = 0;
};

}  // namespace trivet
