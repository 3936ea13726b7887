// A model's configuration as JSON, as checkpoints carry it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "trivet/models/config.h"

namespace trivet {

void to_json(nlohmann::json& json, const ModelConfig& config);
// Throws nlohmann::json::exception if a field is missing or of another type, Error(checkpoint) if a number is beyond
// what a job file may say.
void from_json(const nlohmann::json& json, ModelConfig& config);

}  // namespace trivet
