// report.html of one run.
#include <fmt/format.h>

#include "runtime/report/html.h"
#include "runtime/report/json_read.h"
#include "runtime/report/metric.h"
#include "runtime/report/sections.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/report/report.h"

namespace trivet {
namespace report {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestJob = std::size_t{64} << 10;
constexpr std::size_t kLongestReason = 2000;
constexpr std::size_t kMostEntries = 200;
constexpr std::size_t kLongestEntry = 400;

std::string figure(const std::string& label, const std::string& value) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape(label), escape(value));
}

// What matters most of a split: how good the answers are.
std::string split_figures(const json& record, const char* split) {
  std::string out;
  for (const auto& [key, value] : flat_numbers(member(record, split))) {
    const bool first_rank = is_percent(key) || key == "r2" || key == "mae" || key == "macro_f1" || key == "loss";
    if (first_rank) out += figure(fmt::format("{} {}", split, metric_label(key)), format_result(key, value));
  }
  return out;
}

std::string figures(const RunFiles& files, const ReportedRun& run) {
  const json& record = files.result.is_object() ? files.result : files.last_epoch;
  std::string out = split_figures(record, "test") + split_figures(record, "validation");
  if (out.empty()) out = split_figures(record, "train");
  for (const char* key : {"accuracy", "samples", "images_per_second", "epoch", "step", "steps"}) {
    if (const auto value = number(record, key)) out += figure(metric_label(key), format_result(key, *value));
  }
  if (const auto seconds = number(files.result, "seconds")) {
    out += figure(metric_label("seconds"), format_result("seconds", *seconds));
  } else if (!run.took.empty()) {
    out += figure("took", run.took);
  }
  for (const char* key : {"peak_resident_bytes", "planned_bytes"}) {
    if (const auto value = number(record, key)) out += figure(metric_label(key), format_result(key, *value));
  }
  return out.empty() ? out : "<dl class=\"figures\">" + out + "</dl>\n";
}

std::string header(const RunFiles& files, const ReportedRun& run) {
  const bool good = run.state == "COMPLETED";
  const bool bad = run.state == "FAILED";
  std::string out = fmt::format("<header><div class=\"line\"><h1>{}</h1>", escape(run.name));
  if (!run.state.empty()) {
    out += fmt::format("<span class=\"state {}\">{}</span>", good ? "good" : bad ? "bad" : "other", escape(run.state));
  }
  out += "</div>\n";
  std::vector<std::string> facts;
  if (!run.id.empty()) facts.push_back("run " + run.id);
  if (!run.kind.empty()) facts.push_back(run.kind);
  const std::string started = text(member(files.environment, "started"));
  if (!run.created.empty()) {
    facts.push_back("created " + run.created);
  } else if (!started.empty()) {
    facts.push_back("started " + started);
  }
  const std::string device = text(member(files.environment, "device"));
  if (!device.empty()) facts.push_back(device);
  out += fmt::format("<p class=\"muted\">{}</p>\n", escape(fmt::format("{}", fmt::join(facts, " \u00b7 "))));
  if (!run.reason.empty()) {
    out += fmt::format("<p class=\"reason\">{}</p>\n", escape(shorten(run.reason, kLongestReason)));
  }
  return out + figures(files, run) + "</header>\n";
}

std::string run_page(const ReportedRun& run) {
  const RunFiles files = read_run_files(run.directory);
  std::string body = header(files, run) + curves_section(files) + evaluation_section(files.evaluation) +
                     samples_section(files.evaluation) + plan_section(files.plan) +
                     environment_section(files.environment);
  body += section("job", "Job file", text_block("job.yaml", shorten(files.job, kLongestJob), false));
  body += section("log", "Log",
                  text_block("The end of log.txt", files.log, run.state != "COMPLETED") +
                      text_block("The end of worker.log", files.worker_log, true));
  return page(run.id.empty() ? run.name : run.id + " " + run.name, body);
}

}  // namespace

std::string environment_section(const json& environment) {
  std::string rows;
  std::size_t count = 0;
  for (const auto& [key, value] : flat_texts(environment)) {
    if (++count > kMostEntries) break;
    rows += fmt::format("<tr><td class=\"muted\">{}</td><td class=\"text\">{}</td></tr>\n",
                        escape(shorten(key, kLongestEntry)), escape(shorten(value, kLongestEntry)));
  }
  return section("environment", "Environment", rows.empty() ? "" : "<table><tbody>\n" + rows + "</tbody></table>\n");
}

}  // namespace report

void write_report(const ReportedRun& run, const std::filesystem::path& output) {
  std::error_code error;
  if (!std::filesystem::is_directory(run.directory, error)) {
    throw Error(ErrorCode::io, fmt::format("the folder of the run, {}, is not there", run.directory.string()),
                "was it moved or removed?");
  }
  write_file_atomic(output, report::run_page(run));
}

void write_report(const std::filesystem::path& directory) {
  ReportedRun run;
  run.directory = directory;
  run.name = std::filesystem::absolute(directory).lexically_normal().filename().string();
  write_report(run, directory / "report.html");
}

}  // namespace trivet
