#include "trivet/infer/infer.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "runtime/infer/calibration.h"
#include "runtime/infer/number_writer.h"
#include "trivet/base/clock.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/text.h"
#include "trivet/data/loader.h"
#include "trivet/formats/table_writer.h"
#include "trivet/train/evaluation.h"

namespace trivet {
namespace {

std::int64_t step_of(const fs::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  std::int64_t step = -1;
  const std::size_t dash = name.find('-');
  if (dash != std::string::npos) std::from_chars(name.data() + dash + 1, name.data() + name.size(), step);
  return step;
}

// Predictions on their way to the file.
class Output {
 public:
  Output(const InferConfig& config, const ModelTask& task, std::int64_t rows, bool targets)
      : task_(task),
        goal_(task.goal()),
        width_(static_cast<std::size_t>(prediction_elements(task))),
        targets_(targets) {
    if (goal_ == Goal::label) {
      std::vector<std::string> names = task.target.class_names;
      bool numbered = true;  // then the numbers say as much
      for (std::size_t i = 0; i < names.size(); ++i) numbered = numbered && names[i] == std::to_string(i);
      if (numbered) names.clear();
      labels_ = PredictionWriter::create(config.format, config.output, {rows, task.input.outputs, targets, names});
      return;
    }
    const auto names = goal_ == Goal::number ? task.target.target_names : std::vector<std::string>{"error"};
    numbers_ = std::make_unique<NumberWriter>(config.format, config.output, rows, names, targets);
  }

  void add(const Batch& batch, std::span<const float> prediction) {
    for (std::size_t i = 0; i < batch.sample.size(); ++i) {
      const auto row = prediction.subspan(i * width_, width_);
      if (goal_ == Goal::label) {
        labels_->add(batch.sample[i], row,
                     targets_ ? std::optional(batch.targets<std::int32_t>()[i]) : std::optional<std::int32_t>());
      } else if (goal_ == Goal::number) {
        const auto y = targets_ ? batch.targets<float>().subspan(i * width_, width_) : std::span<const float>();
        numbers_->add(batch.sample[i], in_units(row), in_units(y));
      } else {
        const double error = squared_error(row, batch.input<float>(0).subspan(i * width_, width_));
        numbers_->add(batch.sample[i], std::span(&error, 1), {});
      }
    }
  }

  void commit() { labels_ ? labels_->commit() : numbers_->commit(); }

 private:
  std::vector<double> in_units(std::span<const float> standardised) const {
    std::vector<double> values;
    for (std::size_t i = 0; i < standardised.size(); ++i) {
      values.push_back(static_cast<double>(standardised[i]) * task_.target.stddev[i] + task_.target.mean[i]);
    }
    return values;
  }
  static double squared_error(std::span<const float> a, std::span<const float> b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
      sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    return sum / static_cast<double>(a.size());
  }

  const ModelTask& task_;
  const Goal goal_;
  const std::size_t width_;
  const bool targets_;
  std::unique_ptr<PredictionWriter> labels_;
  std::unique_ptr<NumberWriter> numbers_;
};

Progress progress_of(const Batch& batch, std::int64_t steps, std::int64_t samples, std::int64_t total, double seconds) {
  Progress progress;
  progress.phase = "infer";
  progress.step = batch.index + 1;
  progress.steps = steps;
  progress.samples = samples;
  progress.total = total;
  progress.seconds = seconds;
  if (seconds > 0) {
    progress.rate = static_cast<double>(samples) / seconds;
    progress.left = static_cast<double>(total - samples) / progress.rate;
  }
  return progress;
}

}  // namespace

ChosenCheckpoint choose_checkpoint(const InferConfig& config) {
  const fs::path run = fs::weakly_canonical(config.run);
  if (!fs::exists(run)) {
    throw Error(ErrorCode::checkpoint, fmt::format("{}: there is no such run or checkpoint", config.run.string()),
                "`trivet runs` lists the runs of this workspace");
  }
  if (fs::exists(run / "state.json")) {  // a checkpoint itself, or an exported model
    if (!fs::exists(run / kOptimizerFile)) return {run, load_model_state(run)};
    const CheckpointFolder folder(run.parent_path());
    const std::int64_t step = step_of(run);
    if (folder.path(step).filename() != run.filename()) {  // a copy under another name, or one that was set aside
      throw Error(ErrorCode::checkpoint, fmt::format("{} is not named as a checkpoint is", run.string()),
                  "such a name is step-000000012");
    }
    return {folder.path(step), folder.load_state(step)};
  }
  const CheckpointFolder folder(run / "checkpoints");
  const NewestCheckpoint newest = newest_checkpoint(folder);
  if (!newest.found) {
    const std::string reason = newest.damaged.empty() ? "it has no checkpoint" : newest.damaged.front().second;
    throw Error(ErrorCode::checkpoint, fmt::format("{} cannot be used: {}", run.string(), reason),
                "train it first, or name another run");
  }
  if (!newest.damaged.empty()) {  // the last one also knows which is the best
    throw Error(ErrorCode::checkpoint, fmt::format("the last checkpoint is damaged: {}", newest.damaged.front().second),
                fmt::format("name an older one, for example infer.run: {}", folder.path(newest.found->step).string()));
  }
  if (config.checkpoint == "last" || newest.found->best_step == 0 || newest.found->best_step == newest.found->step) {
    return {folder.path(newest.found->step), *newest.found};
  }
  const std::int64_t best = newest.found->best_step;
  return {folder.path(best), folder.load_state(best)};
}

std::vector<PlanPtr> InferPlan::all() const {
  std::vector<PlanPtr> result = predict.all();
  if (ranges) result.push_back(ranges);
  return result;
}

InferData InferData::load(const InferConfig& config, const TrainState& model, const TrainJob* trained) {
  InferData data = of(config, model, open_data(config.data, {}));
  if (!data.calibration) return data;
  try {
    if (trained) data.calibration = CalibrationData::of_training(*trained, model);
  } catch (const Error& e) {
    data.calibration_problem = e.message();
  }
  if (!trained) data.calibration_problem = "the job that trained the model is not there";
  return data;
}

InferData InferData::of(const InferConfig& config, const TrainState& model, std::unique_ptr<DataSource> source) {
  InferData data{std::move(source), nullptr, {}, {}};
  if (data.source->count() == 0) {
    throw Error(ErrorCode::data, fmt::format("{} has no samples", config.data.main().string()));
  }
  const bool with_target = model.task.goal() != Goal::reconstruction && data.source->has_target(model.preparation);
  data.samples = data.source->prepare(model.preparation, with_target);
  if (data.samples->inputs() != model.task.input.fields) {
    throw Error(ErrorCode::data, fmt::format("{} does not have the form of the data that the model was trained on",
                                             config.data.main().string()));
  }
  if (config.precision == "int8") data.calibration = CalibrationData::of_samples(*data.samples, model);
  return data;
}

InferPlan plan_inference(const InferConfig& config, const TrainState& model, const InferData& data,
                         const Device& device) {
  const std::int64_t count = data.samples->count();
  InferPlan plan;
  const std::vector<std::int64_t> batches = pieces(count, config.batch);
  const std::set<std::int64_t> sizes(batches.begin(), batches.end());
  if (data.calibration) {
    const auto graph = [&](std::int64_t samples) { return optimized(int8_graph(model.task, samples)); };
    plan.predict = compile_tiles(graph, sizes, plan.states, device);
    plan.ranges = compile_graph(range_graph(model.task), plan.states, device);
  } else {
    plan.predict = predict_plans(model.task, sizes, plan.states, device);
  }
  const std::size_t resident = data.source->resident_bytes() +
                               2 * static_cast<std::size_t>(count) * sizeof(std::int64_t) +
                               (data.calibration ? data.calibration->bytes() : 0);
  plan.memory = report_memory(plan.states, plan.all(), device, resident,
                              Loader::buffer_bytes(*data.samples, config.batch, LoaderConfig{}.prefetch),
                              Evaluation::planned_bytes(model.task, config.batch, 0));
  require_memory(plan.memory, device, 0, "inference", "use a smaller infer.batch");
  return plan;
}

InferResult run_inference(const InferConfig& config, std::shared_ptr<const Device> device,
                          const std::atomic<bool>& stop, RunLog& log, const TrainJob* trained) {
  const ChosenCheckpoint chosen = choose_checkpoint(config);
  const ModelTask& task = chosen.state.task;
  log.line(fmt::format("model: {}", chosen.path.string()));
  const InferData data = InferData::load(config, chosen.state, trained);
  const InferPlan plan = plan_inference(config, chosen.state, data, *device);
  const auto arena = std::make_shared<Arena>(device, plan.states, plan.all());
  load_model(chosen.path, *arena);
  nlohmann::json int8;
  if (data.calibration) {
    int8 = calibrate(*data.calibration, plan.ranges, arena);
    log.line(fmt::format("int8: ranges are those of {} samples of {}", data.calibration->order.size(),
                         data.calibration->name));
    if (!data.calibration_problem.empty()) {
      log.warn(fmt::format("ranges are not those of the training data: {}", data.calibration_problem));
    }
  }
  TiledSession session(arena, plan.predict);

  const std::int64_t count = data.samples->count();
  const bool targets = data.samples->target_field().has_value();
  Output output(config, task, count, targets);
  std::optional<Evaluation> evaluation;
  if (targets || task.goal() == Goal::reconstruction) evaluation.emplace(task, Detail::figures, count);
  LoaderConfig loading;
  loading.batch = config.batch;
  Loader loader(*data.samples, loading);
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});

  InferResult result;
  result.goal = task.goal();
  std::vector<float> prediction;
  std::vector<TiledSession::Input> inputs(task.input.fields.size());
  const double began = steady_seconds();
  loader.start(std::move(order), 0);
  Batch batch;
  while (loader.next(batch)) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = {task.input.fields[i].name, batch.inputs[i].data(), batch.inputs[i].size()};
    }
    prediction.resize(static_cast<std::size_t>(batch.count * prediction_elements(task)));
    const TiledSession::Output output_of_batch[] = {
        {"prediction", prediction.data(), prediction.size() * sizeof(float)}};
    session.run(batch.count, inputs, output_of_batch);
    output.add(batch, prediction);
    if (evaluation) evaluation->add(batch, prediction);
    result.samples += batch.count;
    log.progress(progress_of(batch, batch_count(count, config.batch), result.samples, count, steady_seconds() - began));
    if (stop.load(std::memory_order_relaxed) && result.samples < count) {
      result.interrupted = true;
      return result;
    }
  }
  output.commit();
  result.seconds = steady_seconds() - began;
  nlohmann::json record = {{"kind", "final"},
                           {"samples", result.samples},
                           {"seconds", result.seconds},
                           {"images_per_second", static_cast<double>(result.samples) / result.seconds},
                           {"checkpoint", chosen.path.string()},
                           {"output", config.output.string()},
                           {"data_digest", data.source->digest()}};
  if (!int8.is_null()) record["int8"] = int8;
  if (evaluation) {
    result.metrics.emplace();
    evaluation->complete(*result.metrics);
    nlohmann::json figures = metrics_json(*result.metrics, 0);
    figures.erase("loss");  // inference takes none
    figures.erase("samples");
    record.update(figures);
  }
  log.metrics(record);
  log.sync_metrics();
  return result;
}

}  // namespace trivet
