#include <fmt/format.h>

#include "runtime/report/chart.h"
#include "runtime/report/html.h"
#include "runtime/report/json_read.h"
#include "runtime/report/metric.h"
#include "runtime/report/sections.h"

namespace trivet::report {
namespace {

constexpr std::size_t kMostCharts = 12;

std::vector<Point> points(const RunFiles& files, const std::string& key) {
  const auto found = files.curves.find(key);
  return found == files.curves.end() ? std::vector<Point>{} : found->second;
}

// What epochs measure, the ones that people look for first.
std::vector<std::string> measured(const RunFiles& files) {
  std::vector<std::string> names = {"loss", "accuracy", "r2"};
  for (const auto& [key, ignored] : files.curves) {
    const std::size_t dot = key.find('.');
    const std::string part = key.substr(0, dot), name = key.substr(dot + 1);
    if ((part != "train" && part != "validation") || name == "samples") continue;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

}  // namespace

std::string curves_section(const RunFiles& files) {
  const std::optional<double> checkpoint = number(files.result, "checkpoint");
  std::vector<std::string> charts;
  const auto add = [&](Chart chart) {
    chart.mark = checkpoint;
    std::string drawn = line_chart(chart);
    if (!drawn.empty() && charts.size() < kMostCharts) charts.push_back(std::move(drawn));
  };
  for (const std::string& name : measured(files)) {
    Chart chart;
    chart.title = metric_label(name);
    chart.percent = is_percent(name);
    chart.log_scale = name == "loss";
    if (name == "loss") chart.curves.push_back({"batch", 0, Stroke::faint, points(files, "step.loss")});
    chart.curves.push_back({"training", 0, Stroke::solid, points(files, "train." + name)});
    chart.curves.push_back({"validation", 1, Stroke::solid, points(files, "validation." + name)});
    add(std::move(chart));
  }
  for (const auto& [part, name] :
       {std::pair("step.", "lr"), {"step.", "grad_norm"}, {"epoch.", "samples_per_second"}}) {
    Chart chart;
    chart.title = metric_label(name);
    chart.curves.push_back({chart.title, 2, Stroke::solid, points(files, std::string(part) + name)});
    chart.legend = false;
    add(std::move(chart));
  }
  if (charts.empty()) return {};
  std::string content = "<div class=\"charts\">\n";
  for (const std::string& chart : charts) content += chart;
  content += "</div>\n";
  if (checkpoint) {
    content += fmt::format(
        "<p class=\"muted small\">The dotted line is step {:.0f}: results are of its checkpoint.</p>\n", *checkpoint);
  }
  return section("curves", "Curves", content);
}

}  // namespace trivet::report
