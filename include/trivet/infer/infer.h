// Batch inference: a data set through a trained model into a file of predictions.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>

#include "trivet/data/image_data.h"
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

// `config.run` is a run's directory or a checkpoint's. Error(checkpoint) if there is none, or if the one asked for is
// damaged (another model is never used silently).
ChosenCheckpoint choose_checkpoint(const InferConfig& config);

struct InferPlan {
  StateLayout states{64};
  std::map<std::int64_t, PlanPtr> predict;  // by number of samples
  MemoryReport memory;
  std::vector<PlanPtr> all() const;
};

// Error(data) if the images do not have the model's shape; Error(memory) if the total is more than the device has.
InferPlan plan_inference(const InferConfig& config, const TrainState& model, const ImageData& data,
                         const Device& device);

struct InferResult {
  bool interrupted = false;  // then no output file was written
  std::int64_t samples = 0;
  double seconds = 0;              // from the first batch to the finished file
  std::optional<double> accuracy;  // where labels are given
};

// Writes config.output, whole or not at all.
InferResult run_inference(const InferConfig& config, std::shared_ptr<const Device> device,
                          const std::atomic<bool>& stop, RunLog& log);

}  // namespace trivet
