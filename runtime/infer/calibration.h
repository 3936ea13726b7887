// Ranges of a model's values for inference in 8 bits. Private to this folder.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "trivet/infer/infer.h"

namespace trivet {

// The samples of one pass over which ranges are taken.
inline constexpr std::int64_t kCalibrationBatch = 32;

// predict_graph() in f32, whatever the model was trained in, and then in 8 bits (trivet/passes/quantize.h).
Graph int8_graph(const ModelTask& task, std::int64_t samples);
// The same in f32 with the ranges of what is in 8 bits there, over kCalibrationBatch samples.
Graph range_graph(const ModelTask& task);

// Runs `ranges`, a plan of range_graph(), over the samples and sets the arena's scales and zero points. What was found,
// for the record: {"data", "samples", "ranges": {value: [lowest, highest]}}.
nlohmann::json calibrate(const CalibrationData& data, const PlanPtr& ranges, const std::shared_ptr<Arena>& arena);

}  // namespace trivet
