// trivet compare: what runs were told and what came out, side by side.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/trivet/report.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/table.h"
#include "trivet/base/text.h"
#include "trivet/service/run.h"

namespace trivet::cli {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> runs;
  std::string output;
  bool json = false;
};

json as_json(const std::vector<RunRecord>& runs, const Comparison& comparison) {
  json j = {{"runs", json::array()},
            {"settings", json::object()},
            {"environment", json::object()},
            {"results", json::object()}};
  for (const RunRecord& run : runs) j["runs"].push_back(to_json(run.job));
  for (const Comparison::Setting& s : comparison.settings) j["settings"][s.key] = s.values;
  for (const Comparison::Setting& s : comparison.environment) j["environment"][s.key] = s.values;
  for (const Comparison::Result& r : comparison.results) {
    json& row = j["results"][r.key] = {{"values", json::array()}, {"best", json::array()}};
    for (const auto& value : r.values) row["values"].push_back(value ? json(*value) : json());
    for (const std::size_t best : r.best) row["best"].push_back(runs[best].job.id);
  }
  return j;
}

std::vector<std::string> heads(const char* first, const std::vector<RunRecord>& runs) {
  std::vector<std::string> result = {first};
  for (const RunRecord& run : runs) result.push_back(run.job.id);
  return result;
}

std::string settings_text(const std::vector<RunRecord>& runs, const std::vector<Comparison::Setting>& settings) {
  Table table(heads("setting", runs));
  std::vector<std::string> names = {"name"}, states = {"state"};
  for (const RunRecord& run : runs) {
    names.push_back(run.job.name);
    states.push_back(job_state_name(run.job.state));
  }
  table.add_row(names);
  table.add_row(states);
  for (const Comparison::Setting& setting : settings) {
    std::vector<std::string> row = {printable(setting.key)};
    for (const std::string& value : setting.values) row.push_back(printable(value));
    table.add_row(row);
  }
  return table.str();
}

// Of two runs their difference is shown, of more which of them is best.
std::string results_text(const std::vector<RunRecord>& runs, const std::vector<Comparison::Result>& results) {
  if (results.empty()) return "no result that two runs have\n";
  std::vector<std::string> header = heads("result", runs);
  header.emplace_back(runs.size() == 2 ? "difference" : "best");
  Table table(header);
  for (const Comparison::Result& result : results) {
    std::vector<std::string> row = {printable(result.key)};
    for (const auto& value : result.values) row.push_back(value ? fmt::format("{:.6g}", *value) : "-");
    std::vector<std::string> best;
    for (const std::size_t i : result.best) best.push_back(runs[i].job.id);
    row.push_back(runs.size() == 2 ? fmt::format("{:+.4g}", *result.values[1] - *result.values[0]) : join(best, " "));
    table.add_row(row);
  }
  return table.str();
}

void compare(const Options& options, Context& context) {
  Store store = open_store(context.workspace);
  recover(store);
  std::vector<RunRecord> runs;
  std::vector<ReportedRun> pages;
  for (const std::string& text : options.runs) {
    runs.push_back(read_run(store.find(text)));
    pages.push_back(reported(runs.back()));
  }
  const Comparison comparison = compare_runs(pages);
  if (!options.output.empty()) write_comparison(pages, options.output);
  if (options.json) {
    std::printf("%s\n", as_json(runs, comparison).dump(1).c_str());
    return;
  }
  std::printf("%s\n%s", settings_text(runs, comparison.settings).c_str(),
              results_text(runs, comparison.results).c_str());
}

}  // namespace

void add_compare(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("compare");
  verb->add_option("runs", options->runs, "Two or more runs: their ids or names")->required()->expected(2, 1000);
  verb->add_option("--output", options->output, "HTML page to write, with the runs' curves");
  verb->add_flag("--json", options->json, "For programs");
  verb->footer("Example:\n  trivet compare r0001 r0002 r0003 --output compare.html");
  verb->callback([options, &context] { compare(*options, context); });
}

}  // namespace trivet::cli
