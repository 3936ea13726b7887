// plan.txt of a run (docs/runs.md), read back.
#pragma once

#include <string>
#include <vector>

namespace trivet::report {

struct PlanText {
  struct Step {
    std::string node, op, output;
    double flops = 0, bytes = 0, seconds = 0;
  };
  struct Memory {
    std::string name;
    double bytes = 0;
    bool part = false;  // of the arena, which is the sum of its parts
  };
  std::string title;  // the first line
  std::vector<Step> steps;
  std::vector<Memory> memory;
  std::vector<std::string> notes;  // the lines after the tables
};

// What is not understood is left out.
PlanText read_plan_text(const std::string& text);

}  // namespace trivet::report
