// A training run at work. Private to this folder: trainer.cpp has the steps, trainer_evaluation.cpp what is measured.
#pragma once

#include <nlohmann/json.hpp>

#include "runtime/train/pass.h"
#include "runtime/train/ranks.h"
#include "trivet/base/file.h"
#include "trivet/train/evaluation.h"
#include "trivet/train/schedule.h"
#include "trivet/train/trainer.h"

namespace trivet {

inline constexpr const char* kDivergedHint =
    "lower train.optimizer.lr, add warm-up steps or train.clip_norm; the last checkpoint stays";

struct LossScale {
  double scale = 0;
  std::int64_t skipped = 0;  // steps of the run
};

struct Trainer::Impl {
  Impl(TrainJob j, TrainData read, std::shared_ptr<const Device> d, fs::path dir, RunLog& l,
       std::shared_ptr<Communicator> others);

  TrainJob job;
  std::shared_ptr<const Device> device;
  fs::path directory;
  RunLog& log;
  Ranks ranks;
  TrainData data;
  TrainPlan plan;
  Goal goal;
  std::vector<double> weights;  // of each class; empty: samples count alike
  CheckpointFolder folder;
  std::int64_t batches = 0;  // of an epoch
  std::int64_t total_steps = 0;
  std::int64_t log_every = 1;

  std::shared_ptr<Arena> arena;
  Passes<std::int64_t> step_passes, accumulate_passes, evaluate_passes;
  Passes<std::pair<std::int64_t, ShardPlace>> shard_passes;
  std::unique_ptr<Pass> apply_pass;
  std::vector<float> sample_weights;  // of this rank's part of a batch
  std::vector<std::byte> zeros;       // a sample that does not count
  bool stopping = false;              // all ranks know that one was told to stop
  TrainState state;
  double began = 0;        // when this attempt began, less the seconds of those before
  double progress_at = 0;  // when progress was last told

  TrainResult run(const std::atomic<bool>& stop, bool resume);
  void prepare();
  void start_fresh();
  void resume_from_newest();
  bool train_epoch(Loader& loader, const std::atomic<bool>& stop);
  std::vector<std::int64_t> own_order() const;
  void optimizer_step(const Batch& batch, std::int64_t count, const std::atomic<bool>& stop);
  MetricSums run_pass(Pass& pass, const Batch& batch, Slice slice, std::int64_t count);
  void feed(Pass& pass, const Batch& batch, Slice slice);
  void feed_nothing(Pass& pass);
  void weigh(const Batch& batch, std::int64_t count);
  std::optional<LossScale> read_loss_scale() const;
  void after_step(double loss, double lr, std::optional<double> grad_norm);
  std::optional<Metrics> evaluate(const Dataset& samples, std::vector<std::int64_t> order, Evaluation* evaluation,
                                  const std::atomic<bool>* stop);
  void evaluate_batch(const Batch& batch, std::span<float> block, bool predictions);
  std::optional<Metrics> validate(const std::atomic<bool>& stop);
  Metrics measure(const Dataset& samples, std::vector<std::int64_t> order, const char* split, nlohmann::json& report);
  bool note_best(const Metrics& validation);
  bool stopped_early() const { return job.train.early_stop && state.stale >= job.train.early_stop->patience; }
  double rate() const {
    return learning_rate(job.train.optimizer, job.train.schedule, state.step, total_steps, batches);
  }
  void start_averages();
  bool averages() const { return job.train.average && state.step >= job.train.average->start_step; }
  bool has_average(const Value& value) const;
  void use_averages();
  void use_parameters();
  bool finish_epoch(const std::optional<Metrics>& validation, double seconds);
  void require_finite() const;
  void save();
  TrainResult finish();
  void tell(const char* phase, std::int64_t step, std::int64_t steps, std::int64_t samples, std::int64_t total,
            double phase_began, std::int64_t samples_before, std::optional<double> loss);
  bool interrupted();
};

}  // namespace trivet
