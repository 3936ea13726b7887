#include "trivet/train/metrics.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace trivet {

Metrics mean(const MetricSums& s, Goal goal) {
  const double n = static_cast<double>(std::max<std::int64_t>(1, s.samples));
  Metrics m;
  m.loss = s.loss / n;
  m.samples = s.samples;
  if (goal == Goal::label) {
    m.accuracy = s.correct / n;
    if (s.top_k > 0) m.top_k = s.top_k / n;  // stays 0 where it is not counted (train.top_k: 1)
  }
  return m;
}

nlohmann::json metrics_json(const Metrics& m, std::int64_t top_k) {
  nlohmann::json j = {{"loss", m.loss}, {"samples", m.samples}};
  const auto put = [&](const std::string& key, const std::optional<double>& value) {
    if (value) j[key] = *value;
  };
  put("accuracy", m.accuracy);
  if (top_k > 1) put(fmt::format("top_{}", top_k), m.top_k);
  put("macro_f1", m.macro_f1);
  put("weighted_f1", m.weighted_f1);
  put("auc", m.auc);
  put("calibration_error", m.calibration_error);
  put("r2", m.r2);
  put("mae", m.mae);
  put("rmse", m.rmse);
  return j;
}

std::string metrics_text(std::string_view split, const Metrics& m, std::int64_t top_k) {
  std::string text = fmt::format("{} loss {:.4f}", split, m.loss);
  if (m.accuracy) text += fmt::format(", accuracy {:.2f} %", 100 * *m.accuracy);
  if (m.top_k && top_k > 1) text += fmt::format(", top-{} {:.2f} %", top_k, 100 * *m.top_k);
  if (m.macro_f1) text += fmt::format(", F1 {:.4f}", *m.macro_f1);
  if (m.auc) text += fmt::format(", AUC {:.4f}", *m.auc);
  if (m.r2) text += fmt::format(", R2 {:.4f}", *m.r2);
  if (m.mae) text += fmt::format(", mean absolute error {:.4g}", *m.mae);
  return text;
}

std::optional<double> best_metric_value(const Metrics& m, std::string_view name) {
  if (name == "accuracy") return m.accuracy;
  if (name == "f1") return m.macro_f1;
  if (name == "auc") return m.auc;
  if (name == "r2") return m.r2;
  if (name == "mae") return m.mae;
  return m.loss;
}

bool larger_is_better(std::string_view best_metric) { return best_metric != "loss" && best_metric != "mae"; }

}  // namespace trivet
