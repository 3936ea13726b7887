// trivet compare: what two runs were told and what came out, side by side.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <set>

#include "tools/trivet/run_record.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/table.h"
#include "trivet/service/run.h"

namespace trivet::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string first;
  std::string second;
  bool json = false;
};

struct Difference {
  std::string key, first, second;
};

std::vector<Difference> different_settings(const RunRecord& a, const RunRecord& b) {
  const std::map<std::string, std::string> in_a(a.settings.begin(), a.settings.end());
  const std::map<std::string, std::string> in_b(b.settings.begin(), b.settings.end());
  std::set<std::string> keys;
  for (const auto& [key, value] : in_a) keys.insert(key);
  for (const auto& [key, value] : in_b) keys.insert(key);
  std::vector<Difference> result;
  for (const std::string& key : keys) {
    const auto value = [&](const auto& settings) {
      const auto it = settings.find(key);
      return it == settings.end() ? std::string("-") : it->second;
    };
    if (value(in_a) != value(in_b)) result.push_back({key, value(in_a), value(in_b)});
  }
  return result;
}

// All numbers of a result, by path: "test.accuracy".
std::map<std::string, double> numbers(const RunRecord& run) {
  std::map<std::string, double> result;
  const json& source = run.result.is_object() ? run.result : (run.epochs.empty() ? json::object() : run.epochs.back());
  for (const auto& [key, value] : source.items()) {
    if (value.is_number()) result[key] = value.get<double>();
    if (!value.is_object()) continue;
    for (const auto& [inner, number] : value.items()) {
      if (number.is_number()) result[key + "." + inner] = number.get<double>();
    }
  }
  return result;
}

json as_json(const RunRecord& a, const RunRecord& b) {
  json settings = json::object();
  for (const Difference& d : different_settings(a, b)) settings[d.key] = {d.first, d.second};
  json results = json::object();
  const auto in_a = numbers(a);
  const auto in_b = numbers(b);
  for (const auto& [key, value] : in_a) {
    if (const auto it = in_b.find(key); it != in_b.end()) {
      results[key] = {{"first", value}, {"second", it->second}, {"difference", it->second - value}};
    }
  }
  return {{"first", to_json(a.job)}, {"second", to_json(b.job)}, {"settings", settings}, {"results", results}};
}

void compare(const Options& options, Context& context) {
  Store store = open_store(context.workspace);
  recover(store);
  const RunRecord a = read_run(store.find(options.first));
  const RunRecord b = read_run(store.find(options.second));
  const json j = as_json(a, b);
  if (options.json) {
    std::printf("%s\n", j.dump(1).c_str());
    return;
  }
  Table settings({"setting", a.job.id, b.job.id});
  settings.add_row({"name", a.job.name, b.job.name});
  settings.add_row({"state", job_state_name(a.job.state), job_state_name(b.job.state)});
  for (const Difference& d : different_settings(a, b)) {
    if (d.key != "name") settings.add_row({d.key, printable(d.first), printable(d.second)});
  }
  Table results({"result", a.job.id, b.job.id, "difference"});
  for (const auto& [key, value] : j.at("results").items()) {
    results.add_row({key, fmt::format("{:.6g}", value.at("first").get<double>()),
                     fmt::format("{:.6g}", value.at("second").get<double>()),
                     fmt::format("{:+.4g}", value.at("difference").get<double>())});
  }
  std::printf("%s\n%s", settings.str().c_str(),
              results.rows() > 0 ? results.str().c_str() : "no result that both runs have\n");
}

}  // namespace

void add_compare(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("compare", "Compare two runs: settings that differ, and results");
  verb->add_option("first", options->first, "Run: its id or name")->required();
  verb->add_option("second", options->second, "Another run")->required();
  verb->add_flag("--json", options->json, "For programs");
  verb->footer("Example:\n  trivet compare r0001 r0002");
  verb->callback([options, &context] { compare(*options, context); });
}

}  // namespace trivet::cli
