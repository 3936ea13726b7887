#include "tools/trivet/run_record.h"

#include <ctime>
#include <sstream>

#include "tools/trivet/resolve.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/json.h"
#include "trivet/base/text.h"
#include "trivet/service/run.h"

namespace trivet::cli {
namespace {

using nlohmann::json;
constexpr std::size_t kLargestMetrics = std::size_t{256} << 20;

std::string read_if_there(const fs::path& path) {
  try {
    return read_file(path, kLargestMetrics);
  } catch (const Error&) {
    return {};
  }
}

// A section or list of a job file whose lines are being read.
struct Open {
  std::size_t indent = 0;
  std::string key;
  int entry = -1;  // of a list
};

std::string joined(const std::vector<Open>& sections, const std::string& key) {
  std::string path;
  for (const Open& section : sections) {
    path += section.entry < 0 ? section.key + "." : fmt::format("{}[{}].", section.key, section.entry);
  }
  return path + key;
}

// Flattens the job file of a run. Its form is known, since resolved_yaml() wrote it: two spaces a level, "- " before
// the first key of a list's entry. What is not of that form is passed over.
std::vector<std::pair<std::string, std::string>> flatten(const std::string& yaml) {
  std::vector<std::pair<std::string, std::string>> result;
  std::vector<Open> open;
  std::istringstream lines(yaml);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t indent = line.find_first_not_of(' ');
    if (indent == std::string::npos || line[indent] == '#') continue;
    while (!open.empty() && open.back().indent >= indent) open.pop_back();
    const bool starts_entry = line.compare(indent, 2, "- ") == 0;
    if (starts_entry && !open.empty()) ++open.back().entry;
    const std::size_t begin = starts_entry ? indent + 2 : indent;
    const std::size_t colon = line.find(':', begin);
    if (colon == std::string::npos || colon == begin) continue;
    const std::string key = line.substr(begin, colon - begin);
    if (colon + 1 >= line.size()) {
      open.push_back({begin, key});
    } else {
      result.emplace_back(joined(open, key), line.substr(colon + 2));
    }
  }
  return result;
}

}  // namespace

RunRecord read_run(const JobRecord& job) {
  RunRecord run;
  run.job = job;
  run.settings = flatten(read_if_there(job.directory / kJobFileName));
  std::istringstream lines(read_if_there(job.directory / "metrics.jsonl"));
  std::string line;
  while (std::getline(lines, line)) {
    json record = parse_json(line);
    if (!record.is_object()) continue;  // the last line of a killed run
    const json kind = record.value("kind", json());
    if (kind == "epoch") {
      run.epochs.push_back(std::move(record));
    } else if (kind == "final") {
      run.result = std::move(record);
    }
  }
  return run;
}

Store open_store(const std::string& workspace) {
  const fs::path folder = workspace_folder(workspace);
  if (!has_store(folder)) {
    throw Error(ErrorCode::usage, fmt::format("there is no workspace at {}", fs::absolute(folder).string()),
                "run a job first, or give --workspace");
  }
  return Store(folder);
}

json to_json(const JobRecord& job) {
  json j = {{"id", job.id},           {"name", job.name},
            {"kind", job.kind},       {"state", job_state_name(job.state)},
            {"reason", job.reason},   {"directory", job.directory.string()},
            {"attempt", job.attempt}, {"created", job.created},
            {"started", nullptr},     {"ended", nullptr},
            {"exit_code", nullptr}};
  if (job.started) j["started"] = *job.started;
  if (job.ended) j["ended"] = *job.ended;
  if (job.exit_code) j["exit_code"] = *job.exit_code;
  return j;
}

std::string time_text(double seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm local{};
  char text[32] = "";
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", ::localtime_r(&time, &local));
  return text;
}

std::string duration_text(const JobRecord& job) {
  if (!job.started) return "-";
  return format_seconds(job.ended.value_or(system_seconds()) - *job.started);
}

std::optional<double> number(const json& object, const std::string& key) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::string metric_text(const RunRecord& run, const std::string& metric) {
  const auto text = [&](const json& values) -> std::string {
    const std::optional<double> value = number(values, metric);
    if (!value) return {};
    return metric == "loss" ? fmt::format("{:.4f}", *value) : fmt::format("{:.2f} %", 100 * *value);
  };
  for (const json* record : {&run.result, run.epochs.empty() ? nullptr : &run.epochs.back()}) {
    if (!record || !record->is_object()) continue;
    for (const char* part : {"test", "validation", "train"}) {
      if (record->contains(part)) return text(record->at(part));
    }
    if (!text(*record).empty()) return text(*record);  // inference keeps its accuracy at the top
  }
  return {};
}

}  // namespace trivet::cli
