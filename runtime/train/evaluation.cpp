#include "trivet/train/evaluation.h"

#include <nlohmann/json.hpp>

#include "runtime/train/examples.h"
#include "trivet/base/error.h"
#include "trivet/train/scores.h"

namespace trivet {
namespace {

using nlohmann::json;

constexpr std::int64_t kScatterPoints = 500;

// RFC 4648, section 4.
std::string base64(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < n ? bytes[i + k] : 0U);
    for (std::size_t k = 0; k < 4; ++k) text += k <= n ? kAlphabet[group >> (18 - 6 * k) & 63U] : '=';
  }
  return text;
}

json image_json(const ShownSample& shape, std::span<const std::uint8_t> pixels) {
  return {{"height", shape.height}, {"width", shape.width}, {"channels", shape.channels}, {"pixels", base64(pixels)}};
}

}  // namespace

struct Evaluation::Impl {
  Impl(const ModelTask& t, Detail d, std::int64_t n)
      : task(t),
        goal(task.goal()),
        all(d == Detail::all),
        width(static_cast<std::size_t>(prediction_elements(task))),
        stride((n + kScatterPoints - 1) / kScatterPoints),
        numbers(goal == Goal::number ? width : 1) {
    if (goal != Goal::label) return;
    const bool keep = d != Detail::figures && LabelScores::kept_bytes(task.input.outputs, n) > 0;
    labels = std::make_unique<LabelScores>(task.input.outputs, keep ? n : 0);
  }

  void add_labels(const Batch& batch, std::span<const float> prediction);
  void add_numbers(const Batch& batch, std::span<const float> prediction);
  void add_reconstructions(const Batch& batch, std::span<const float> prediction);
  void add_scatter(double truth, double predicted);
  json shown(const Dataset& data, const Example& example) const;
  std::string class_name(double index) const { return task.target.class_names[static_cast<std::size_t>(index)]; }

  const ModelTask task;
  const Goal goal;
  const bool all;
  const std::size_t width;    // of a prediction
  const std::int64_t stride;  // samples from one scatter point to the next
  std::int64_t seen = 0;
  std::unique_ptr<LabelScores> labels;
  NumberScores numbers;
  std::vector<double> predicted, truth;  // of a batch
  json scatter = json::array();
  Examples examples;
};

void Evaluation::Impl::add_labels(const Batch& batch, std::span<const float> prediction) {
  const auto y = batch.targets<std::int32_t>();
  labels->add(prediction, y);
  for (std::size_t i = 0; all && i < y.size(); ++i) {
    const auto row = prediction.subspan(i * width, width);
    const auto best = std::max_element(row.begin(), row.end());
    Example e;
    e.sample = batch.sample[i];
    e.truth = y[i];
    e.predicted = static_cast<double>(best - row.begin());
    e.probability = static_cast<double>(*best);
    e.wrong = best - row.begin() != y[i];
    e.badness = e.wrong ? e.probability : 0;
    examples.add(std::move(e), {});
  }
}

void Evaluation::Impl::add_scatter(double t, double p) {
  if (all && seen % stride == 0) scatter.push_back({t, p});
  ++seen;
}

void Evaluation::Impl::add_numbers(const Batch& batch, std::span<const float> prediction) {
  const auto y = batch.targets<float>();
  predicted.resize(prediction.size());
  truth.resize(y.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double stddev = task.target.stddev[i % width], average = task.target.mean[i % width];
    predicted[i] = static_cast<double>(prediction[i]) * stddev + average;
    truth[i] = static_cast<double>(y[i]) * stddev + average;
  }
  numbers.add(predicted, truth);
  for (std::size_t i = 0; i < truth.size(); i += width) {
    add_scatter(truth[i], predicted[i]);
    if (!all) continue;
    Example e;
    e.sample = batch.sample[i / width];
    e.truth = truth[i];
    e.predicted = predicted[i];
    e.badness = std::abs(predicted[i] - truth[i]);
    examples.add(std::move(e), {});
  }
}

void Evaluation::Impl::add_reconstructions(const Batch& batch, std::span<const float> prediction) {
  const auto x = batch.input<float>(0);
  predicted.assign(prediction.begin(), prediction.end());
  truth.assign(x.begin(), x.end());
  numbers.add(predicted, truth);
  for (std::size_t i = 0; all && i < batch.sample.size(); ++i) {
    Example e;
    e.sample = batch.sample[i];
    for (std::size_t k = i * width; k < (i + 1) * width; ++k) e.badness += std::pow(predicted[k] - truth[k], 2);
    examples.add(std::move(e), prediction.subspan(i * width, width));
  }
}

json Evaluation::Impl::shown(const Dataset& data, const Example& e) const {
  json j = {{"sample", e.sample}};
  const ShownSample shown = data.show(e.sample);
  if (goal == Goal::label) {
    j["truth"] = class_name(e.truth);
    j["predicted"] = class_name(e.predicted);
    j["probability"] = e.probability;
  } else if (goal == Goal::number) {
    j["truth"] = e.truth;
    j["predicted"] = e.predicted;
  }
  if (!shown.pixels.empty()) {
    j["image"] = image_json(shown, shown.pixels);
    const std::vector<std::uint8_t> again = data.pixels(e.reconstruction);
    if (!again.empty()) j["reconstruction"] = image_json(shown, again);
  }
  if (!shown.columns.empty()) {
    j["columns"] = json::array();
    for (const auto& [name, value] : shown.columns) j["columns"].push_back({name, value});
  }
  return j;
}

Evaluation::Evaluation(const ModelTask& task, Detail detail, std::int64_t samples)
    : impl_(std::make_unique<Impl>(task, detail, samples)) {}
Evaluation::~Evaluation() = default;

void Evaluation::add(const Batch& batch, std::span<const float> prediction) {
  if (impl_->goal == Goal::label) return impl_->add_labels(batch, prediction);
  if (impl_->goal == Goal::number) return impl_->add_numbers(batch, prediction);
  impl_->add_reconstructions(batch, prediction);
}

void Evaluation::complete(Metrics& m) const {
  if (impl_->goal == Goal::label) {
    const LabelScores& scores = *impl_->labels;
    if (!m.accuracy) m.accuracy = scores.accuracy();
    m.macro_f1 = scores.macro_f1();
    m.weighted_f1 = scores.weighted_f1();
    m.calibration_error = scores.calibration_error();
    m.auc = scores.auc();
    return;
  }
  m.r2 = impl_->numbers.r2();
  m.mae = impl_->numbers.mae();
  m.rmse = impl_->numbers.rmse();
}

json Evaluation::report(const Dataset& data, std::string_view split, const Metrics& metrics) const {
  if (!impl_->all) throw Error(ErrorCode::internal, "a report of an evaluation without details");
  json j = metrics_json(metrics, 0);
  j["task"] = goal_name(impl_->goal);
  j["split"] = split;
  if (impl_->goal == Goal::label) {
    const LabelScores& scores = *impl_->labels;
    const std::vector<std::string>& names = impl_->task.target.class_names;
    if (metrics.top_k) j["top_k"] = *metrics.top_k;
    j["classes"] = names;
    const std::vector<std::int64_t>& matrix = scores.confusion();
    for (std::size_t row = 0; row * names.size() < matrix.size(); ++row) {
      const auto begin = matrix.begin() + static_cast<std::ptrdiff_t>(row * names.size());
      j["confusion"].push_back(std::vector<std::int64_t>(begin, begin + static_cast<std::ptrdiff_t>(names.size())));
    }
    const std::vector<ClassScore> per_class = scores.per_class();
    for (std::size_t c = 0; c < per_class.size(); ++c) {
      const ClassScore& s = per_class[c];
      j["per_class"].push_back(
          {{"name", names[c]}, {"precision", s.precision}, {"recall", s.recall}, {"f1", s.f1}, {"support", s.support}});
    }
    for (const CalibrationBin& bin : scores.calibration()) {
      j["calibration"].push_back({{"confidence", bin.confidence}, {"accuracy", bin.accuracy}, {"count", bin.count}});
    }
  }
  if (!impl_->scatter.empty()) j["scatter"] = impl_->scatter;
  j["shown"] = json::array();
  for (const Example& e : impl_->examples.chosen()) j["shown"].push_back(impl_->shown(data, e));
  return j;
}

std::size_t Evaluation::planned_bytes(const ModelTask& task, std::int64_t batch, std::int64_t samples) {
  const auto elements = static_cast<std::size_t>(prediction_elements(task)) * static_cast<std::size_t>(batch);
  if (task.goal() != Goal::label) return elements * (sizeof(float) + 2 * sizeof(double));
  const auto classes = static_cast<std::size_t>(task.input.outputs);
  const std::size_t counts = classes * 3 * sizeof(std::int64_t);
  const std::size_t matrix = classes <= LabelScores::kLargestMatrix ? classes * classes * sizeof(std::int64_t) : 0;
  return elements * sizeof(float) + counts + matrix + LabelScores::kept_bytes(task.input.outputs, samples);
}

}  // namespace trivet
