// Training a model from a job's settings: plans, sessions, epochs, checkpoints, metrics.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "trivet/base/progress.h"
#include "trivet/comm/communicator.h"
#include "trivet/data/dataset.h"
#include "trivet/data/loader.h"
#include "trivet/data/split.h"
#include "trivet/train/checkpoint.h"
#include "trivet/train/metrics.h"
#include "trivet/train/plans.h"
#include "trivet/train/run_log.h"

namespace trivet {

struct TrainJob {
  DataConfig data;
  ModelConfig model;
  TrainConfig train;
  std::uint64_t seed = 1;
};

// The data of a training job, split and prepared, and what the plans need to know of it.
struct TrainData {
  std::unique_ptr<DataSource> train_source;
  std::unique_ptr<DataSource> test_source;  // null without test data
  Split split;
  Preparation preparation;  // learnt from split.train alone
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> test;
  std::vector<std::int32_t> labels;  // of split.train; empty unless the target is a label

  // Error(data) if there is nothing to train on, the target is missing, all training samples are of one class, the test
  // data have another form, or there are more classes than the model is to have.
  static TrainData load(const TrainJob& job);
  static TrainData of(const TrainJob& job, std::unique_ptr<DataSource> train, std::unique_ptr<DataSource> test);

  SampleCounts counts() const;
  std::size_t bytes() const;  // resident
  std::string digest() const;
};

// The samples that an epoch visits, in order, as data.sampler says. A pure function of its arguments.
std::vector<std::int64_t> epoch_order(const TrainData& data, const DataConfig& config, std::uint64_t seed,
                                      std::int64_t epoch);

// The weight of each class in the gradient: for `balanced`, samples / (classes that occur * samples of the class), so
// that each class weighs the same; 1 for classes that do not occur. Empty for `none`.
std::vector<double> class_weights(const TrainData& data, const DataConfig& config);

struct TrainPlan {
  ModelTask task;
  TrainConfig train;  // with what depends on the data filled in: loss, top_k, best_metric
  TrainPlans plans;
  MemoryReport memory;
};

// Everything that can be known before training starts. Error(memory) if the total is more than the device has;
// Error(job) if a setting does not go with the target.
TrainPlan plan_job(const TrainJob& job, const TrainData& data, const Device& device);

struct TrainResult {
  bool interrupted = false;
  bool stopped_early = false;
  std::int64_t steps = 0;
  double seconds = 0;                 // of training, evaluations included, over all attempts
  Metrics train;                      // of the last epoch
  std::optional<Metrics> validation;  // of the best checkpoint, or the last
  std::optional<Metrics> test;        // likewise
  std::int64_t checkpoint = 0;        // the step that these belong to
};

class Trainer {
 public:
  // `directory`: the run's. Checkpoints go to its folder checkpoints/, metrics to metrics.jsonl, at the end the result
  // to result.json and what the best model makes of the test data, or else of the validation split, to evaluation.json.
  // `others`: with whom this process trains, as one rank of several that all run the same job; null: alone. Rank 0
  // alone writes to `directory`, and its result has all figures.
  Trainer(TrainJob job, std::shared_ptr<const Device> device, std::filesystem::path directory, RunLog& log,
          std::shared_ptr<Communicator> others = nullptr);
  // The same with data that were read before.
  Trainer(TrainJob job, TrainData data, std::shared_ptr<const Device> device, std::filesystem::path directory,
          RunLog& log, std::shared_ptr<Communicator> others = nullptr);
  ~Trainer();

  const TrainPlan& plan() const;
  const TrainData& data() const;

  // Trains to the end, or until `stop` becomes true: then a checkpoint is written after the step under way. With
  // `resume`, goes on from the newest whole checkpoint, or from the start if there is none; rank 0's word counts.
  // Error(diverged) names the step at which the loss was not finite, Error(data) the sample that cannot be used;
  // checkpoints written before stay.
  TrainResult run(const std::atomic<bool>& stop, bool resume);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trivet
