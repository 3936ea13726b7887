// Checkpoints: a folder with model.safetensors (parameters and running statistics), optimizer.safetensors and
// state.json. The folder is written under a temporary name, synced and renamed, so it is there whole or not at all;
// state.json holds the SHA-256 of both files and of itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trivet/data/dataset.h"
#include "trivet/exec/session.h"
#include "trivet/formats/safetensors.h"
#include "trivet/train/graphs.h"
#include "trivet/train/metrics.h"

namespace trivet {

// Everything beside the tensors that a resumed run needs to go on with the same bits.
struct TrainState {
  std::int64_t step = 0;   // optimizer steps done
  std::int64_t epoch = 0;  // epochs done
  std::int64_t batch = 0;  // batches done of the epoch under way
  MetricSums sums;         // over the epoch under way
  MetricSums last;         // over the epoch before
  std::uint64_t seed = 0;
  std::string graph_hash;  // of the training graph
  std::string target;      // Target::description(): another one may give other bits
  std::string data_digest;
  std::optional<double> best;       // best value of checkpoint.best_metric so far ...
  std::int64_t best_step = 0;       // ... and the checkpoint that has it
  std::optional<double> to_beat;    // early stopping: the value that must be improved on ...
  std::int64_t stale = 0;           // ... and for how many epochs it was not
  double seconds = 0;               // of training so far, over all attempts
  std::uint64_t metrics_bytes = 0;  // of metrics.jsonl that belong to this state
  ModelTask task;
  Preparation preparation;  // of the data
};

class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path directory) : directory_(std::move(directory)) {}

  // For the one process that writes here: makes the folder and removes what a killed process left unfinished.
  void prepare() const;

  // Writes the arena's states and `state` as checkpoint `state.step`, replacing one of the same step.
  void save(const Arena& arena, const TrainState& state) const;
  // The same with the optimizer's states of several ranks: their names and types, and where their bytes come from when
  // they are written, one after the other.
  void save(const Arena& arena, const TrainState& state, std::span<const TensorRef> optimizer,
            const TensorSource& source) const;

  // Steps of what is there, ascending; damaged ones too. Empty if there is no such folder.
  std::vector<std::int64_t> steps() const;

  // Reads and verifies everything. Error(checkpoint) or Error(io) says what is wrong with it.
  TrainState load_state(std::int64_t step) const;
  // Copies tensors into the arena: all its states if `optimizer`, else only the parameters.
  void load_tensors(std::int64_t step, Arena& arena, bool optimizer) const;

  // Gives the optimizer's states to `take`, in the order of `optimizer`. Error(checkpoint) if there are others.
  using TakeTensor = std::function<void(const TensorRef&, std::span<const std::byte>)>;
  void load_optimizer(std::int64_t step, std::span<const TensorRef> optimizer, const TakeTensor& take) const;

  // Removes all but the last `keep_last` and `best_step` (0: none). Whatever dies in between, no checkpoint that is to
  // be kept is touched and none is left half removed under its name.
  void prune(std::int64_t keep_last, std::int64_t best_step) const;

  // Takes a damaged one out of the way, under a name that says so.
  void set_aside(std::int64_t step) const;

  std::filesystem::path path(std::int64_t step) const;

 private:
  using WriteFile = std::function<std::string(const std::filesystem::path&)>;
  void save(const TrainState& state, const WriteFile& model, const WriteFile& optimizer) const;

  std::filesystem::path directory_;
};

// The files of a checkpoint beside state.json.
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";

// A model by itself: a checkpoint's state.json and model.safetensors without what only training needs. Weights
// (parameters of rank 2 or more) are written as `weights`, f32, bf16 or f16, all other tensors as they are.
// Error(io) if the folder is there already; Error(checkpoint) if the checkpoint is damaged, or if a weight is beyond
// the largest number of f16, 65504.
void export_model(const std::filesystem::path& checkpoint, const std::filesystem::path& folder, DType weights);

// The state of an exported model; and the parameters of one, or of a checkpoint, into an arena whose floats may have
// another width. Errors as those of CheckpointFolder.
TrainState load_model_state(const std::filesystem::path& folder);
void load_model(const std::filesystem::path& folder, Arena& arena);

// The newest checkpoint that is whole, and what is wrong with those newer than it. `found` is empty if there is none.
struct NewestCheckpoint {
  std::optional<TrainState> found;
  std::vector<std::pair<std::int64_t, std::string>> damaged;
};
NewestCheckpoint newest_checkpoint(const CheckpointFolder& folder);

}  // namespace trivet
