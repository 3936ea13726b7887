#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/base/hash.h"
#include "trivet/base/text.h"
#include "trivet/train/evaluation.h"
#include "trivet/train/trainer.h"

namespace trivet {
namespace {

std::string name_of(const DataFiles& files) { return files.main().string(); }

// What the model is trained to tell must be there, and be more than one thing.
void check_target(const TrainJob& job, const TrainData& data) {
  const DataTarget& target = data.train->target();
  const std::string file = name_of(job.data.train);
  if (target.kind == TargetKind::none) {
    throw Error(ErrorCode::data, fmt::format("{} has nothing to predict, training needs it", file),
                "name labels or targets, or train an autoencoder");
  }
  if (target.kind != TargetKind::label) return;
  if (job.model.classes > 0 && job.model.classes < target.classes) {
    throw Error(ErrorCode::data,
                fmt::format("{} has {} classes, the model has {} classes", file, target.classes, job.model.classes),
                fmt::format("set model.classes to {}, or leave it out", target.classes));
  }
  const std::int32_t first = data.labels.front();
  if (std::any_of(data.labels.begin(), data.labels.end(), [&](std::int32_t l) { return l != first; })) return;
  throw Error(ErrorCode::data,
              fmt::format("{}: the training split has samples of the class '{}' alone ({} of them)", file,
                          target.class_names[static_cast<std::size_t>(first)], data.labels.size()),
              "there is nothing to tell apart: use data with at least two classes");
}

// A test set of the same form, as far as the model goes.
void check_same_form(const TrainJob& job, const TrainData& data) {
  if (data.train->inputs() == data.test->inputs() && data.train->target_field() == data.test->target_field()) return;
  throw Error(ErrorCode::data,
              fmt::format("{} has another form than {}", name_of(*job.data.test), name_of(job.data.train)));
}

[[noreturn]] void refuse(const std::string& key, const std::string& value, Goal goal, const std::string& hint) {
  const char* what = goal == Goal::label ? "labels" : goal == Goal::number ? "numbers" : "reconstructions";
  throw Error(ErrorCode::job, fmt::format("{}: {} does not go with {}, which the model is to learn", key, value, what),
              hint);
}

constexpr std::int64_t kTopK = 5;  // of no use among fewer classes

// What is left to the data, filled in; what contradicts them, refused.
TrainConfig settled(const TrainJob& job, const ModelTask& task) {
  TrainConfig train = job.train;
  const Goal goal = task.goal();
  const bool labels = goal == Goal::label;
  CheckpointConfig& checkpoint = train.checkpoint;
  if (labels && !train.loss.empty()) refuse("train.loss", train.loss, goal, "remove it: labels have cross entropy");
  if (!labels && train.loss.empty()) train.loss = "mse";
  if (!labels && train.top_k > 1) refuse("train.top_k", std::to_string(train.top_k), goal, "remove it");
  if (labels && train.top_k > task.input.outputs) {
    refuse("train.top_k", std::to_string(train.top_k), goal, fmt::format("there are {} classes", task.input.outputs));
  }
  if (labels && train.top_k == 0) train.top_k = task.input.outputs > kTopK ? kTopK : 1;
  if (!labels && job.data.class_weights != "none")
    refuse("data.class_weights", job.data.class_weights, goal, "remove it");
  if (!labels && job.data.sampler != "shuffle") refuse("data.sampler", job.data.sampler, goal, "remove it");
  if (checkpoint.best_metric.empty()) checkpoint.best_metric = labels ? "accuracy" : "loss";
  const std::vector<std::string> known = labels ? std::vector<std::string>{"accuracy", "loss", "f1", "auc"}
                                                : std::vector<std::string>{"loss", "r2", "mae"};
  if (std::find(known.begin(), known.end(), checkpoint.best_metric) == known.end()) {
    refuse("train.checkpoint.best_metric", checkpoint.best_metric, goal, "one of " + join(known, ", "));
  }
  return train;
}

ModelTask make_task(const TrainJob& job, const TrainData& data) {
  ModelTask task;
  task.model = job.model;
  task.seed = job.seed;
  task.weighted = job.data.class_weights != "none";
  task.input.fields = data.train->inputs();
  for (std::size_t i = 0; i < task.input.fields.size(); ++i) {
    task.input.category_sizes.push_back(data.train->category_sizes(i));
  }
  if (reconstructs(job.model)) return task;
  task.target = data.train->target();
  if (task.target.kind == TargetKind::number) {
    task.input.outputs = static_cast<std::int64_t>(task.target.target_names.size());
    return task;
  }
  // A model may have more classes than the data: those are numbered.
  for (std::int64_t c = task.target.classes; c < job.model.classes; ++c) {
    task.target.class_names.push_back(std::to_string(c));
  }
  task.target.classes = std::max(task.target.classes, job.model.classes);
  task.model.classes = task.input.outputs = task.target.classes;
  return task;
}

std::size_t evaluation_bytes(const ModelTask& task, const TrainConfig& train, const SampleCounts& counts) {
  return Evaluation::planned_bytes(task, evaluation_batch(train), std::max(counts.validation, counts.test));
}

}  // namespace

TrainData TrainData::load(const TrainJob& job) {
  DataConfig config = job.data;
  config.classes = job.model.classes;
  return of(job, open_data(job.data.train, config), job.data.test ? open_data(*job.data.test, config) : nullptr);
}

TrainData TrainData::of(const TrainJob& job, std::unique_ptr<DataSource> train, std::unique_ptr<DataSource> test) {
  TrainData data;
  data.train_source = std::move(train);
  data.test_source = std::move(test);
  const std::int64_t count = data.train_source->count();
  data.split = split_indices(count, job.data.validation, job.seed);
  if (data.split.train.empty()) {
    throw Error(ErrorCode::data,
                fmt::format("{} has {} samples, none is left to train on", name_of(job.data.train), count),
                "lower data.validation or use more data");
  }
  DataConfig config = job.data;
  config.classes = job.model.classes;
  const bool with_target = !reconstructs(job.model);
  data.preparation = data.train_source->fit(data.split.train, config);
  data.train = data.train_source->prepare(data.preparation, with_target);
  if (data.train->target().kind == TargetKind::label) {
    for (const std::int64_t i : data.split.train)
      data.labels.push_back(static_cast<std::int32_t>(data.train->label(i)));
  }
  if (with_target) check_target(job, data);
  if (!data.test_source) return data;
  if (data.test_source->count() == 0) {
    throw Error(ErrorCode::data, fmt::format("{} has no samples", name_of(*job.data.test)), "leave data.test out");
  }
  data.test = data.test_source->prepare(data.preparation, with_target);
  check_same_form(job, data);
  return data;
}

SampleCounts TrainData::counts() const {
  return {static_cast<std::int64_t>(split.train.size()), static_cast<std::int64_t>(split.validation.size()),
          test ? test->count() : 0};
}

std::size_t TrainData::bytes() const {
  const auto indices = static_cast<std::size_t>(train->count()) * sizeof(std::int64_t);
  // The split, and the shuffled order of an epoch in the trainer and in the loader.
  return train_source->resident_bytes() + (test ? test_source->resident_bytes() : 0) + 3 * indices +
         labels.size() * sizeof(std::int32_t);
}

std::string TrainData::digest() const {
  return test ? sha256_hex(train_source->digest() + "\n" + test_source->digest()) : train_source->digest();
}

std::vector<std::int64_t> epoch_order(const TrainData& data, const DataConfig& config, std::uint64_t seed,
                                      std::int64_t epoch) {
  if (config.sampler == "balanced") return balanced(data.split.train, data.labels, seed, epoch);
  return shuffled(data.split.train, seed, epoch);
}

std::vector<double> class_weights(const TrainData& data, const DataConfig& config) {
  if (config.class_weights != "balanced") return {};
  std::vector<double> counts(static_cast<std::size_t>(data.train->target().classes));
  for (const std::int32_t label : data.labels) ++counts[static_cast<std::size_t>(label)];
  const auto there = std::count_if(counts.begin(), counts.end(), [](double n) { return n > 0; });
  const double share = static_cast<double>(data.labels.size()) / static_cast<double>(there);
  std::vector<double> weights;
  for (const double n : counts) weights.push_back(n > 0 ? share / n : 1.0);
  return weights;
}

namespace {

// Of the plan that needs most: they use the same memory one after the other.
std::size_t transient_bytes(const TrainPlans& plans) {
  std::size_t most = 0;
  for (const PlanPtr& plan : plans.all()) most = std::max(most, plan->transient_bytes);
  return most;
}

// A device with a memory of its own has the samples there, ready for the model, if they are always the same and take no
// more than half of it: then nothing but their numbers has to be brought in each step. 0: it has not.
std::int64_t resident_samples(const TrainJob& job, const TrainData& data, const Device& device) {
  if (!device.asynchronous() || job.data.augment != AugmentConfig{}) return 0;
  std::size_t sample = data.train->target_field() ? data.train->target_field()->bytes() : 0;
  for (const Field& field : data.train->inputs()) sample += field.bytes();
  const auto count = static_cast<std::size_t>(data.train->count());
  const std::size_t most = device.memory_bytes() / 2;
  return sample > 0 && count <= most / sample ? data.train->count() : 0;
}

}  // namespace

TrainPlan plan_job(const TrainJob& job, const TrainData& data, const Device& device) {
  TrainPlan plan;
  plan.task = make_task(job, data);
  plan.train = settled(job, plan.task);
  const std::size_t loaders =
      Loader::buffer_bytes(*data.train, own_slice(job.train, job.train.batch).count, job.data.prefetch) +
      Loader::buffer_bytes(*data.train, evaluation_batch(job.train), job.data.prefetch);
  const auto make_plans = [&](std::size_t transient_budget) {
    plan.plans = plan_training(plan.task, plan.train, data.counts(), device, transient_budget);
    plan.memory = report_memory(plan.plans.states, plan.plans.all(), device, data.bytes(), loaders,
                                evaluation_bytes(plan.task, plan.train, data.counts()));
  };
  plan.train.resident = resident_samples(job, data, device);
  make_plans(SIZE_MAX);
  const std::size_t budget = job.train.memory > 0 ? job.train.memory : device.memory_bytes();
  if (plan.memory.bounded() > budget && plan.train.resident > 0) {
    plan.train.resident = 0;
    make_plans(SIZE_MAX);
  }
  if (plan.memory.bounded() > budget) {
    // All but the transient part of the arena is what it is.
    const std::size_t transient = transient_bytes(plan.plans);
    const std::size_t excess = plan.memory.bounded() - budget;
    make_plans(transient > excess ? transient - excess : 0);
  }
  require_memory(plan.memory, device, job.train.memory, "the run",
                 "use a smaller train.batch, or train.micro_batch to accumulate gradients");
  return plan;
}

}  // namespace trivet
