// How runs differ: settings, environment, results.
#include <fmt/format.h>

#include <set>

#include "runtime/report/json_read.h"
#include "runtime/report/metric.h"
#include "runtime/report/run_files.h"
#include "trivet/report/report.h"

namespace trivet {
namespace {

using nlohmann::json;
using Texts = std::vector<std::pair<std::string, std::string>>;

// One row for each key whose values are not all alike, in the order in which keys are first met.
std::vector<Comparison::Setting> different(const std::vector<Texts>& runs, const std::set<std::string>& without) {
  std::vector<std::string> keys;
  std::set<std::string> known = without;
  for (const Texts& run : runs) {
    for (const auto& [key, ignored] : run) {
      if (known.insert(key).second) keys.push_back(key);
    }
  }
  std::vector<std::map<std::string, std::string>> values;
  for (const Texts& run : runs) values.emplace_back(run.begin(), run.end());
  std::vector<Comparison::Setting> result;
  for (const std::string& key : keys) {
    Comparison::Setting setting{key, {}};
    for (const auto& run : values) {
      const auto found = run.find(key);
      setting.values.push_back(found == run.end() ? "-" : found->second);
    }
    const auto other = [&](const std::string& value) { return value != setting.values.front(); };
    if (std::any_of(setting.values.begin(), setting.values.end(), other)) result.push_back(std::move(setting));
  }
  return result;
}

// Numbers of the result, or of the last epoch of a run that has none yet, and what only evaluation.json knows.
std::map<std::string, double> results_of(const report::RunFiles& files) {
  std::map<std::string, double> result;
  for (const auto& [key, value] : report::flat_numbers(files.result.is_object() ? files.result : files.last_epoch)) {
    result[key] = value;
  }
  const std::string split = report::text(report::member(files.evaluation, "split"));
  if (!files.evaluation.is_object() || split.empty()) return result;
  for (const auto& [key, value] : files.evaluation.items()) {
    const bool repeated = key == "top_k";  // the result has it as top_5
    if (const auto found = report::number(value); found && !repeated) result.emplace(split + "." + key, *found);
  }
  return result;
}

// What people look for first comes first.
int rank(const std::string& key) {
  return key.starts_with("test.") ? 0 : key.starts_with("validation.") ? 1 : key.starts_with("train.") ? 2 : 3;
}

std::vector<std::size_t> best_of(const std::string& key, const std::vector<std::optional<double>>& values) {
  const report::Better way = report::better(key);
  if (way == report::Better::neither) return {};
  std::optional<double> best;
  for (const auto& value : values) {
    if (value && (!best || (way == report::Better::higher ? *value > *best : *value < *best))) best = value;
  }
  std::vector<std::size_t> result;
  std::size_t present = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    present += values[i] ? 1 : 0;
    if (values[i] && *values[i] == *best) result.push_back(i);
  }
  return result.size() == present ? std::vector<std::size_t>{} : result;
}

}  // namespace

Comparison compare_runs(std::span<const ReportedRun> runs) {
  std::vector<Texts> settings, environments;
  std::vector<std::map<std::string, double>> results;
  std::set<std::string> keys;
  for (const ReportedRun& run : runs) {
    const report::RunFiles files = report::read_run_files(run.directory);
    settings.push_back(run.settings);
    environments.push_back(report::flat_texts(files.environment));
    results.push_back(results_of(files));
    for (const auto& [key, ignored] : results.back()) keys.insert(key);
  }
  Comparison comparison;
  comparison.settings = different(settings, {"name"});
  comparison.environment = different(environments, {"started"});
  std::vector<std::string> order(keys.begin(), keys.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const std::string& a, const std::string& b) { return rank(a) < rank(b); });
  for (const std::string& key : order) {
    Comparison::Result row{key, {}, {}};
    std::size_t present = 0;
    for (const auto& run : results) {
      const auto found = run.find(key);
      present += found == run.end() ? 0 : 1;
      row.values.push_back(found == run.end() ? std::nullopt : std::optional(found->second));
    }
    if (present < 2) continue;
    row.best = best_of(key, row.values);
    comparison.results.push_back(std::move(row));
  }
  return comparison;
}

}  // namespace trivet
