#include "runtime/report/run_files.h"

#include <algorithm>
#include <fstream>

#include "runtime/report/json_read.h"
#include "trivet/base/json.h"

namespace trivet::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uintmax_t kLargestMetrics = std::uintmax_t{256} << 20;
constexpr std::uintmax_t kLargestText = std::uintmax_t{16} << 20;
constexpr std::uintmax_t kLogTail = std::uintmax_t{16} << 10;
constexpr std::size_t kMostCurves = 64;
constexpr double kLargestDrawn = 1e100;  // differences of such values are finite

std::uintmax_t regular_size(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return 0;
  const std::uintmax_t size = fs::file_size(path, error);
  return error ? 0 : size;
}

// The last `bytes` of the file. A stream, because the file of a run under way grows while it is read.
std::string tail(const fs::path& path, std::uintmax_t bytes) {
  const std::uintmax_t size = regular_size(path);
  std::ifstream file(path, std::ios::binary);
  if (size == 0 || !file) return {};
  const std::uintmax_t from = size > bytes ? size - bytes : 0;
  file.seekg(static_cast<std::streamoff>(from));
  std::string text(static_cast<std::size_t>(size - from), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (from == 0) return text;
  const std::size_t line = text.find('\n');
  return line == std::string::npos ? text : text.substr(line + 1);
}

std::string whole(const fs::path& path) { return regular_size(path) > kLargestText ? "" : tail(path, kLargestText); }

void add_points(RunFiles& files, const std::string& part, const json& values, double step) {
  if (!values.is_object()) return;
  for (const auto& [name, value] : values.items()) {
    const auto y = number(value);
    const std::string key = part + "." + name;
    if (!y || std::abs(*y) > kLargestDrawn || std::abs(step) > kLargestDrawn) continue;
    if (files.curves.size() < kMostCurves || files.curves.contains(key)) files.curves[key].push_back({step, *y});
  }
}

void add_record(RunFiles& files, json record) {
  const json& kind = member(record, "kind");
  const auto step = number(record, "step");
  if (kind == "final") {
    files.result = std::move(record);
  } else if (kind == "step" && step) {
    for (const char* key : {"kind", "step", "epoch"}) record.erase(key);
    add_points(files, "step", record, *step);
  } else if (kind == "epoch" && step) {
    for (const char* part : {"train", "validation"}) add_points(files, part, member(record, part), *step);
    const auto samples = number(member(record, "train"), "samples");
    const auto seconds = number(record, "seconds");
    if (samples && seconds && *seconds > 0) {
      add_points(files, "epoch", {{"samples_per_second", *samples / *seconds}}, *step);
    }
    files.last_epoch = std::move(record);
  }
}

void read_metrics(const fs::path& path, RunFiles& files) {
  if (regular_size(path) > kLargestMetrics) return;
  std::ifstream lines(path, std::ios::binary);
  for (std::string line; std::getline(lines, line);) add_record(files, parse_json(line));
  // Steps do not fall in a file that Trivet wrote, but a curve must run from left to right in any case.
  for (auto& [key, points] : files.curves) {
    std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
  }
}

}  // namespace

RunFiles read_run_files(const fs::path& directory) {
  RunFiles files;
  files.job = whole(directory / "job.yaml");
  files.plan = whole(directory / "plan.txt");
  files.log = tail(directory / "log.txt", kLogTail);
  files.worker_log = tail(directory / "worker.log", kLogTail);
  files.environment = parse_json(whole(directory / "environment.json"));
  files.evaluation = parse_json(whole(directory / "evaluation.json"));
  read_metrics(directory / "metrics.jsonl", files);
  if (!files.result.is_object()) files.result = parse_json(whole(directory / "result.json"));
  return files;
}

}  // namespace trivet::report
