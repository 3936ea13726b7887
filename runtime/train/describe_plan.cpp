#include <fmt/format.h>

#include "trivet/base/table.h"
#include "trivet/base/text.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

std::string steps_table(const Plan& plan, const Ceilings& ceilings) {
  Table table({"#", "node", "op", "output", "FLOPs", "bytes", "predicted"});
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const PlannedStep& step = plan.steps[i];
    const std::string output =
        step.outputs.empty() ? "" : to_string(plan.values[static_cast<std::size_t>(step.outputs[0])].type);
    std::string op = step.op;
    if (i < plan.first_repeated) op += step.packs ? " weights, once" : ", once";
    table.add_row({fmt::format("{}", i), step.node, op, output, format_count(step.flops),
                   format_bytes(static_cast<std::uint64_t>(step.bytes)),
                   format_seconds(Plan::seconds(step, ceilings))});
  }
  return table.str();
}

std::string exact(std::size_t bytes) { return fmt::format("{}", bytes); }

std::string memory_table(const MemoryReport& memory) {
  Table table({"memory at the peak", "", "bytes"});
  const auto row = [&](const std::string& what, std::size_t bytes) {
    table.add_row({what, format_bytes(bytes), exact(bytes)});
  };
  for (int c = 0; c < kMemoryClasses; ++c) {
    const auto memory_class = static_cast<MemoryClass>(c);
    const std::size_t bytes = memory.arena[static_cast<std::size_t>(c)];
    if (memory_class == MemoryClass::data && bytes == 0) continue;  // most devices read the host's
    row(fmt::format("  {}", memory_class_name(memory_class)), bytes);
  }
  if (memory.constants > 0) row("  constants", memory.constants);
  if (memory.fragmentation > 0) row("  between buffers", memory.fragmentation);
  row("arena", memory.arena_total);
  if (memory.apart) {
    row("inputs on their way", memory.staging);
    row("on the device", memory.on_device());
    row("inputs on their way, pinned", memory.staging);
  }
  row("data set", memory.data_set);
  row("batches prepared ahead", memory.loader);
  row("predictions being measured", memory.evaluation);
  row("program and libraries, at most", memory.program);
  row(memory.apart ? "on the host, at most" : "total, at most", memory.on_host());
  return table.str();
}

}  // namespace

std::string describe_plan(const Plan& plan, const MemoryReport& memory, const Ceilings& c, std::int64_t samples) {
  std::string text = fmt::format("plan {} on {}\n\n", plan.name, plan.target);
  text += steps_table(plan, c) + "\n" + memory_table(memory) + "\n";
  const double seconds = plan.seconds(c);
  text += fmt::format("one step: {} operations, {}FLOP, {} moved\n", plan.steps.size() - plan.first_repeated,
                      format_count(plan.flops()), format_bytes(static_cast<std::uint64_t>(plan.bytes())));
  text += fmt::format(
      "predicted: {} a step, {:.0f} samples/s, from measured ceilings (matrix products {}FLOP/s, other arithmetic "
      "{}FLOP/s, memory {:.1f} GB/s, caches {:.1f} GB/s, launch {})\n",
      format_seconds(seconds), static_cast<double>(samples) / seconds, format_count(c.matrix_flops),
      format_count(c.vector_flops), c.memory_bytes / 1e9, c.cache_bytes / 1e9, format_seconds(c.launch_seconds));
  return text;
}

}  // namespace trivet
