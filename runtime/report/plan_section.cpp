// What was planned: operations by predicted time, memory by kind.
#include <fmt/format.h>

#include "runtime/report/html.h"
#include "runtime/report/plan_text.h"
#include "runtime/report/sections.h"
#include "trivet/base/text.h"

namespace trivet::report {
namespace {

constexpr std::size_t kMostSteps = 40;
constexpr std::size_t kMostKinds = 40;
constexpr std::size_t kMostMemory = 40;
constexpr std::size_t kMostNotes = 10;
constexpr std::size_t kLongestText = 300;  // bytes

struct Sums {
  std::string op;
  std::size_t count = 0;
  double flops = 0, bytes = 0, seconds = 0;
};

std::string bytes_text(double bytes) { return format_bytes(static_cast<std::uint64_t>(std::clamp(bytes, 0.0, 1e18))); }

std::string bar(double share) { return fmt::format("<span class=\"bar\" style=\"--w:{:.1f}%\"></span>", 100 * share); }

std::string cost_cells(double flops, double bytes, double seconds, double most) {
  return fmt::format(
      "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"bars\">{}</td></tr>\n",
      format_count(flops), bytes_text(bytes), format_seconds(seconds), bar(most > 0 ? seconds / most : 0));
}

constexpr const char* kCostHeads =
    "<th class=\"n\">FLOPs</th><th class=\"n\">bytes</th><th class=\"n\">predicted</th><th></th></tr></thead><tbody>\n";

std::string kinds_table(const std::vector<PlanText::Step>& steps) {
  std::map<std::string, Sums> by_op;
  for (const PlanText::Step& step : steps) {
    Sums& sums = by_op[step.op];
    sums.op = step.op;
    ++sums.count;
    sums.flops += step.flops;
    sums.bytes += step.bytes;
    sums.seconds += step.seconds;
  }
  std::vector<Sums> kinds;
  for (const auto& [op, sums] : by_op) kinds.push_back(sums);
  std::stable_sort(kinds.begin(), kinds.end(), [](const Sums& a, const Sums& b) { return a.seconds > b.seconds; });
  std::string out = "<div class=\"scroll\"><table class=\"wide\"><thead><tr><th>op</th><th class=\"n\">operations</th>";
  out += kCostHeads;
  for (std::size_t i = 0; i < std::min(kinds.size(), kMostKinds); ++i) {
    const Sums& k = kinds[i];
    out += fmt::format("<tr><td>{}</td><td class=\"n\">{}</td>", escape(shorten(k.op, kLongestText)), k.count) +
           cost_cells(k.flops, k.bytes, k.seconds, kinds[0].seconds);
  }
  return out + "</tbody></table></div>\n";
}

std::string steps_table(std::vector<PlanText::Step> steps) {
  std::stable_sort(steps.begin(), steps.end(),
                   [](const PlanText::Step& a, const PlanText::Step& b) { return a.seconds > b.seconds; });
  const std::size_t rows = std::min(steps.size(), kMostSteps);
  std::string out = fmt::format(
      "<details><summary>Operations, the longest first ({} of {})</summary><div class=\"scroll\"><table class=\"wide\">"
      "<thead><tr><th>node</th><th>op</th><th>output</th>{}",
      rows, steps.size(), kCostHeads);
  for (std::size_t i = 0; i < rows; ++i) {
    const PlanText::Step& s = steps[i];
    out += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td>", escape(shorten(s.node, kLongestText)),
                       escape(shorten(s.op, kLongestText)), escape(shorten(s.output, kLongestText))) +
           cost_cells(s.flops, s.bytes, s.seconds, steps[0].seconds);
  }
  return out + "</tbody></table></div></details>\n";
}

std::string memory_table(const std::vector<PlanText::Memory>& memory) {
  if (memory.empty()) return {};
  double most = 0;
  for (const PlanText::Memory& m : memory) most = std::max(most, m.bytes);
  std::string out = "<h3>Memory at the peak</h3><div class=\"scroll\"><table class=\"wide\"><tbody>\n";
  for (std::size_t i = 0; i < std::min(memory.size(), kMostMemory); ++i) {
    const PlanText::Memory& m = memory[i];
    out +=
        fmt::format("<tr><td>{}{}</td><td class=\"n\">{}</td><td class=\"bars\">{}</td></tr>\n", m.part ? "&emsp;" : "",
                    escape(shorten(m.name, kLongestText)), bytes_text(m.bytes), bar(most > 0 ? m.bytes / most : 0));
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string plan_section(const std::string& text) {
  const PlanText plan = read_plan_text(text);
  if (plan.title.empty() && plan.steps.empty()) return {};
  std::string content = fmt::format("<p class=\"muted\">{}</p>\n", escape(shorten(plan.title, kLongestText)));
  for (std::size_t i = 0; i < std::min(plan.notes.size(), kMostNotes); ++i) {
    content += fmt::format("<p>{}</p>\n", escape(shorten(plan.notes[i], 2 * kLongestText)));
  }
  if (!plan.steps.empty()) content += "<h3>One step, by op</h3>" + kinds_table(plan.steps) + steps_table(plan.steps);
  return section("plan", "Plan", content + memory_table(plan.memory));
}

}  // namespace trivet::report
