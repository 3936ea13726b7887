#include "trivet/train/trainer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/train/resident.h"
#include "runtime/train/trainer_impl.h"
#include "runtime/train/updates.h"
#include "trivet/base/clock.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/exec/float_cast.h"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet {
namespace {

using nlohmann::json;

TrainJob of_rank(TrainJob job, const Communicator* others) {
  job.train.ranks = others ? others->size() : 1;
  job.train.rank = others ? others->rank() : 0;
  return job;
}

float share_of(std::int64_t samples, std::int64_t of) {
  return static_cast<float>(static_cast<double>(samples) / static_cast<double>(of));
}

}  // namespace

Trainer::Impl::Impl(TrainJob j, TrainData read, std::shared_ptr<const Device> d, fs::path dir, RunLog& l,
                    std::shared_ptr<Communicator> others)
    : job(of_rank(std::move(j), others.get())),
      device(std::move(d)),
      directory(std::move(dir)),
      log(l),
      ranks(std::move(others)),
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

void Trainer::Impl::prepare() {
  if (ranks.is_root()) folder.prepare();
  ranks.require_equal(plan.plans.graph_hash + data.digest(), "a model, settings or data");
  arena = std::make_shared<Arena>(device, plan.plans.states, plan.plans.all());
  arena->set_collectives(ranks.collectives(device, job.train));
  step_passes = make_passes(arena, plan.plans.step);
  accumulate_passes = make_passes(arena, plan.plans.accumulate);
  shard_passes = make_passes(arena, plan.plans.shard);
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
  if (ranks.is_root()) log.cut_metrics(0);
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
  folder.load_tensors(state.step, *arena, plan.plans.sharded.empty());
  log.cut_metrics(state.metrics_bytes);
  log.line(fmt::format("going on from checkpoint {}: epoch {}, batch {}", state.step, state.epoch + 1, state.batch));
}

// Whether this rank keeps the average of a state.
bool Trainer::Impl::has_average(const Value& value) const {
  return is_averaged(value) && arena->states().find(average_name(value.name));
}

// At train.average.start_step the averages are the parameters themselves.
void Trainer::Impl::start_averages() {
  if (!job.train.average || state.step != job.train.average->start_step) return;
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (!has_average(slot.value)) continue;
    const Tensor parameter = arena->get_state(slot.value.name);
    arena->set_state(average_name(slot.value.name), float_cast(parameter.type, parameter.data, DType::f32));
  }
}

// From that step on checkpoints and evaluation have the averages under the parameters' names, and the parameters where
// set_aside_name() says.
void Trainer::Impl::use_averages() {
  if (!averages()) return;
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (!has_average(slot.value)) continue;
    const Tensor average = arena->get_state(average_name(slot.value.name));
    arena->set_state(set_aside_name(slot.value), arena->get_state(slot.value.name));
    arena->set_state(slot.value.name, float_cast(average.type, average.data, slot.value.type.dtype));
  }
  ranks.share_from_owners(*arena, plan.plans.sharded);
}

// Undoes use_averages().
void Trainer::Impl::use_parameters() {
  if (!averages()) return;
  for (const StateLayout::Slot& slot : arena->states().slots()) {
    if (!has_average(slot.value)) continue;
    const std::string aside = set_aside_name(slot.value);
    const Tensor parameter = arena->get_state(aside);
    if (aside == average_name(slot.value.name)) arena->set_state(aside, arena->get_state(slot.value.name));
    arena->set_state(slot.value.name, parameter);
  }
  ranks.share_from_owners(*arena, plan.plans.sharded);
}

// Each sample's share of the gradient: the weight of its class by the sum over the batch.
void Trainer::Impl::weigh(const Batch& batch, std::int64_t count) {
  if (weights.empty()) return;
  const std::int64_t shards = job.train.shards > 0 ? job.train.shards / ranks.size() : 1;
  const std::span<const std::int32_t> labels = batch.targets<std::int32_t>();
  std::vector<double> sums(static_cast<std::size_t>(shards));
  std::size_t label = 0;
  for (std::int64_t i = 0; i < shards; ++i) {
    const std::int64_t n =
        shards == 1 ? batch.count : slice_of(count, ranks.rank() * shards + i, job.train.shards).count;
    for (std::int64_t k = 0; k < n; ++k) {
      sums[static_cast<std::size_t>(i)] += weights[static_cast<std::size_t>(labels[label++])];
    }
  }
  const double sum = ranks.sum_rows(std::move(sums), 1).front();
  sample_weights.clear();
  for (const std::int32_t l : labels) {
    sample_weights.push_back(static_cast<float>(weights[static_cast<std::size_t>(l)] / sum));
  }
}

void Trainer::Impl::feed(Pass& pass, const Batch& batch, Slice slice) {
  const auto begin = static_cast<std::size_t>(slice.first);
  const auto n = static_cast<std::size_t>(slice.count);
  const auto all = static_cast<std::size_t>(batch.count);
  const std::vector<Field>& fields = plan.task.input.fields;
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {  // none if they lie in the device's memory
    const std::size_t bytes = batch.inputs[i].size() / all;
    pass.set(fields[i].name, batch.inputs[i].subspan(begin * bytes, n * bytes));
  }
  if (pass.wants_y && !batch.y.empty())
    pass.set("y", batch.y.subspan(begin * (batch.y.size() / all), n * (batch.y.size() / all)));
  if (pass.wants_sample) pass.set("sample", batch.sample.subspan(begin, n));
}

// A pass over one sample, for a rank or shard that has none in this step: its share of everything is 0.
void Trainer::Impl::feed_nothing(Pass& pass) {
  const Plan& p = pass.session.plan();
  for (const auto& [name, value] : p.inputs) {
    const std::size_t bytes = p.values[static_cast<std::size_t>(value)].type.bytes();
    zeros.resize(std::max(zeros.size(), bytes));
    pass.session.set_input(name, zeros.data(), bytes);
  }
}

// A pass over `slice` of this rank's part of a step of `count` samples, which may be the step's last one.
MetricSums Trainer::Impl::run_pass(Pass& pass, const Batch& batch, Slice slice, std::int64_t count) {
  MetricSums sums;
  if (slice.count == 0) {
    feed_nothing(pass);
  } else {
    feed(pass, batch, slice);
    if (weights.empty()) {
      pass.set_scalar("inv_count", 1.0F / static_cast<float>(count));
    } else {
      pass.set("weight", std::span<const float>(sample_weights)
                             .subspan(static_cast<std::size_t>(slice.first), static_cast<std::size_t>(slice.count)));
    }
    if (pass.wants_share) pass.set_scalar("share", share_of(slice.count, count));
  }
  if (pass.wants_step) pass.set_scalar("step", state.step + 1);
  if (pass.wants_lr) pass.set_scalar("lr", static_cast<float>(rate()));
  pass.session.run();
  if (slice.count > 0) pass.add_sums(sums, slice.count);
  return sums;
}

// `batch`: this rank's part of the step's `count` samples.
void Trainer::Impl::optimizer_step(const Batch& batch, std::int64_t count, const std::atomic<bool>& stop) {
  weigh(batch, count);
  std::vector<MetricSums> sums;
  const TrainConfig& train = job.train;
  if (train.shards > 0) {
    const std::int64_t own = train.shards / train.ranks;
    const std::int64_t begin = own_slice(train, count).first;
    for (std::int64_t leaf = 0; leaf < own; ++leaf) {
      Slice slice = slice_of(count, train.rank * own + leaf, train.shards);
      slice.first -= begin;
      Pass& pass = *shard_passes.at({std::max<std::int64_t>(slice.count, 1), ShardPlace::of(leaf)});
      sums.push_back(run_pass(pass, batch, slice, count));
    }
  } else if (apply_pass) {
    Slice slice;
    sums.emplace_back();
    for (const std::int64_t piece : pieces(batch.count, train.micro_batch)) {
      slice.count = piece;
      sums.back() += run_pass(*accumulate_passes.at(piece), batch, slice, count);
      slice.first += piece;
    }
  } else {
    Pass& pass = *step_passes.at(std::max<std::int64_t>(batch.count, 1));
    sums.push_back(run_pass(pass, batch, {0, batch.count}, count));
  }
  const double lr = rate();
  if (apply_pass) {
    apply_pass->set_scalar("lr", static_cast<float>(lr));
    if (apply_pass->wants_step) apply_pass->set_scalar("step", state.step + 1);
    if (apply_pass->wants_share) apply_pass->set_scalar("share", share_of(batch.count, count));
    apply_pass->session.run();
  }
  std::vector<double> rows;
  for (const MetricSums& s : sums) {
    rows.insert(rows.end(), {s.loss, s.correct, s.top_k, stop.load(std::memory_order_relaxed) ? 1.0 : 0.0});
  }
  const std::vector<double> all = ranks.sum_rows(std::move(rows), 4);
  state.sums += MetricSums{all[0], all[1], all[2], count};
  stopping = all[3] > 0;
  ++state.step;
  ++state.batch;
  start_averages();
  std::optional<double> grad_norm;
  if (train.clip_norm > 0) {
    Pass& updater = apply_pass ? *apply_pass : *step_passes.at(std::max<std::int64_t>(batch.count, 1));
    grad_norm = static_cast<double>(updater.session.scalar("grad_norm"));
  }
  after_step(all[0] / static_cast<double>(count), lr, grad_norm);
}

// Of a model in f16, after the step. Error(diverged) if it cannot fall any further.
std::optional<LossScale> Trainer::Impl::read_loss_scale() const {
  if (!arena->states().find(kLossScale)) return std::nullopt;
  LossScale now;
  now.scale = static_cast<double>(arena->get_state(kLossScale).as<float>()[0]);
  now.skipped = arena->get_state(kSkippedSteps).as<std::int64_t>()[0];
  const std::int64_t good = arena->get_state(kGoodSteps).as<std::int64_t>()[0];
  if (now.scale > kernels::kLeastLossScale || good > 0 || now.skipped == 0) return now;
  throw Error(ErrorCode::diverged,
              fmt::format("step {} was skipped, like {} others, because a gradient in f16 was not finite, and the loss "
                          "scale is at its least, {:g}",
                          state.step, now.skipped - 1, now.scale),
              "lower train.optimizer.lr, add train.clip_norm, or use model.precision: bf16; the last checkpoint stays");
}

void Trainer::Impl::after_step(double loss, double lr, std::optional<double> grad_norm) {
  if (!std::isfinite(loss)) {
    throw Error(ErrorCode::diverged,
                fmt::format("the loss is {} at step {} (epoch {}, batch {}), learning rate {:g}", loss, state.step,
                            state.epoch + 1, state.batch, lr),
                kDivergedHint);
  }
  if (state.step % log_every != 0) return;
  const std::optional<LossScale> loss_scale = read_loss_scale();
  if (ranks.is_root()) {
    json record = {{"kind", "step"}, {"step", state.step}, {"epoch", state.epoch + 1}, {"loss", loss}, {"lr", lr}};
    if (grad_norm) record["grad_norm"] = *grad_norm;
    if (loss_scale) {
      record["loss_scale"] = loss_scale->scale;
      record["skipped_steps"] = loss_scale->skipped;
    }
    log.metrics(record);
  }
}

bool Trainer::Impl::interrupted() {
  if (!stopping) return false;
  save();
  log.line(fmt::format("stopped at step {} with a checkpoint", state.step));
  return true;
}

// This rank's part of the epoch's batches.
std::vector<std::int64_t> Trainer::Impl::own_order() const {
  std::vector<std::int64_t> order = epoch_order(data, job.data, job.seed, state.epoch);
  if (ranks.size() == 1) return order;
  std::vector<std::int64_t> own;
  const auto samples = static_cast<std::int64_t>(order.size());
  for (std::int64_t first = 0; first < samples; first += job.train.batch) {
    const Slice slice = own_slice(job.train, std::min(job.train.batch, samples - first));
    const auto begin = order.begin() + first + slice.first;
    own.insert(own.end(), begin, begin + slice.count);
  }
  return own;
}

// False if it was stopped.
bool Trainer::Impl::train_epoch(Loader& loader, const std::atomic<bool>& stop) {
  loader.start(own_order(), state.epoch, state.batch);
  const double phase_began = steady_seconds();
  const std::int64_t samples_before = state.sums.samples;
  const std::int64_t samples = data.counts().train;
  while (state.batch < batches) {
    const std::int64_t count = std::min(job.train.batch, samples - state.batch * job.train.batch);
    Batch batch;
    if (own_slice(job.train, count).count > 0) loader.next(batch);
    optimizer_step(batch, count, stop);
    tell("train", state.batch, batches, state.sums.samples, samples, phase_began, samples_before,
         mean(state.sums, goal).loss);
    const bool due = job.train.checkpoint.every_steps > 0 && state.step % job.train.checkpoint.every_steps == 0;
    if (due && state.batch < batches) save();
    if (interrupted()) return false;
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

// By rank 0; ranks that keep a part of the optimizer's states come along.
void Trainer::Impl::save() {
  if (!ranks.is_root() && plan.plans.sharded.empty()) return;
  if (ranks.is_root()) {
    require_finite();
    state.seconds = steady_seconds() - began;
    state.metrics_bytes = log.sync_metrics();
  }
  use_averages();
  ranks.save(folder, *arena, state, plan.plans.sharded);
  use_parameters();
  if (ranks.is_root()) folder.prune(job.train.checkpoint.keep_last, state.best_step);
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

// What rank 0 notes of an epoch; true if a checkpoint is due.
bool Trainer::Impl::finish_epoch(const std::optional<Metrics>& validation, double seconds) {
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
  return last || is_best || state.epoch % job.train.checkpoint.every_epochs == 0;
}

TrainResult Trainer::Impl::run(const std::atomic<bool>& stop, bool resume) {
  prepare();
  for (const json& warning : data.preparation.values.value("warnings", json::array())) {
    if (warning.is_string()) log.warn(warning.get<std::string>());
  }
  if (resume && ranks.is_root()) {
    resume_from_newest();
  } else {
    start_fresh();
  }
  ranks.share_course(state);
  if (state.step > 0) {
    ranks.share_states(*arena, plan.plans.sharded);
    if (!plan.plans.sharded.empty()) ranks.load_optimizer(folder, state.step, *arena, plan.plans.sharded);
    use_parameters();
  }
  began = steady_seconds() - state.seconds;

  LoaderConfig config;
  config.batch = own_slice(job.train, job.train.batch).count;
  config.prefetch = job.data.prefetch;
  config.train = true;
  config.seed = job.seed;
  std::optional<SampleNumbers> numbers;
  if (job.train.resident > 0) {
    upload_samples(*data.train, *arena);
    numbers.emplace(*data.train, !weights.empty());
  }
  Loader loader(numbers ? *numbers : *data.train, config);
  TrainResult stopped;
  stopped.interrupted = true;
  while (state.epoch < job.train.epochs && !stopped_early()) {
    const double epoch_began = steady_seconds();
    const bool finished = train_epoch(loader, stop);
    std::optional<Metrics> validation;
    if (finished && !data.split.validation.empty()) validation = validate(stop);
    if (!finished || interrupted()) {
      stopped.steps = state.step;
      stopped.seconds = steady_seconds() - began;
      return stopped;
    }
    bool due = ranks.is_root() && finish_epoch(validation, steady_seconds() - epoch_began);
    if (!plan.plans.sharded.empty()) due = ranks.agree(due);
    if (due) save();
    ranks.share_course(state);
  }
  return finish();
}

Trainer::Trainer(TrainJob job, std::shared_ptr<const Device> device, std::filesystem::path directory, RunLog& log,
                 std::shared_ptr<Communicator> others) {
  TrainData data = TrainData::load(job);
  impl_ = std::make_unique<Impl>(std::move(job), std::move(data), std::move(device), std::move(directory), log,
                                 std::move(others));
}
Trainer::Trainer(TrainJob job, TrainData data, std::shared_ptr<const Device> device, std::filesystem::path directory,
                 RunLog& log, std::shared_ptr<Communicator> others)
    : impl_(std::make_unique<Impl>(std::move(job), std::move(data), std::move(device), std::move(directory), log,
                                   std::move(others))) {}
Trainer::~Trainer() = default;
const TrainPlan& Trainer::plan() const { return impl_->plan; }
const TrainData& Trainer::data() const { return impl_->data; }
TrainResult Trainer::run(const std::atomic<bool>& stop, bool resume) {
  try {
    return impl_->run(stop, resume);
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    impl_->ranks.abort(error ? error->message() : e.what());
    throw;
  }
}

}  // namespace trivet
