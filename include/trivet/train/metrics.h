// The figures of a split, as logs, records and the choice of the best checkpoint have them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "trivet/train/graphs.h"

namespace trivet {

// Sums over samples; divide by `samples`.
struct MetricSums {
  double loss = 0;
  double correct = 0;
  double top_k = 0;
  std::int64_t samples = 0;

  MetricSums& operator+=(const MetricSums& other) {
    loss += other.loss;
    correct += other.correct;
    top_k += other.top_k;
    samples += other.samples;
    return *this;
  }
};

// What does not apply, or was not measured, is absent.
struct Metrics {
  double loss = 0;  // mean over the samples, without weights
  std::int64_t samples = 0;
  std::optional<double> accuracy, top_k;                                // labels
  std::optional<double> macro_f1, weighted_f1, auc, calibration_error;  // labels, from all predictions at once
  std::optional<double> r2, mae, rmse;  // numbers, in their own unit; reconstructions, in the unit of the model's input
};

Metrics mean(const MetricSums& sums, Goal goal);

// {"loss", "samples", "accuracy", "top_5", "macro_f1", "weighted_f1", "auc", "calibration_error", "r2", "mae", "rmse"}
nlohmann::json metrics_json(const Metrics& metrics, std::int64_t top_k);

// "validation loss 0.1234, accuracy 91.00 %, top-5 99.00 %"
std::string metrics_text(std::string_view split, const Metrics& metrics, std::int64_t top_k);

// The value of CheckpointConfig::best_metric; none if it was not measured.
std::optional<double> best_metric_value(const Metrics& metrics, std::string_view name);
bool larger_is_better(std::string_view best_metric);

}  // namespace trivet
