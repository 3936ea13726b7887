// A small model that predicts a number, in a precision.
#pragma once

#include "trivet/train/graphs.h"

namespace trivet::testing {

inline constexpr std::int64_t kFeatures = 8;

// `hidden` empty: a linear model.
inline ModelTask number_task(const std::string& precision, std::vector<std::int64_t> hidden) {
  ModelTask task;
  task.model.name = hidden.empty() ? "logistic" : "mlp";
  task.model.hidden = std::move(hidden);
  task.model.precision = precision;
  task.input.fields = {{"x", DType::f32, {kFeatures}}};
  task.input.category_sizes = {{}};
  task.input.outputs = 1;
  task.target.kind = TargetKind::number;
  task.seed = 7;
  return task;
}

}  // namespace trivet::testing
