// What a run tells while it works: lines for people, progress, and metrics for programs.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trivet/base/progress.h"

namespace trivet {

// Where lines and progress go beside the log file: the terminal, or the process that watches this one.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void line(const std::string& text) = 0;
  virtual void progress(const Progress& progress) = 0;
};

// log.txt and metrics.jsonl of a run directory.
class RunLog {
 public:
  RunLog(const std::filesystem::path& directory, LogSink& observer);
  // Keeps no files, for a rank other than 0: lines and progress go to the observer alone.
  explicit RunLog(LogSink& observer);
  ~RunLog();

  void line(const std::string& text);  // to the log with the time, and to the observer
  void warn(const std::string& text);
  void progress(const Progress& progress);

  // Appends one object to metrics.jsonl.
  void metrics(const nlohmann::json& record);
  // Makes all metrics durable; the file's length.
  std::uint64_t sync_metrics();
  // Cuts metrics.jsonl to the length that a checkpoint knows of: what came later will come again.
  void cut_metrics(std::uint64_t bytes);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trivet
