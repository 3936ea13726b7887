#include "runtime/report/plan_text.h"

#include <charconv>
#include <sstream>
#include <string_view>

namespace trivet::report {
namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

// Columns stand at least two spaces apart; inside of a cell there is one at most.
std::vector<std::string> cells_of(std::string_view line) {
  std::vector<std::string> cells;
  line = trimmed(line);
  while (!line.empty()) {
    const std::size_t gap = line.find("  ");
    cells.emplace_back(line.substr(0, gap));
    line = gap == std::string_view::npos ? std::string_view() : trimmed(line.substr(gap));
  }
  return cells;
}

// "12", "1.50 M", "1.5 MiB", "12.3 us", "2 m 05 s": a number with a unit, as trivet/base/text.h writes them.
double quantity(std::string_view text) {
  struct Unit {
    std::string_view name;
    double factor;
  };
  constexpr Unit kUnits[] = {{"k", 1e3},      {"M", 1e6},      {"G", 1e9},      {"T", 1e12},
                             {"P", 1e15},     {"B", 1},        {"KiB", 1024},   {"MiB", 0x1p20},
                             {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"PiB", 0x1p50}, {"us", 1e-6},
                             {"ms", 1e-3},    {"s", 1},        {"m", 60},       {"h", 3600}};
  double sum = 0;
  while (!(text = trimmed(text)).empty()) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{}) return 0;
    text = trimmed(text.substr(static_cast<std::size_t>(end - text.data())));
    const std::string_view name = text.substr(0, text.find(' '));
    double factor = name.empty() ? 1 : 0;
    for (const Unit& unit : kUnits) {
      if (unit.name == name) factor = unit.factor;
    }
    sum += value * factor;
    text.remove_prefix(name.size());
  }
  return sum;
}

// #, node, op, output, FLOPs, bytes, predicted; an operation without outputs has an empty cell there.
void add_step(PlanText& plan, const std::vector<std::string>& cells) {
  if (cells.size() < 6) return;
  const std::size_t n = cells.size();
  plan.steps.push_back({cells[1], cells[2], n > 6 ? cells[3] : "", quantity(cells[n - 3]), quantity(cells[n - 2]),
                        quantity(cells[n - 1])});
}

void add_memory(PlanText& plan, const std::string& line, const std::vector<std::string>& cells) {
  if (cells.size() < 3) return;
  plan.memory.push_back({cells[0], quantity(cells.back()), line.starts_with("  ")});
}

}  // namespace

PlanText read_plan_text(const std::string& text) {
  enum class Part { title, steps, memory, notes };
  PlanText plan;
  Part part = Part::title;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> cells = cells_of(line);
    if (cells.empty()) {
      if (part != Part::title) part = Part::notes;
    } else if (cells[0] == "#") {
      part = Part::steps;
    } else if (cells[0] == "memory at the peak") {
      part = Part::memory;
    } else if (part == Part::steps) {
      add_step(plan, cells);
    } else if (part == Part::memory) {
      add_memory(plan, line, cells);
    } else if (part == Part::title && plan.title.empty()) {
      plan.title = line;
    } else {
      plan.notes.push_back(line);
    }
  }
  return plan;
}

}  // namespace trivet::report
