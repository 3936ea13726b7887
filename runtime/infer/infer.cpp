#include "trivet/infer/infer.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "trivet/base/clock.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/text.h"
#include "trivet/data/loader.h"
#include "trivet/formats/table_writer.h"

namespace trivet {
namespace {

std::int64_t step_of(const fs::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  std::int64_t step = -1;
  const std::size_t dash = name.find('-');
  if (dash != std::string::npos) std::from_chars(name.data() + dash + 1, name.data() + name.size(), step);
  return step;
}

}  // namespace

ChosenCheckpoint choose_checkpoint(const InferConfig& config) {
  const fs::path run = fs::weakly_canonical(config.run);
  if (!fs::exists(run)) {
    throw Error(ErrorCode::checkpoint, fmt::format("{}: there is no such run or checkpoint", config.run.string()),
                "`trivet runs` lists the runs of this workspace");
  }
  if (fs::exists(run / "state.json")) {  // a checkpoint itself
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
  std::vector<PlanPtr> result;
  for (const auto& [samples, plan] : predict) result.push_back(plan);
  return result;
}

InferPlan plan_inference(const InferConfig& config, const TrainState& model, const ImageData& data,
                         const Device& device) {
  const Shape shape = {data.height, data.width, data.channels};
  if (shape != model.task.sample_shape) {
    throw Error(ErrorCode::data,
                fmt::format("{} has images of {}, the model was trained on {}", config.data.images.string(),
                            to_string(shape), to_string(model.task.sample_shape)));
  }
  if (data.count == 0) throw Error(ErrorCode::data, fmt::format("{} has no images", config.data.images.string()));
  InferPlan plan;
  for (const std::int64_t samples : pieces(data.count, config.batch)) {
    if (!plan.predict.contains(samples)) {
      plan.predict[samples] = compile_graph(predict_graph(model.task, samples), plan.states, device);
    }
  }
  const std::size_t resident = data.pixels.size() + data.labels.size() * sizeof(std::int32_t) +
                               2 * static_cast<std::size_t>(data.count) * sizeof(std::int64_t);
  constexpr std::int64_t kPrefetch = 4;
  plan.memory = report_memory(plan.states, plan.all(), resident,
                              Loader::buffer_bytes(data.sample_elements(), config.batch, kPrefetch));
  if (plan.memory.total() > device.memory_bytes()) {
    throw Error(ErrorCode::memory,
                fmt::format("inference needs up to {}, this machine has {}", format_bytes(plan.memory.total()),
                            format_bytes(device.memory_bytes())),
                "use a smaller infer.batch");
  }
  return plan;
}

InferResult run_inference(const InferConfig& config, std::shared_ptr<const Device> device,
                          const std::atomic<bool>& stop, RunLog& log) {
  const ChosenCheckpoint chosen = choose_checkpoint(config);
  log.line(fmt::format("model: {}", chosen.path.string()));
  const ImageData data = load_images(config.data);
  const InferPlan plan = plan_inference(config, chosen.state, data, *device);
  const auto arena = std::make_shared<Arena>(device, plan.states, plan.all());
  CheckpointFolder(chosen.path.parent_path()).load_tensors(chosen.state.step, *arena, false);
  std::map<std::int64_t, std::unique_ptr<Session>> sessions;
  for (const auto& [samples, compiled] : plan.predict) sessions[samples] = std::make_unique<Session>(arena, compiled);

  const std::int64_t classes = chosen.state.task.model.classes;
  const bool labels = !data.labels.empty();
  const auto writer = PredictionWriter::create(config.format, config.output, {data.count, classes, labels});
  LoaderConfig loading;
  loading.batch = config.batch;
  loading.normalization = chosen.state.normalization;
  Loader loader(data, loading);
  std::vector<std::int64_t> order(static_cast<std::size_t>(data.count));
  std::iota(order.begin(), order.end(), std::int64_t{0});

  InferResult result;
  std::vector<float> probabilities(static_cast<std::size_t>(config.batch * classes));
  std::int64_t correct = 0;
  const double began = steady_seconds();
  loader.start(std::move(order), 0);
  Batch batch;
  while (loader.next(batch)) {
    Session& session = *sessions.at(batch.count);
    session.set_input("x", batch.x.data(), batch.x.size_bytes());
    session.run();
    const auto row = static_cast<std::size_t>(classes);
    const std::span<float> out(probabilities.data(), static_cast<std::size_t>(batch.count) * row);
    session.read_output("probabilities", out.data(), out.size_bytes());
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch.count); ++i) {
      const std::span<const float> p = out.subspan(i * row, row);
      const std::optional<std::int32_t> label = labels ? std::optional(batch.y[i]) : std::nullopt;
      writer->add(batch.sample[i], p, label);
      if (label && std::max_element(p.begin(), p.end()) - p.begin() == *label) ++correct;
    }
    result.samples += batch.count;
    Progress progress;
    progress.phase = "infer";
    progress.step = batch.index + 1;
    progress.steps = batch_count(data.count, config.batch);
    progress.samples = result.samples;
    progress.total = data.count;
    progress.seconds = steady_seconds() - began;
    if (progress.seconds > 0) {
      progress.rate = static_cast<double>(result.samples) / progress.seconds;
      progress.left = static_cast<double>(data.count - result.samples) / progress.rate;
    }
    log.progress(progress);
    if (stop.load(std::memory_order_relaxed) && result.samples < data.count) {
      result.interrupted = true;
      return result;
    }
  }
  writer->commit();
  result.seconds = steady_seconds() - began;
  if (labels) result.accuracy = static_cast<double>(correct) / static_cast<double>(data.count);
  nlohmann::json record = {{"kind", "final"},
                           {"samples", result.samples},
                           {"seconds", result.seconds},
                           {"images_per_second", static_cast<double>(result.samples) / result.seconds},
                           {"checkpoint", chosen.path.string()},
                           {"output", config.output.string()},
                           {"data_digest", data.digest}};
  if (result.accuracy) record["accuracy"] = *result.accuracy;
  log.metrics(record);
  log.sync_metrics();
  return result;
}

}  // namespace trivet
