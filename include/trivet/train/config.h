// What a job file says about training. Plain values; the job file's checker has verified ranges.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trivet {

struct OptimizerConfig {
  std::string name = "adamw";  // sgd, adamw
  double lr = 1e-3;            // peak learning rate; the schedule multiplies it
  double momentum = 0.9;       // sgd
  double beta1 = 0.9;          // adamw
  double beta2 = 0.999;        // adamw
  double epsilon = 1e-8;       // adamw
  double weight_decay = 0.0;   // adamw: decoupled; sgd: added to the gradient. Not applied to biases and norms
};

struct ScheduleConfig {
  std::string name = "constant";              // constant, step, cosine
  std::int64_t warmup_steps = 0;              // linear from 0; counts optimizer steps
  double floor = 0.0;                         // cosine: the last multiplier
  std::vector<std::int64_t> milestones = {};  // step: epochs after which the rate is multiplied by gamma
  double gamma = 0.1;                         // step
};

struct CheckpointConfig {
  std::int64_t every_steps = 0;  // 0: only at epoch ends
  std::int64_t every_epochs = 1;
  std::int64_t keep_last = 2;
  bool keep_best = true;                 // by `best_metric`
  std::string best_metric = "accuracy";  // accuracy (highest) or loss (lowest), on the validation split
};

struct TrainConfig {
  std::int64_t epochs = 10;
  std::int64_t batch = 128;      // samples of one optimizer step
  std::int64_t micro_batch = 0;  // samples of one pass; 0: batch. Smaller: gradients are accumulated
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  double clip_norm = 0.0;  // largest global gradient norm; 0: no clipping
  std::int64_t top_k = 5;  // also report top-k accuracy; 1: do not
  CheckpointConfig checkpoint;
};

}  // namespace trivet
