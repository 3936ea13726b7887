#include "runtime/infer/calibration.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/data/loader.h"
#include "trivet/data/split.h"
#include "trivet/passes/quantize.h"

namespace trivet {
namespace {

constexpr std::size_t kSamples = 512;
constexpr std::string_view kLowest = "lowest/";

Graph f32_graph(ModelTask task, std::int64_t samples) {
  task.model.precision = "f32";
  return optimized(predict_graph(task, samples));
}

// Some of `from`, the same in every run, as whole passes: the last one is filled up with samples seen before.
std::vector<std::int64_t> chosen(std::span<const std::int64_t> from, std::uint64_t seed) {
  std::vector<std::int64_t> order = shuffled(from, seed, 0);
  order.resize(std::min(order.size(), kSamples));
  for (std::size_t i = 0; order.size() % kCalibrationBatch != 0; ++i) order.push_back(order[i]);
  return order;
}

}  // namespace

CalibrationData CalibrationData::of_training(const TrainJob& job, const TrainState& model) {
  DataConfig config = job.data;
  config.classes = job.model.classes;
  CalibrationData data;
  data.source = open_data(job.data.train, config);
  data.owned = data.source->prepare(model.preparation, false);
  data.samples = data.owned.get();
  data.name = "the training data, " + job.data.train.main().string();
  const std::vector<std::int64_t> train = split_indices(data.source->count(), job.data.validation, job.seed).train;
  if (train.empty() || data.samples->inputs() != model.task.input.fields) {
    throw Error(ErrorCode::data,
                fmt::format("{} is not what the model was trained on", job.data.train.main().string()));
  }
  data.order = chosen(train, job.seed);
  return data;
}

CalibrationData CalibrationData::of_samples(const Dataset& samples, const TrainState& model) {
  CalibrationData data;
  data.samples = &samples;
  data.name = "the data at hand";
  std::vector<std::int64_t> all(static_cast<std::size_t>(samples.count()));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  data.order = chosen(all, model.seed);
  return data;
}

std::size_t CalibrationData::bytes() const {
  return (source ? source->resident_bytes() : 0) + Loader::buffer_bytes(*samples, kCalibrationBatch, 0);
}

Graph int8_graph(const ModelTask& task, std::int64_t samples) { return quantize(f32_graph(task, samples)); }

Graph range_graph(const ModelTask& task) { return with_ranges(f32_graph(task, kCalibrationBatch)); }

nlohmann::json calibrate(const CalibrationData& data, const PlanPtr& ranges, const std::shared_ptr<Arena>& arena) {
  Session session(arena, ranges);
  std::map<std::string, std::pair<float, float>> found;
  LoaderConfig loading;
  loading.batch = kCalibrationBatch;
  loading.prefetch = 0;
  Loader loader(*data.samples, loading);
  loader.start(data.order, 0);
  Batch batch;
  while (loader.next(batch)) {
    for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
      session.set_input(data.samples->inputs()[i].name, batch.inputs[i].data(), batch.inputs[i].size());
    }
    session.run();
    for (const auto& [output, value] : ranges->outputs) {
      if (!output.starts_with(kLowest)) continue;
      const std::string name = output.substr(kLowest.size());
      const float lowest = session.scalar(output), highest = session.scalar("highest/" + name);
      auto& [low, high] = found.try_emplace(name, lowest, highest).first->second;
      low = std::min(low, lowest);  // a NaN shows in quantization_of(), because no comparison with it holds
      high = std::max(high, highest);
      if (std::isnan(lowest) || std::isnan(highest)) low = high = std::numeric_limits<float>::quiet_NaN();
    }
  }
  nlohmann::json record = {{"data", data.name}, {"samples", data.order.size()}, {"ranges", nlohmann::json::object()}};
  for (const auto& [name, range] : found) {
    const Quantization q = quantization_of(range.first, range.second);
    arena->set_state("scale/" + name, Tensor::scalar_f32(q.scale));
    if (arena->states().find("zero_point/" + name)) {
      arena->set_state("zero_point/" + name, Tensor::of<std::uint8_t>(DType::u8, {}, std::span(&q.zero_point, 1)));
    }
    record["ranges"][name] = {range.first, range.second};
  }
  return record;
}

}  // namespace trivet
