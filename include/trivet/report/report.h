// What runs left behind, as one page for people: self-contained HTML that needs no network and no other file.
//
// Everything that comes from a run's files is escaped, and the page's Content-Security-Policy lets no script run but
// its own, so that a class named "<script>" is only a name. A page has less than about 1 MB: long curves are thinned,
// long tables and logs cut, large images made smaller.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace trivet {

// A run's folder (docs/runs.md) and what the record of runs knows beside it. What is empty is left out of the page.
struct ReportedRun {
  std::filesystem::path directory;
  std::string id{};
  std::string name{};
  std::string kind{};
  std::string state{};   // "COMPLETED", ...
  std::string reason{};  // why it is in this state
  std::string created{};
  std::string took{};
  std::vector<std::pair<std::string, std::string>> settings{};  // "train.optimizer.lr" -> "0.002"
};

// Writes the page of a run that ended well, failed or is under way: it has what is there. Whole or not at all.
// Error(io) if there is no such folder or the page cannot be written.
void write_report(const ReportedRun& run, const std::filesystem::path& output);

// The same from the folder alone, to report.html in it.
void write_report(const std::filesystem::path& directory);

// How runs differ. Every list of values has one entry for each run.
struct Comparison {
  struct Setting {
    std::string key;
    std::vector<std::string> values;  // "-" where a run has none
  };
  struct Result {
    std::string key;  // "test.accuracy"
    std::vector<std::optional<double>> values;
    std::vector<std::size_t> best;  // the runs with the best value; none if all are alike or no value is better
  };
  std::vector<Setting> settings;     // that differ
  std::vector<Setting> environment;  // entries of environment.json that differ
  std::vector<Result> results;       // that at least two runs have
};
Comparison compare_runs(std::span<const ReportedRun> runs);

// The page of a comparison, with the runs' curves in one picture. Errors as for write_report().
void write_comparison(std::span<const ReportedRun> runs, const std::filesystem::path& output);

// A result for people: "92.18 %" of an accuracy, "1.5 MiB" of bytes, "4 m 05 s" of seconds.
std::string format_result(const std::string& key, double value);

}  // namespace trivet
