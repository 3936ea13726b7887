#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/base/hash.h"
#include "trivet/base/text.h"
#include "trivet/train/trainer.h"

namespace trivet {
namespace {

void check_labels(const ImageData& data, std::int64_t classes, const DataFiles& source) {
  if (data.labels.empty()) {
    throw Error(ErrorCode::data, fmt::format("{} has no labels, training needs them", source.images.string()),
                "name the label file under `labels`");
  }
  for (std::size_t i = 0; i < data.labels.size(); ++i) {
    if (data.labels[i] < 0 || data.labels[i] >= classes) {
      throw Error(ErrorCode::data,
                  fmt::format("{}: sample {} has label {}, the model has {} classes", source.labels.string(), i,
                              data.labels[i], classes),
                  fmt::format("set model.classes to {}", data.classes));
    }
  }
}

std::size_t resident(const ImageData& data) { return data.pixels.size() + data.labels.size() * sizeof(std::int32_t); }

}  // namespace

TrainData TrainData::load(const TrainJob& job) {
  TrainData data;
  data.train = load_images(job.data.train);
  check_labels(data.train, job.model.classes, job.data.train);
  if (job.data.test) {
    data.test = load_images(*job.data.test);
    check_labels(*data.test, job.model.classes, *job.data.test);
    const ImageData& a = data.train;
    const ImageData& b = *data.test;
    if (a.height != b.height || a.width != b.width || a.channels != b.channels) {
      throw Error(ErrorCode::data,
                  fmt::format("{} has images of {}x{}x{}, {} of {}x{}x{}", job.data.test->images.string(), b.height,
                              b.width, b.channels, job.data.train.images.string(), a.height, a.width, a.channels));
    }
  }
  data.split = split_indices(data.train.count, job.data.validation, job.seed);
  if (data.split.train.empty()) {
    throw Error(
        ErrorCode::data,
        fmt::format("{} has {} samples, none is left to train on", job.data.train.images.string(), data.train.count),
        "lower data.validation or use more data");
  }
  data.normalization = job.data.normalize ? compute_normalization(data.train, data.split.train)
                                          : Normalization::unit(data.train.channels);
  return data;
}

SampleCounts TrainData::counts() const {
  return {static_cast<std::int64_t>(split.train.size()), static_cast<std::int64_t>(split.validation.size()),
          test ? test->count : 0};
}

std::size_t TrainData::bytes() const {
  const auto indices = static_cast<std::size_t>(train.count) * sizeof(std::int64_t);
  // The split, and the shuffled order of an epoch in the trainer and in the loader.
  return resident(train) + (test ? resident(*test) : 0) + 3 * indices;
}

std::string TrainData::digest() const { return test ? sha256_hex(train.digest + "\n" + test->digest) : train.digest; }

TrainPlan plan_job(const TrainJob& job, const TrainData& data, const Device& device) {
  TrainPlan plan;
  plan.task = {job.model, {data.train.height, data.train.width, data.train.channels}, job.seed};
  plan.plans = plan_training(plan.task, job.train, data.counts(), device);
  const std::size_t sample = data.train.sample_elements();
  const std::int64_t pass = job.train.micro_batch > 0 ? job.train.micro_batch : job.train.batch;
  const std::size_t loaders = Loader::buffer_bytes(sample, job.train.batch, job.data.prefetch) +
                              Loader::buffer_bytes(sample, pass, job.data.prefetch);
  plan.memory = report_memory(plan.plans.states, plan.plans.all(), data.bytes(), loaders);
  if (plan.memory.total() > device.memory_bytes()) {
    throw Error(ErrorCode::memory,
                fmt::format("the run needs up to {}, this machine has {}", format_bytes(plan.memory.total()),
                            format_bytes(device.memory_bytes())),
                "use a smaller train.batch, or train.micro_batch to accumulate gradients");
  }
  return plan;
}

Metrics mean(const MetricSums& s) {
  const double n = static_cast<double>(std::max<std::int64_t>(1, s.samples));
  return {s.loss / n, s.correct / n, s.top_k / n, s.samples};
}

}  // namespace trivet
