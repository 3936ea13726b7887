// trivet runs, trivet show: what ran in a workspace.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/trivet/run_record.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/file.h"
#include "trivet/base/table.h"
#include "trivet/base/text.h"
#include "trivet/service/run.h"
#include "trivet/train/checkpoint.h"

namespace trivet::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string run;
  bool json = false;
};

// How good a run's answers are: the share of right ones, or R2 where numbers are predicted.
const char* quality_metric(const RunRecord& run) {
  const auto has = [](const json& record, const char* metric) {
    if (!record.is_object()) return false;
    for (const char* part : {"test", "validation", "train"}) {
      if (record.contains(part) && number(record.at(part), metric)) return true;
    }
    return false;
  };
  const bool r2 = has(run.result, "r2") || (!run.epochs.empty() && has(run.epochs.back(), "r2"));
  return r2 ? "r2" : "accuracy";
}

// The last word on it: of the test samples, else validation, else training.
std::string quality_text(const RunRecord& run) {
  if (std::string_view(quality_metric(run)) == "accuracy") return metric_text(run, "accuracy");
  const json& record = run.result.is_object() ? run.result : run.epochs.back();
  for (const char* part : {"test", "validation", "train"}) {
    if (!record.contains(part)) continue;
    if (const auto r2 = number(record.at(part), "r2")) return fmt::format("R2 {:.4f}", *r2);
  }
  return {};
}

void list_runs(const Options& options, Context& context) {
  Store store = open_store(context.workspace);
  recover(store);
  json all = json::array();
  Table table({"run", "name", "kind", "state", "created", "took", "result", "loss", "reason"});
  for (const JobRecord& job : store.list()) {
    const RunRecord run = read_run(job);
    json j = to_json(job);
    j["result"] = run.result;
    all.push_back(std::move(j));
    table.add_row({job.id, job.name, job.kind, job_state_name(job.state), time_text(job.created), duration_text(job),
                   quality_text(run), metric_text(run, "loss"), printable(job.reason)});
  }
  std::fputs(options.json ? (all.dump(1) + "\n").c_str() : table.str().c_str(), stdout);
}

json checkpoints_of(const fs::path& directory) {
  json list = json::array();
  const CheckpointFolder folder(directory / "checkpoints");
  for (const std::int64_t step : folder.steps()) list.push_back({{"step", step}, {"path", folder.path(step).string()}});
  return list;
}

std::string epochs_table(const RunRecord& run) {
  const std::string quality = quality_metric(run);
  Table table(
      {"epoch", "step", "train loss", "train " + quality, "validation loss", "validation " + quality, "seconds"});
  for (const json& e : run.epochs) {
    const auto value = [&](const char* part, const std::string& metric) -> std::string {
      if (!e.contains(part)) return "-";
      const std::optional<double> v = number(e.at(part), metric);
      if (!v) return "-";
      return metric == "accuracy" ? fmt::format("{:.2f} %", 100 * *v) : fmt::format("{:.4f}", *v);
    };
    table.add_row({fmt::format("{:.0f}", number(e, "epoch").value_or(0)),
                   fmt::format("{:.0f}", number(e, "step").value_or(0)), value("train", "loss"),
                   value("train", quality), value("validation", "loss"), value("validation", quality),
                   fmt::format("{:.1f}", number(e, "seconds").value_or(0))});
  }
  return table.str();
}

void show(const Options& options, Context& context) {
  Store store = open_store(context.workspace);
  recover(store);
  const RunRecord run = read_run(store.find(options.run));
  const json checkpoints = checkpoints_of(run.job.directory);
  if (options.json) {
    json j = to_json(run.job);
    j["settings"] = json::object();
    for (const auto& [key, value] : run.settings) j["settings"][key] = value;
    j["epochs"] = run.epochs;
    j["result"] = run.result;
    j["checkpoints"] = checkpoints;
    std::printf("%s\n", j.dump(1).c_str());
    return;
  }
  std::string text = fmt::format("run {} ({}), {}, attempt {}: {}", run.job.id, run.job.name, run.job.kind,
                                 run.job.attempt, job_state_name(run.job.state));
  if (!run.job.reason.empty()) text += fmt::format(" ({})", printable(run.job.reason));
  text += fmt::format("\ncreated {}, took {}\ndirectory {}\n", time_text(run.job.created), duration_text(run.job),
                      run.job.directory.string());
  text += "\nsettings\n";
  for (const auto& [key, value] : run.settings) text += fmt::format("  {} = {}\n", key, printable(value));
  if (!run.epochs.empty()) text += "\n" + epochs_table(run);
  for (const char* part : {"validation", "test"}) {
    if (run.result.is_object() && run.result.contains(part)) {
      text += fmt::format("\n{}: {}", part, run.result.at(part).dump());
    }
  }
  if (run.result.is_object() && run.job.kind == "infer") text += fmt::format("\nresult: {}", run.result.dump());
  if (!checkpoints.empty()) text += "\n\ncheckpoints\n";
  for (const json& c : checkpoints) text += fmt::format("  {}\n", c.at("path").get<std::string>());
  std::fputs((text + (text.ends_with('\n') ? "" : "\n")).c_str(), stdout);
}

}  // namespace

void add_runs(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("runs");
  verb->add_flag("--json", options->json, "For programs");
  verb->footer("Example:\n  trivet runs --json");
  verb->callback([options, &context] { list_runs(*options, context); });
}

void add_show(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("show");
  verb->add_option("run", options->run, "Run: its id or name")->required();
  verb->add_flag("--json", options->json, "For programs");
  verb->footer("Example:\n  trivet show r0001");
  verb->callback([options, &context] { show(*options, context); });
}

}  // namespace trivet::cli
