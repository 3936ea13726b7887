#include "runtime/report/metric.h"

#include <fmt/format.h>

#include "trivet/base/text.h"
#include "trivet/report/report.h"

namespace trivet {
namespace report {
namespace {

std::string last_part(const std::string& key) {
  const std::size_t dot = key.rfind('.');
  return dot == std::string::npos ? key : key.substr(dot + 1);
}

bool is_top_k(const std::string& name) { return name.starts_with("top_"); }

}  // namespace

std::string metric_label(const std::string& name) {
  static const std::map<std::string, std::string> kLabels = {
      {"lr", "learning rate"},
      {"grad_norm", "gradient norm"},
      {"macro_f1", "macro F1"},
      {"weighted_f1", "weighted F1"},
      {"f1", "F1"},
      {"auc", "AUC"},
      {"r2", "R\u00b2"},
      {"mae", "mean absolute error"},
      {"rmse", "root mean squared error"},
      {"calibration_error", "calibration error"},
      {"samples_per_second", "training samples per second"},
      {"images_per_second", "images per second"},
      {"peak_resident_bytes", "memory at the peak"},
      {"planned_bytes", "memory planned"},
      {"seconds", "time"},
      {"steps", "optimizer steps"},
      {"checkpoint", "checkpoint of the results"},
  };
  if (const auto found = kLabels.find(name); found != kLabels.end()) return found->second;
  if (is_top_k(name)) return "top-" + name.substr(4) + " accuracy";
  std::string label = name;
  std::replace(label.begin(), label.end(), '_', ' ');
  return label;
}

bool is_percent(const std::string& key) {
  const std::string name = last_part(key);
  return name == "accuracy" || is_top_k(name);
}

Better better(const std::string& key) {
  const std::string name = last_part(key);
  for (const char* higher : {"accuracy", "f1", "macro_f1", "weighted_f1", "auc", "r2", "precision", "recall",
                             "samples_per_second", "images_per_second"}) {
    if (name == higher) return Better::higher;
  }
  for (const char* lower :
       {"loss", "mae", "rmse", "calibration_error", "seconds", "peak_resident_bytes", "planned_bytes"}) {
    if (name == lower) return Better::lower;
  }
  return is_top_k(name) ? Better::higher : Better::neither;
}

}  // namespace report

std::string format_result(const std::string& key, double value) {
  const std::string name = report::last_part(key);
  if (report::is_percent(name)) return fmt::format("{:.2f} %", 100 * value);
  const bool negative = value < 0 || value > 1e18;
  if (name.ends_with("_bytes") && !negative) return format_bytes(static_cast<std::uint64_t>(value));
  if (name == "seconds" && !negative) return format_seconds(value);
  if (value == std::floor(value) && std::abs(value) < 1e15) return fmt::format("{:.0f}", value);
  return fmt::format("{:.5g}", value);
}

}  // namespace trivet
