// The page of several runs: results side by side, curves in one picture, what differs.
#include <fmt/format.h>

#include <set>

#include "runtime/report/chart.h"
#include "runtime/report/html.h"
#include "runtime/report/metric.h"
#include "runtime/report/run_files.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/report/report.h"

namespace trivet {
namespace report {
namespace {

constexpr std::size_t kMostCharts = 12;
constexpr std::size_t kMostRows = 200;
constexpr std::size_t kLongestText = 300;  // bytes

std::string run_label(const ReportedRun& run) { return run.id.empty() ? run.name : run.id + " " + run.name; }

// The run's colour in the curves, and its name.
std::string coloured(std::size_t index, const std::string& name) {
  return fmt::format(R"(<svg viewBox="0 0 10 10" class="dot"><circle class="f{}" cx="5" cy="5" r="5"/></svg> {})",
                     index % kColours, escape(name));
}

std::string run_heads(std::span<const ReportedRun> runs, const char* first, const char* kind) {
  std::string out = fmt::format("<thead><tr><th>{}</th>", first);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    out += fmt::format("<th{}>{}</th>", kind, coloured(i, runs[i].id.empty() ? runs[i].name : runs[i].id));
  }
  return out + "</tr></thead><tbody>\n";
}

std::string runs_table(std::span<const ReportedRun> runs) {
  std::string out =
      "<div class=\"scroll\"><table><thead><tr><th>run</th><th>name</th><th>kind</th><th>state</th><th>created</th>"
      "<th>took</th><th>reason</th></tr></thead><tbody>\n";
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const ReportedRun& run = runs[i];
    out += fmt::format("<tr><td class=\"nowrap\">{}</td><td class=\"text\">{}</td>", coloured(i, run.id),
                       escape(shorten(run.name, kLongestText)));
    for (const std::string& value : {run.kind, run.state, run.created, run.took}) {
      out += fmt::format("<td class=\"nowrap\">{}</td>", escape(shorten(value, kLongestText)));
    }
    out += fmt::format("<td class=\"text\">{}</td></tr>\n", escape(shorten(run.reason, kLongestText)));
  }
  return out + "</tbody></table></div>\n";
}

std::string results_section(const Comparison& comparison, std::span<const ReportedRun> runs) {
  std::string rows;
  for (std::size_t r = 0; r < std::min(comparison.results.size(), kMostRows); ++r) {
    const Comparison::Result& result = comparison.results[r];
    const std::size_t name = result.key.rfind('.') + 1;  // 0 if there is no dot
    const std::string part = name == 0 ? "" : result.key.substr(0, name - 1) + " ";
    rows += fmt::format("<tr><td class=\"nowrap\">{}</td>",
                        escape(shorten(part + metric_label(result.key.substr(name)), kLongestText)));
    for (std::size_t i = 0; i < result.values.size(); ++i) {
      const bool best = std::find(result.best.begin(), result.best.end(), i) != result.best.end();
      rows +=
          fmt::format("<td class=\"n{}\">{}</td>", best ? " best" : "",
                      result.values[i] ? format_result(result.key, *result.values[i]) + (best ? " \u2605" : "") : "-");
    }
    rows += "</tr>\n";
  }
  if (rows.empty()) return {};
  return section("results", "Results",
                 "<div class=\"scroll\"><table>" + run_heads(runs, "result", " class=\"n\"") + rows +
                     "</tbody></table></div>\n<p class=\"muted small\">\u2605 is the best of its row.</p>\n");
}

std::string settings_section(const char* id, const char* title, const std::vector<Comparison::Setting>& settings,
                             std::span<const ReportedRun> runs) {
  std::string rows;
  for (std::size_t r = 0; r < std::min(settings.size(), kMostRows); ++r) {
    rows += fmt::format("<tr><td>{}</td>", escape(shorten(settings[r].key, kLongestText)));
    for (const std::string& value : settings[r].values) {
      rows += fmt::format("<td class=\"text\">{}</td>", escape(shorten(value, kLongestText)));
    }
    rows += "</tr>\n";
  }
  if (rows.empty()) return {};
  return section(id, title,
                 "<div class=\"scroll\"><table>" + run_heads(runs, "", "") + rows + "</tbody></table></div>\n");
}

// What epochs of any of the runs measure, the names that people look for first.
std::vector<std::string> compared(const std::vector<RunFiles>& files) {
  std::vector<std::string> names = {"loss", "accuracy", "r2"};
  std::set<std::string> others;
  for (const RunFiles& run : files) {
    for (const auto& [key, ignored] : run.curves) {
      const std::size_t dot = key.find('.');
      const std::string name = key.substr(dot + 1);
      if (key.starts_with("step.") || key.starts_with("epoch.") || name == "samples") continue;
      if (std::find(names.begin(), names.end(), name) == names.end()) others.insert(name);
    }
  }
  names.insert(names.end(), others.begin(), others.end());
  return names;
}

std::string curves_section(std::span<const ReportedRun> runs, const std::vector<RunFiles>& files) {
  std::vector<std::string> charts;
  using Sources = std::vector<std::pair<std::string, Stroke>>;  // "train." and how it is drawn
  const auto add = [&](const std::string& name, const Sources& sources) {
    Chart chart;
    chart.title = metric_label(name);
    chart.percent = is_percent(name);
    chart.log_scale = name == "loss";
    for (std::size_t i = 0; i < runs.size(); ++i) {
      for (const auto& [part, stroke] : sources) {
        const auto found = files[i].curves.find(part + name);
        if (found == files[i].curves.end()) continue;
        const std::string label = run_label(runs[i]) + (stroke == Stroke::dashed ? ", training" : "");
        chart.curves.push_back({label, static_cast<int>(i), stroke, found->second});
      }
    }
    std::string drawn = line_chart(chart);
    if (!drawn.empty() && charts.size() < kMostCharts) charts.push_back(std::move(drawn));
  };
  for (const std::string& name : compared(files)) {
    add(name, {{"validation.", Stroke::solid}, {"train.", Stroke::dashed}});
  }
  add("lr", {{"step.", Stroke::solid}});
  add("samples_per_second", {{"epoch.", Stroke::solid}});
  if (charts.empty()) return {};
  std::string content =
      "<p class=\"muted small\">Solid lines are validation, dashed ones training.</p>\n"
      "<div class=\"charts\">\n";
  for (const std::string& chart : charts) content += chart;
  return section("curves", "Curves", content + "</div>\n");
}

std::string comparison_page(std::span<const ReportedRun> runs) {
  const Comparison comparison = compare_runs(runs);
  std::vector<RunFiles> files;
  for (const ReportedRun& run : runs) files.push_back(read_run_files(run.directory));
  const std::string title = fmt::format("{} runs compared", runs.size());
  std::string body = fmt::format("<header><h1>{}</h1>\n{}</header>\n", title, runs_table(runs));
  body += results_section(comparison, runs) + curves_section(runs, files);
  body += settings_section("settings", "Settings that differ", comparison.settings, runs);
  body += settings_section("environment", "Environments that differ", comparison.environment, runs);
  return page(title, body);
}

}  // namespace
}  // namespace report

void write_comparison(std::span<const ReportedRun> runs, const std::filesystem::path& output) {
  for (const ReportedRun& run : runs) {
    std::error_code error;
    if (!std::filesystem::is_directory(run.directory, error)) {
      throw Error(ErrorCode::io, fmt::format("the folder of run {}, {}, is not there", run.id, run.directory.string()),
                  "was it moved or removed?");
    }
  }
  write_file_atomic(output, report::comparison_page(runs));
}

}  // namespace trivet
