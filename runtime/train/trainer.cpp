#include "trivet/train/trainer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/train/updates.h"
#include "trivet/base/clock.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/text.h"
#include "trivet/exec/float_cast.h"
#include "trivet/train/evaluation.h"
#include "trivet/train/schedule.h"

namespace trivet {
namespace {

using nlohmann::json;

constexpr const char* kDivergedHint =
    "lower train.optimizer.lr, add warm-up steps or train.clip_norm; the last checkpoint stays";

// A compiled pass with what it wants to be fed.
struct Pass {
  Session session;
  bool wants_sample;
  bool wants_step;
  bool has_counts;
  bool has_top_k;

  Pass(std::shared_ptr<Arena> arena, const PlanPtr& plan)
      : session(std::move(arena), plan),
        wants_sample(plan->inputs.contains("sample")),
        wants_step(plan->inputs.contains("step")),
        has_counts(plan->outputs.contains("correct")),
        has_top_k(plan->outputs.contains("top_k")) {}

  template <class T>
  void set(const std::string& name, std::span<const T> values) {
    session.set_input(name, values.data(), values.size_bytes());
  }
  template <class T>
  void set_scalar(const std::string& name, T value) {
    session.set_input(name, &value, sizeof value);
  }
  void add_sums(MetricSums& sums, std::int64_t samples) {
    sums.loss += static_cast<double>(session.scalar("loss"));
    if (has_counts) sums.correct += static_cast<double>(session.scalar("correct"));
    if (has_top_k) sums.top_k += static_cast<double>(session.scalar("top_k"));
    sums.samples += samples;
  }
};

using Passes = std::map<std::int64_t, std::unique_ptr<Pass>>;

Passes make_passes(const std::shared_ptr<Arena>& arena, const std::map<std::int64_t, PlanPtr>& plans) {
  Passes passes;
  for (const auto& [samples, plan] : plans) passes[samples] = std::make_unique<Pass>(arena, plan);
  return passes;
}

std::vector<std::int64_t> all_indices(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return order;
}

}  // namespace

struct Trainer::Impl {
  Impl(TrainJob j, TrainData read, std::shared_ptr<const Device> d, fs::path dir, RunLog& l)
      : job(std::move(j)),
        device(std::move(d)),
        directory(std::move(dir)),
        log(l),
        data(std::move(read)),
        plan(plan_job(job, data, *device)),
        goal(plan.task.goal()),
        weights(class_weights(data, job.data)),
        folder(directory / "checkpoints") {
    job.train = plan.train;
    batches = batch_count(data.counts().train, job.train.batch);
    total_steps = batches * job.train.epochs;
    log_every = std::max<std::int64_t>(1, batches / 50);
  }

  TrainJob job;
  std::shared_ptr<const Device> device;
  fs::path directory;
  RunLog& log;
  TrainData data;
  TrainPlan plan;
  Goal goal;
  std::vector<double> weights;  // of each class; empty: samples count alike
  CheckpointFolder folder;
  std::int64_t batches = 0;  // of an epoch
  std::int64_t total_steps = 0;
  std::int64_t log_every = 1;

  std::shared_ptr<Arena> arena;
  Passes step_passes, accumulate_passes, evaluate_passes;
  std::unique_ptr<Pass> apply_pass;
  std::vector<float> sample_weights;  // of a batch
  std::vector<float> prediction;      // of a batch
  TrainState state;
  double began = 0;        // when this attempt began, less the seconds of those before
  double progress_at = 0;  // when progress was last told

  TrainResult run(const std::atomic<bool>& stop, bool resume);
  void prepare();
  void start_fresh();
  void resume_from_newest();
  bool train_epoch(Loader& loader, const std::atomic<bool>& stop);
  void optimizer_step(const Batch& batch);
  void feed(Pass& pass, const Batch& batch, std::int64_t first, std::int64_t count);
  void weigh(const Batch& batch);
  void after_step(double loss, double lr, std::optional<double> grad_norm);
  std::optional<Metrics> evaluate(const Dataset& samples, std::vector<std::int64_t> order, Evaluation* evaluation,
                                  const std::atomic<bool>* stop);
  std::optional<Metrics> validate(const std::atomic<bool>& stop);
  Metrics measure(const Dataset& samples, std::vector<std::int64_t> order, const char* split, json& report);
  bool note_best(const Metrics& validation);
  bool stopped_early() const { return job.train.early_stop && state.stale >= job.train.early_stop->patience; }
  void start_averages();
  bool averages() const { return job.train.average && state.step >= job.train.average->start_step; }
  void use_averages();
  void use_parameters();
  void finish_epoch(const std::optional<Metrics>& validation, double seconds);
  void require_finite() const;
  void save();
  TrainResult finish();
  void tell(const char* phase, std::int64_t step, std::int64_t steps, std::int64_t samples, std::int64_t total,
            double phase_began, std::int64_t samples_before, std::optional<double> loss);
  bool interrupted(const std::atomic<bool>& stop);
};

void Trainer::Impl::prepare() {
  folder.prepare();
  arena = std::make_shared<Arena>(device, plan.plans.states, plan.plans.all());
  step_passes = make_passes(arena, plan.plans.step);
  accumulate_passes = make_passes(arena, plan.plans.accumulate);
  evaluate_passes = make_passes(arena, plan.plans.evaluate);
  if (plan.plans.apply) apply_pass = std::make_unique<Pass>(arena, plan.plans.apply);
}

void Trainer::Impl::start_fresh() {
  state = TrainState{};
  state.seed = job.seed;
  state.graph_hash = plan.plans.graph_hash;
  state.target = device->description();
  state.data_digest = data.digest();
  state.task = plan.task;
  state.preparation = data.preparation;
  arena->initialize(job.seed);
  start_averages();
  log.cut_metrics(0);
}

void Trainer::Impl::resume_from_newest() {
  NewestCheckpoint newest = newest_checkpoint(folder);
  for (const auto& [step, reason] : newest.damaged) {
    log.warn(fmt::format("checkpoint {} is damaged and not used: {}", step, reason));
    folder.set_aside(step);
  }
  if (!newest.found) {
    log.line("no checkpoint to go on from: starting at the beginning");
    start_fresh();
    return;
  }
  state = std::move(*newest.found);
  const fs::path path = folder.path(state.step);
  if (state.graph_hash != plan.plans.graph_hash) {
    throw Error(ErrorCode::checkpoint,
                fmt::format("{} belongs to another model or other training settings", path.string()),
                "resume with the job file of the run, or start a new run");
  }
  if (state.data_digest != data.digest()) {
    throw Error(ErrorCode::checkpoint,
                fmt::format("{} was trained on other data: the files have changed since", path.string()),
                "bring the data of the run back, or start a new run");
  }
  if (state.target != device->description()) {
    log.warn(fmt::format("the checkpoint was made on '{}', this is '{}': results may differ in their last bits",
                         state.target, device->description()));
    state.target = device->description();
  }
  arena->initialize(job.seed);  // accumulated gradients start at zero
  folder.load_tensors(state.step, *arena, true);
  use_parameters();
  log.cut_metrics(state.metrics_bytes);
  log.line(fmt::format("going on from checkpoint {}: epoch {}, batch {}", state.step, state.epoch + 1, state.batch));
}

// At train.average.start_step the averages are the parameters themselves.
void Trainer::Impl::start_averages() {
  if (!job.train.average || state.step != job.train.average->start_step) return;
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (!is_averaged(slot.value)) continue;
    const Tensor parameter = arena->get_state(slot.value.name);
    arena->set_state(average_name(slot.value.name), float_cast(parameter.type, parameter.data, DType::f32));
  }
}

// From that step on checkpoints and evaluation have the averages under the parameters' names, and the parameters where
// set_aside_name() says.
void Trainer::Impl::use_averages() {
  if (!averages()) return;
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (!is_averaged(slot.value)) continue;
    const Tensor average = arena->get_state(average_name(slot.value.name));
    arena->set_state(set_aside_name(slot.value), arena->get_state(slot.value.name));
    arena->set_state(slot.value.name, float_cast(average.type, average.data, slot.value.type.dtype));
  }
}

// Undoes use_averages().
void Trainer::Impl::use_parameters() {
  if (!averages()) return;
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (!is_averaged(slot.value)) continue;
    const std::string aside = set_aside_name(slot.value);
    const Tensor parameter = arena->get_state(aside);
    if (aside == average_name(slot.value.name)) arena->set_state(aside, arena->get_state(slot.value.name));
    arena->set_state(slot.value.name, parameter);
  }
}

// Each sample's share of the gradient: the weight of its class by the sum over the batch.
void Trainer::Impl::weigh(const Batch& batch) {
  if (weights.empty()) return;
  double sum = 0;
  for (const std::int32_t label : batch.targets<std::int32_t>()) sum += weights[static_cast<std::size_t>(label)];
  sample_weights.clear();
  for (const std::int32_t label : batch.targets<std::int32_t>()) {
    sample_weights.push_back(static_cast<float>(weights[static_cast<std::size_t>(label)] / sum));
  }
}

// `count` samples of a batch, from `first` on.
void Trainer::Impl::feed(Pass& pass, const Batch& batch, std::int64_t first, std::int64_t count) {
  const auto begin = static_cast<std::size_t>(first);
  const auto n = static_cast<std::size_t>(count);
  const auto all = static_cast<std::size_t>(batch.count);
  const std::vector<Field>& fields = plan.task.input.fields;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::size_t bytes = batch.inputs[i].size() / all;
    pass.set(fields[i].name, batch.inputs[i].subspan(begin * bytes, n * bytes));
  }
  if (!batch.y.empty()) pass.set("y", batch.y.subspan(begin * (batch.y.size() / all), n * (batch.y.size() / all)));
  if (pass.wants_sample) pass.set("sample", batch.sample.subspan(begin, n));
}

void Trainer::Impl::optimizer_step(const Batch& batch) {
  const double lr = learning_rate(job.train.optimizer, job.train.schedule, state.step, total_steps, batches);
  const float inv_count = 1.0F / static_cast<float>(batch.count);
  const std::int64_t number = state.step + 1;
  const auto set_step = [&](Pass& pass) {
    if (pass.wants_step) pass.set_scalar("step", number);
  };
  const auto set_shares = [&](Pass& pass, std::int64_t first, std::int64_t count) {
    if (weights.empty()) return pass.set_scalar("inv_count", inv_count);
    pass.set("weight", std::span<const float>(sample_weights)
                           .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
  };
  weigh(batch);
  MetricSums sums;
  Pass* updater = apply_pass.get();
  if (updater) {
    std::int64_t first = 0;
    for (const std::int64_t count : pieces(batch.count, job.train.micro_batch)) {
      Pass& pass = *accumulate_passes.at(count);
      feed(pass, batch, first, count);
      set_shares(pass, first, count);
      set_step(pass);
      pass.session.run();
      pass.add_sums(sums, count);
      first += count;
    }
  } else {
    updater = step_passes.at(batch.count).get();
    feed(*updater, batch, 0, batch.count);
    set_shares(*updater, 0, batch.count);
  }
  updater->set_scalar("lr", static_cast<float>(lr));
  set_step(*updater);
  updater->session.run();
  if (!apply_pass) updater->add_sums(sums, batch.count);

  state.sums.loss += sums.loss;
  state.sums.correct += sums.correct;
  state.sums.top_k += sums.top_k;
  state.sums.samples += sums.samples;
  ++state.step;
  ++state.batch;
  start_averages();
  std::optional<double> grad_norm;
  if (job.train.clip_norm > 0) grad_norm = static_cast<double>(updater->session.scalar("grad_norm"));
  after_step(sums.loss / static_cast<double>(batch.count), lr, grad_norm);
}

void Trainer::Impl::after_step(double loss, double lr, std::optional<double> grad_norm) {
  if (!std::isfinite(loss)) {
    throw Error(ErrorCode::diverged,
                fmt::format("the loss is {} at step {} (epoch {}, batch {}), learning rate {:g}", loss, state.step,
                            state.epoch + 1, state.batch, lr),
                kDivergedHint);
  }
  if (state.step % log_every == 0) {
    json record = {{"kind", "step"}, {"step", state.step}, {"epoch", state.epoch + 1}, {"loss", loss}, {"lr", lr}};
    if (grad_norm) record["grad_norm"] = *grad_norm;
    log.metrics(record);
  }
}

bool Trainer::Impl::interrupted(const std::atomic<bool>& stop) {
  if (!stop.load(std::memory_order_relaxed)) return false;
  save();
  log.line(fmt::format("stopped at step {} with a checkpoint", state.step));
  return true;
}

// False if it was stopped.
bool Trainer::Impl::train_epoch(Loader& loader, const std::atomic<bool>& stop) {
  loader.start(epoch_order(data, job.data, job.seed, state.epoch), state.epoch, state.batch);
  const double phase_began = steady_seconds();
  const std::int64_t samples_before = state.sums.samples;
  Batch batch;
  while (loader.next(batch)) {
    optimizer_step(batch);
    tell("train", state.batch, batches, state.sums.samples, data.counts().train, phase_began, samples_before,
         mean(state.sums, goal).loss);
    const bool due = job.train.checkpoint.every_steps > 0 && state.step % job.train.checkpoint.every_steps == 0;
    if (due && state.batch < batches) save();
    if (interrupted(stop)) return false;
  }
  return true;
}

void Trainer::Impl::tell(const char* phase, std::int64_t step, std::int64_t steps, std::int64_t samples,
                         std::int64_t total, double phase_began, std::int64_t samples_before,
                         std::optional<double> loss) {
  constexpr double kInterval = 0.1;  // seconds: as often as a terminal is redrawn
  const double time = steady_seconds();
  if (time - progress_at < kInterval && step < steps) return;
  progress_at = time;
  Progress p;
  p.phase = phase;
  p.epoch = std::min(state.epoch + 1, job.train.epochs);
  p.epochs = job.train.epochs;
  p.step = step;
  p.steps = steps;
  p.samples = samples;
  p.total = total;
  p.loss = loss;
  p.seconds = time - phase_began;
  if (p.seconds > 0) p.rate = static_cast<double>(samples - samples_before) / p.seconds;
  if (state.step > 0 && state.step < total_steps)
    p.left = (time - began) / static_cast<double>(state.step) * static_cast<double>(total_steps - state.step);
  log.progress(p);
}

// Figures of the given samples with the parameters as they are; nothing if it was stopped.
std::optional<Metrics> Trainer::Impl::evaluate(const Dataset& samples, std::vector<std::int64_t> order,
                                               Evaluation* evaluation, const std::atomic<bool>* stop) {
  LoaderConfig config;
  config.batch = evaluate_passes.rbegin()->first;
  config.prefetch = job.data.prefetch;
  const auto total = static_cast<std::int64_t>(order.size());
  const std::int64_t steps = batch_count(total, config.batch);
  const auto width = static_cast<std::size_t>(prediction_elements(plan.task));
  Loader loader(samples, config);
  loader.start(std::move(order), 0);
  const double phase_began = steady_seconds();
  MetricSums sums;
  Batch batch;
  while (loader.next(batch)) {
    Pass& pass = *evaluate_passes.at(batch.count);
    feed(pass, batch, 0, batch.count);
    pass.session.run();
    pass.add_sums(sums, batch.count);
    if (evaluation) {
      prediction.resize(static_cast<std::size_t>(batch.count) * width);
      pass.session.read_output("prediction", prediction.data(), prediction.size() * sizeof(float));
      evaluation->add(batch, prediction);
    }
    tell("evaluate", batch.index + 1, steps, sums.samples, total, phase_began, 0, mean(sums, goal).loss);
    if (stop && stop->load(std::memory_order_relaxed)) return std::nullopt;
  }
  Metrics metrics = mean(sums, goal);
  if (evaluation) evaluation->complete(metrics);
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

// A model that is not finite is no checkpoint: the one before must stay.
void Trainer::Impl::require_finite() const {
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (slot.value.memory != MemoryClass::parameters || !is_float(slot.value.type.dtype)) continue;
    const Tensor own = arena->get_state(slot.value.name);
    const Tensor tensor = float_cast(own.type, own.data, DType::f32);
    const std::span<const float> values = tensor.as<float>();
    if (std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) continue;
    throw Error(
        ErrorCode::diverged,
        fmt::format("'{}' is not finite after step {} (epoch {})", slot.value.name, state.step, state.epoch + 1),
        kDivergedHint);
  }
}

void Trainer::Impl::save() {
  require_finite();
  state.seconds = steady_seconds() - began;
  state.metrics_bytes = log.sync_metrics();
  use_averages();
  folder.save(*arena, state);
  use_parameters();
  folder.prune(job.train.checkpoint.keep_last, state.best_step);
}

// Whether this is the best model so far; early stopping counts along.
bool Trainer::Impl::note_best(const Metrics& validation) {
  const std::string& name = job.train.checkpoint.best_metric;
  const std::optional<double> value = best_metric_value(validation, name);
  if (!value || !std::isfinite(*value)) {
    throw Error(
        ErrorCode::data,
        fmt::format("the validation split's {} is not defined after epoch {}: its {} samples are too few or too "
                    "much alike",
                    name, state.epoch + 1, validation.samples),
        "raise data.validation, or choose another train.checkpoint.best_metric");
  }
  const double sign = larger_is_better(name) ? 1 : -1;
  const double margin = job.train.early_stop ? job.train.early_stop->min_delta : 0;
  if (!state.to_beat || sign * (*value - *state.to_beat) > margin) {
    state.to_beat = *value;
    state.stale = 0;
  } else {
    ++state.stale;
  }
  if (!job.train.checkpoint.keep_best || (state.best && sign * (*value - *state.best) <= 0)) return false;
  state.best = *value;
  state.best_step = state.step;
  return true;
}

void Trainer::Impl::finish_epoch(const std::optional<Metrics>& validation, double seconds) {
  if (validation && !std::isfinite(validation->loss)) {
    throw Error(ErrorCode::diverged,
                fmt::format("the validation loss is {} after step {} (epoch {})", validation->loss, state.step,
                            state.epoch + 1),
                kDivergedHint);
  }
  const Metrics train = mean(state.sums, goal);
  std::string text = fmt::format("epoch {}/{}: {}", state.epoch + 1, job.train.epochs, metrics_text("train", train, 0));
  json record = {{"kind", "epoch"},
                 {"epoch", state.epoch + 1},
                 {"step", state.step},
                 {"train", metrics_json(train, job.train.top_k)},
                 {"seconds", seconds}};
  bool is_best = false;
  if (validation) {
    text += "; " + metrics_text("validation", *validation, job.train.top_k);
    record["validation"] = metrics_json(*validation, job.train.top_k);
    is_best = note_best(*validation);
  }
  if (seconds > 0) text += fmt::format(" ({:.1f} s)", seconds);
  log.line(text + (is_best ? ", the best so far" : ""));
  log.metrics(record);
  state.last = state.sums;
  state.sums = {};
  state.batch = 0;
  ++state.epoch;
  if (stopped_early()) {
    log.line(fmt::format("stopping early: the validation {} has not improved for {} epochs",
                         job.train.checkpoint.best_metric, state.stale));
  }
  const bool last = state.epoch == job.train.epochs || stopped_early();
  if (last || is_best || state.epoch % job.train.checkpoint.every_epochs == 0) save();
}

TrainResult Trainer::Impl::run(const std::atomic<bool>& stop, bool resume) {
  prepare();
  for (const json& warning : data.preparation.values.value("warnings", json::array())) {
    if (warning.is_string()) log.warn(warning.get<std::string>());
  }
  resume ? resume_from_newest() : start_fresh();
  began = steady_seconds() - state.seconds;

  LoaderConfig config;
  config.batch = job.train.batch;
  config.prefetch = job.data.prefetch;
  config.train = true;
  config.seed = job.seed;
  Loader loader(*data.train, config);
  TrainResult stopped;
  stopped.interrupted = true;
  while (state.epoch < job.train.epochs && !stopped_early()) {
    const double epoch_began = steady_seconds();
    const bool finished = train_epoch(loader, stop);
    std::optional<Metrics> validation;
    if (finished && !data.split.validation.empty()) validation = validate(stop);
    if (!finished || interrupted(stop)) {
      stopped.steps = state.step;
      stopped.seconds = steady_seconds() - began;
      return stopped;
    }
    finish_epoch(validation, steady_seconds() - epoch_began);
  }
  return finish();
}

// All figures of a split, and its report.
Metrics Trainer::Impl::measure(const Dataset& samples, std::vector<std::int64_t> order, const char* split,
                               json& report) {
  Evaluation evaluation(plan.task, Detail::all, static_cast<std::int64_t>(order.size()));
  const Metrics metrics = *evaluate(samples, std::move(order), &evaluation, nullptr);
  report = evaluation.report(samples, split, metrics);
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
    folder.load_state(result.checkpoint);  // verifies it
    folder.load_tensors(result.checkpoint, *arena, false);
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

Trainer::Trainer(TrainJob job, std::shared_ptr<const Device> device, std::filesystem::path directory, RunLog& log) {
  TrainData data = TrainData::load(job);
  impl_ = std::make_unique<Impl>(std::move(job), std::move(data), std::move(device), std::move(directory), log);
}
Trainer::Trainer(TrainJob job, TrainData data, std::shared_ptr<const Device> device, std::filesystem::path directory,
                 RunLog& log)
    : impl_(std::make_unique<Impl>(std::move(job), std::move(data), std::move(device), std::move(directory), log)) {}
Trainer::~Trainer() = default;
const TrainPlan& Trainer::plan() const { return impl_->plan; }
const TrainData& Trainer::data() const { return impl_->data; }
TrainResult Trainer::run(const std::atomic<bool>& stop, bool resume) { return impl_->run(stop, resume); }

}  // namespace trivet
