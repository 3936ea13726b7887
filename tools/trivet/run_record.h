// What a run left behind, read back for people and programs.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trivet/store/store.h"

namespace trivet::cli {

struct RunRecord {
  JobRecord job;
  std::vector<std::pair<std::string, std::string>> settings;  // "train.optimizer.lr" -> "0.002", in the file's order
  std::vector<nlohmann::json> epochs;                         // of metrics.jsonl
  nlohmann::json result;  // its record of kind "final"; null if the run has not ended well
};

// Reads the run's directory. What is missing or cannot be read stays empty: a run may have failed at any point.
RunRecord read_run(const JobRecord& job);

// Opens the workspace's store; Error(usage) if there is none.
Store open_store(const std::string& workspace);

nlohmann::json to_json(const JobRecord& job);

// "2026-11-23 12:00:00" in local time, and how long an attempt took so far ("-" before it began).
std::string time_text(double seconds_since_1970);
std::string duration_text(const JobRecord& job);

// The number at `key`; nothing if `object` is none or has something else there, such as the null of a loss that was
// not finite.
std::optional<double> number(const nlohmann::json& object, const std::string& key);

// The named metric of the last word on a run: its result's test, else validation, else the last epoch's. "" if none.
std::string metric_text(const RunRecord& run, const std::string& metric);

}  // namespace trivet::cli
