// Training a model from a job's settings: plans, sessions, epochs, checkpoints, metrics.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "trivet/base/progress.h"
#include "trivet/data/image_data.h"
#include "trivet/data/loader.h"
#include "trivet/data/split.h"
#include "trivet/train/checkpoint.h"
#include "trivet/train/plans.h"
#include "trivet/train/run_log.h"

namespace trivet {

struct TrainJob {
  DataConfig data;
  ModelConfig model;
  TrainConfig train;
  std::uint64_t seed = 1;
};

// The data of a training job, read and split, and what the plans need to know of it.
struct TrainData {
  ImageData train;
  std::optional<ImageData> test;
  Split split;
  Normalization normalization;

  // Error(data) if there is nothing to train on, labels are missing, the test images have another shape, or a label is
  // not below `classes`.
  static TrainData load(const TrainJob& job);

  SampleCounts counts() const;
  std::size_t bytes() const;  // resident
  std::string digest() const;
};

struct TrainPlan {
  ModelTask task;
  TrainPlans plans;
  MemoryReport memory;
};

// Everything that can be known before training starts. Error(memory) if the total is more than the device has.
TrainPlan plan_job(const TrainJob& job, const TrainData& data, const Device& device);

// Means over the samples.
struct Metrics {
  double loss = 0;
  double accuracy = 0;
  double top_k = 0;
  std::int64_t samples = 0;
};
Metrics mean(const MetricSums& sums);

struct TrainResult {
  bool interrupted = false;
  std::int64_t steps = 0;
  double seconds = 0;                 // of training, evaluations included, over all attempts
  Metrics train;                      // of the last epoch
  std::optional<Metrics> validation;  // of the best checkpoint, or the last
  std::optional<Metrics> test;        // likewise
  std::int64_t checkpoint = 0;        // the step that these belong to
};

class Trainer {
 public:
  // `directory`: the run's. Checkpoints go to its folder checkpoints/, metrics to metrics.jsonl.
  Trainer(TrainJob job, std::shared_ptr<const Device> device, std::filesystem::path directory, RunLog& log);
  ~Trainer();

  const TrainPlan& plan() const;
  const TrainData& data() const;

  // Trains to the end, or until `stop` becomes true: then a checkpoint is written after the step under way. With
  // `resume`, goes on from the newest whole checkpoint, or from the start if there is none.
  // Error(diverged) names the step at which the loss was not finite; checkpoints written before stay.
  TrainResult run(const std::atomic<bool>& stop, bool resume);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trivet
