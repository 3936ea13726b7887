#include "trivet/plan/plan.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/base/hash.h"

namespace trivet {

void StateLayout::add(const Graph& graph) {
  for (const ValueId id : graph.states()) {
    const Value& v = graph.value(id);
    if (const Slot* known = find(v.name)) {
      if (known->value.type != v.type) {
        throw Error(ErrorCode::graph, fmt::format("state '{}' is {} in one graph and {} in another", v.name,
                                                  to_string(known->value.type), to_string(v.type)));
      }
      continue;
    }
    by_name_[v.name] = slots_.size();
    slots_.push_back({v, bytes_});
    bytes_ += (v.type.bytes() + alignment_ - 1) / alignment_ * alignment_;
  }
}

const StateLayout::Slot* StateLayout::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &slots_[it->second];
}

BytesByClass StateLayout::bytes_by_class() const {
  BytesByClass result{};
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const std::size_t end = i + 1 < slots_.size() ? slots_[i + 1].offset : bytes_;
    result[static_cast<std::size_t>(slots_[i].value.memory)] += end - slots_[i].offset;
  }
  return result;
}

double Plan::flops() const {
  double sum = 0;
  for (std::size_t i = first_repeated; i < steps.size(); ++i) sum += steps[i].flops;
  return sum;
}

double Plan::bytes() const {
  double sum = 0;
  for (std::size_t i = first_repeated; i < steps.size(); ++i) sum += steps[i].bytes;
  return sum;
}

double Plan::seconds(const PlannedStep& step, const Ceilings& c) {
  const double rate = step.matrix ? c.matrix_rate(step.dtype) : c.vector_flops;
  const double bandwidth = step.bytes <= static_cast<double>(c.cache_size) ? c.cache_bytes : c.memory_bytes;
  return c.launch_seconds + std::max(step.flops / rate, step.bytes / bandwidth);
}

double Plan::seconds(const Ceilings& ceilings) const {
  double sum = 0;
  for (std::size_t i = first_repeated; i < steps.size(); ++i) sum += seconds(steps[i], ceilings);
  return sum;
}

std::string Plan::dump() const {
  constexpr std::array regions = {"state", "constant", "transient"};
  const auto place = [&](int v) {
    if (v < 0) return std::string("none");
    const PlannedValue& p = values[static_cast<std::size_t>(v)];
    return fmt::format("{}@{}+{}", to_string(p.type), regions[static_cast<std::size_t>(p.region)], p.offset);
  };
  std::string text = fmt::format("plan {} for {}\ngraph {}\nstate {} constant {} transient {}\n", name, target,
                                 graph_hash, state_bytes, constant_bytes, transient_bytes);
  for (const auto& [input, v] : inputs) text += fmt::format("input {} {}\n", input, place(v));
  for (const PlannedStep& s : steps) {
    std::vector<std::string> in, out;
    for (const int v : s.inputs) in.push_back(place(v));
    for (const int v : s.outputs) out.push_back(place(v));
    text += fmt::format("{} {} ({}) -> ({}) workspace {}+{} flops {} bytes {}", s.node, s.op, fmt::join(in, ", "),
                        fmt::join(out, ", "), s.workspace_offset, s.workspace_bytes, s.flops, s.bytes);
    if (s.packed_bytes > 0)
      text += fmt::format(" {} {}+{}", s.packs ? "packs" : "packed", s.packed_offset, s.packed_bytes);
    text += "\n";
  }
  for (const auto& [output, v] : outputs) text += fmt::format("output {} {}\n", output, place(v));
  return text;
}

std::string Plan::hash() const { return sha256_hex(dump()); }

}  // namespace trivet
