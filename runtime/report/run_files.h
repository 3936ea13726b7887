// What is in a run's folder, read as far as it is there and can be read.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace trivet::report {

struct Point {
  double x = 0;
  double y = 0;
};

struct RunFiles {
  std::string job;             // job.yaml
  std::string plan;            // plan.txt
  std::string log;             // the end of log.txt
  std::string worker_log;      // the end of worker.log
  nlohmann::json environment;  // null if absent
  nlohmann::json evaluation;
  nlohmann::json result;      // the last record of kind "final", or result.json
  nlohmann::json last_epoch;  // the last record of kind "epoch"
  // From metrics.jsonl, over the optimizer step: "step.loss", "step.lr", "train.accuracy", "validation.loss", ...
  std::map<std::string, std::vector<Point>> curves;
};

RunFiles read_run_files(const std::filesystem::path& directory);

}  // namespace trivet::report
