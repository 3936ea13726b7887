#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/train/trainer_impl.h"
#include "trivet/base/clock.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

using nlohmann::json;

// What ranks tell each other of a batch that one of them evaluated: these, then its predictions.
enum BlockHead { kLoss, kCorrect, kTopK, kStop, kBlockHead };

// Every `count`-th batch, from batch `first` on.
std::vector<std::int64_t> batches_of(const std::vector<std::int64_t>& order, std::int64_t batch, int first, int count) {
  std::vector<std::int64_t> own;
  const auto samples = static_cast<std::int64_t>(order.size());
  for (std::int64_t begin = first * batch; begin < samples; begin += count * batch) {
    own.insert(own.end(), order.begin() + begin, order.begin() + std::min(begin + batch, samples));
  }
  return own;
}

std::vector<std::int64_t> all_indices(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return order;
}

}  // namespace

// Runs a batch and writes its sums, and if wanted its predictions, into a block that ranks exchange.
void Trainer::Impl::evaluate_batch(const Batch& batch, std::span<float> block, bool predictions) {
  Pass& pass = *evaluate_passes.at(batch.count);
  feed(pass, batch, {0, batch.count});
  pass.session.run();
  block[kLoss] = pass.session.scalar("loss");
  if (pass.has_counts) block[kCorrect] = pass.session.scalar("correct");
  if (pass.has_top_k) block[kTopK] = pass.session.scalar("top_k");
  const auto elements = static_cast<std::size_t>(batch.count * prediction_elements(plan.task));
  if (predictions) pass.session.read_output("prediction", &block[kBlockHead], elements * sizeof(float));
}

// Figures of the given samples with the parameters as they are; nothing if it was stopped. Batch i is run by rank
// i % ranks. All ranks know the sums; rank 0 sees all samples and predictions.
std::optional<Metrics> Trainer::Impl::evaluate(const Dataset& samples, std::vector<std::int64_t> order,
                                               Evaluation* evaluation, const std::atomic<bool>* stop) {
  LoaderConfig config;
  config.batch = evaluation_batch(job.train);
  config.prefetch = job.data.prefetch;
  const auto total = static_cast<std::int64_t>(order.size());
  const std::int64_t steps = batch_count(total, config.batch);
  if (!ranks.is_root() || !evaluation) order = batches_of(order, config.batch, ranks.rank(), ranks.size());
  Loader loader(samples, config);
  loader.start(std::move(order), 0);
  const double phase_began = steady_seconds();
  const auto width = static_cast<std::size_t>(prediction_elements(plan.task));
  const std::size_t length = kBlockHead + (evaluation ? static_cast<std::size_t>(config.batch) * width : 0);
  std::vector<float> blocks(length * static_cast<std::size_t>(ranks.size()));
  const auto block_of = [&](int rank) {
    return std::span<float>(blocks).subspan(static_cast<std::size_t>(rank) * length, length);
  };
  MetricSums sums;
  Batch batch;
  for (std::int64_t first = 0; first < steps; first += ranks.size()) {
    const std::span<float> own = block_of(ranks.rank());
    std::fill(own.begin(), own.begin() + kBlockHead, 0.0F);
    if (first + ranks.rank() < steps) {
      loader.next(batch);
      evaluate_batch(batch, own, evaluation != nullptr);
    }
    own[kStop] = stop && stop->load(std::memory_order_relaxed) ? 1.0F : 0.0F;
    ranks.gather(std::as_writable_bytes(std::span(blocks)));
    for (int r = 0; r < ranks.size() && first + r < steps; ++r) {
      const std::span<const float> block = block_of(r);
      const std::int64_t count = std::min(config.batch, total - (first + r) * config.batch);
      sums += MetricSums{static_cast<double>(block[kLoss]), static_cast<double>(block[kCorrect]),
                         static_cast<double>(block[kTopK]), count};
      if (!ranks.is_root() || !evaluation) continue;
      if (r > 0) loader.next(batch);
      evaluation->add(batch, block.subspan(kBlockHead, static_cast<std::size_t>(count) * width));
    }
    for (int r = 0; r < ranks.size(); ++r) stopping = stopping || block_of(r)[kStop] > 0;
    tell("evaluate", std::min(first + ranks.size(), steps), steps, sums.samples, total, phase_began, 0,
         mean(sums, goal).loss);
    if (stopping) return std::nullopt;
  }
  Metrics metrics = mean(sums, goal);
  if (evaluation && ranks.is_root()) evaluation->complete(metrics);
  return metrics;
}

// What an epoch's end needs to know of the validation split.
std::optional<Metrics> Trainer::Impl::validate(const std::atomic<bool>& stop) {
  const std::string& best = job.train.checkpoint.best_metric;
  const auto count = static_cast<std::int64_t>(data.split.validation.size());
  std::unique_ptr<Evaluation> evaluation;
  if (goal != Goal::label || best == "f1" || best == "auc") {
    evaluation = std::make_unique<Evaluation>(plan.task, best == "auc" ? Detail::auc : Detail::figures, count);
  }
  use_averages();
  std::optional<Metrics> metrics = evaluate(*data.train, data.split.validation, evaluation.get(), &stop);
  use_parameters();
  return metrics;
}

// All figures of a split, and its report.
Metrics Trainer::Impl::measure(const Dataset& samples, std::vector<std::int64_t> order, const char* split,
                               json& report) {
  Evaluation evaluation(plan.task, Detail::all, static_cast<std::int64_t>(order.size()));
  const Metrics metrics = *evaluate(samples, std::move(order), &evaluation, nullptr);
  if (ranks.is_root()) report = evaluation.report(samples, split, metrics);
  return metrics;
}

TrainResult Trainer::Impl::finish() {
  TrainResult result;
  result.steps = state.step;
  result.stopped_early = stopped_early();
  result.seconds = state.seconds;  // of the last checkpoint, so that a second look gives the same
  result.train = mean(state.last, goal);
  result.checkpoint = state.best_step > 0 ? state.best_step : state.step;
  if (result.checkpoint != state.step) {
    if (ranks.is_root()) {
      folder.load_state(result.checkpoint);  // verifies it
      folder.load_tensors(result.checkpoint, *arena, false);
    }
    ranks.share_states(*arena, plan.plans.sharded);
  } else {
    use_averages();
  }
  const std::int64_t k = job.train.top_k;
  json record = {{"kind", "final"},
                 {"steps", result.steps},
                 {"seconds", result.seconds},
                 {"checkpoint", result.checkpoint},
                 {"train", metrics_json(result.train, k)}};
  json report;
  if (result.stopped_early) record["stopped_early"] = true;
  if (!data.split.validation.empty()) {
    result.validation = measure(*data.train, data.split.validation, "validation", report);
    record["validation"] = metrics_json(*result.validation, k);
  }
  if (data.test) {
    result.test = measure(*data.test, all_indices(data.test->count()), "test", report);
    record["test"] = metrics_json(*result.test, k);
  }
  if (!ranks.is_root()) return result;
  record["peak_resident_bytes"] = peak_resident_bytes();
  record["planned_bytes"] = plan.memory.total();
  // Names come from data files, whose text may be anything.
  if (!report.is_null()) {
    write_file_atomic(directory / "evaluation.json",
                      report.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  }
  write_file_atomic(directory / "result.json", record.dump(1) + "\n");
  log.metrics(record);
  log.sync_metrics();
  return result;
}

}  // namespace trivet
