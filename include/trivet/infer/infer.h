// Batch inference: a data set through a trained model into a file of predictions.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>

#include "trivet/data/dataset.h"
#include "trivet/infer/config.h"
#include "trivet/train/plans.h"
#include "trivet/train/run_log.h"
#include "trivet/train/trainer.h"

namespace trivet {

// A checkpoint chosen by an InferConfig.
struct ChosenCheckpoint {
  std::filesystem::path path;
  TrainState state;
};

// `config.run` is a run's directory, a checkpoint's or that of an exported model. Error(checkpoint) if there is none,
// or if the one asked for is damaged (another model is never used silently).
ChosenCheckpoint choose_checkpoint(const InferConfig& config);

struct InferPlan {
  StateLayout states{64};
  TilePlans predict;
  PlanPtr ranges;  // with config.precision: int8
  MemoryReport memory;
  std::vector<PlanPtr> all() const;
};

// The samples whose ranges inference in 8 bits takes for those of all: up to 512, drawn by the training's seed.
struct CalibrationData {
  std::unique_ptr<DataSource> source;  // null if they are those of the inference
  std::unique_ptr<Dataset> owned;
  const Dataset* samples = nullptr;
  std::vector<std::int64_t> order;
  std::string name;  // for people

  // From the training split. Error(data) if it is not what the model was trained on; Error(io) if it cannot be read.
  static CalibrationData of_training(const TrainJob& job, const TrainState& model);
  static CalibrationData of_samples(const Dataset& samples, const TrainState& model);
  std::size_t bytes() const;  // resident
};

// The data of an inference, prepared as those that the model was trained on.
struct InferData {
  std::unique_ptr<DataSource> source;
  std::unique_ptr<Dataset> samples;            // with the target if the data have it
  std::optional<CalibrationData> calibration;  // with config.precision: int8
  std::string calibration_problem;             // why it is not of the training data

  // Error(data) if there are no samples, or they have not the model's form. `trained`: the job that the model comes
  // from, for its data; the data at hand take their place if there is none or it cannot be used.
  static InferData load(const InferConfig& config, const TrainState& model, const TrainJob* trained = nullptr);
  static InferData of(const InferConfig& config, const TrainState& model, std::unique_ptr<DataSource> source);
};

// Error(memory) if the total is more than the device has.
InferPlan plan_inference(const InferConfig& config, const TrainState& model, const InferData& data,
                         const Device& device);

struct InferResult {
  bool interrupted = false;  // then no output file was written
  Goal goal = Goal::label;
  std::int64_t samples = 0;
  double seconds = 0;              // from the first batch to the finished file
  std::optional<Metrics> metrics;  // where targets are given, all but the loss; always for a reconstruction
};

// Writes config.output, whole or not at all: for labels probabilities (PredictionWriter), for numbers their values, for
// a reconstruction its mean squared error in the unit of the model's input.
// `trained` as for InferData::load.
InferResult run_inference(const InferConfig& config, std::shared_ptr<const Device> device,
                          const std::atomic<bool>& stop, RunLog& log, const TrainJob* trained = nullptr);

}  // namespace trivet
