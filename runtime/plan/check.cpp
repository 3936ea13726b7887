#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/plan/plan.h"

namespace trivet {
namespace {

// Plays the plan over a map of who wrote which bytes last. It looks at addresses alone, not at the compiler's buffers
// and lifetimes, so it does not repeat the compiler's mistakes.
class Replay {
 public:
  explicit Replay(const Plan& plan) : plan_(plan) {}

  void run() {
    std::set<int> computed;
    for (const PlannedStep& step : plan_.steps) computed.insert(step.outputs.begin(), step.outputs.end());
    for (std::size_t v = 0; v < plan_.values.size(); ++v) {
      const PlannedValue& p = plan_.values[v];
      if (p.region != Region::transient && p.alias_of < 0 && !computed.contains(static_cast<int>(v))) {
        write(static_cast<int>(v), "state " + p.name);
      }
    }
    for (const auto& [name, v] : plan_.inputs) write(v, "input " + name);
    for (const PlannedStep& step : plan_.steps) {
      for (const int v : step.inputs) {
        if (v >= 0) require_intact(v, step.node);
      }
      check_outputs(step);
      if (step.workspace_bytes > 0) {
        claim(Region::transient, step.workspace_offset, step.workspace_bytes, kScratch, step.node);
      }
      if (step.packs) {
        claim(Region::constant, step.packed_offset, step.packed_bytes, kPacked, step.node);
      } else if (step.packed_bytes > 0) {
        require(Region::constant, step.packed_offset, step.packed_bytes, kPacked, step.node, "its packed weights");
      }
      for (const int v : step.outputs) write(v, step.node);
    }
    for (const auto& [name, v] : plan_.outputs) require_intact(v, "output " + name);
  }

 private:
  static constexpr int kScratch = -2;
  static constexpr int kPacked = -3;

  struct Piece {
    std::size_t end = 0;
    int owner = 0;  // the value that was last written there
  };
  using Pieces = std::map<std::size_t, Piece>;  // by first byte

  const PlannedValue& value(int v) const { return plan_.values[static_cast<std::size_t>(v)]; }

  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorCode::internal, fmt::format("plan '{}': {}", plan_.name, message));
  }

  void write(int v, const std::string& node) {
    const PlannedValue& p = value(v);
    claim(p.region, p.offset, std::max<std::size_t>(p.type.bytes(), 1), v, node);
  }

  void claim(Region region, std::size_t begin, std::size_t bytes, int owner, const std::string& node) {
    const std::array sizes = {plan_.state_bytes, plan_.constant_bytes, plan_.transient_bytes};
    if (begin + bytes > sizes[static_cast<std::size_t>(region)]) {
      fail(fmt::format("{} writes outside of the arena", node));
    }
    Pieces& pieces = pieces_[static_cast<std::size_t>(region)];
    // Cut what stands in the way.
    auto it = pieces.lower_bound(begin);
    if (it != pieces.begin()) {
      const auto before = std::prev(it);
      if (before->second.end > begin) {
        if (before->second.end > begin + bytes) pieces[begin + bytes] = before->second;
        before->second.end = begin;
      }
    }
    it = pieces.lower_bound(begin);
    while (it != pieces.end() && it->first < begin + bytes) {
      if (it->second.end > begin + bytes) pieces[begin + bytes] = it->second;
      it = pieces.erase(it);
    }
    pieces[begin] = {begin + bytes, owner};
  }

  // All bytes of the value were last written as this value, or as the one that it is another shape of.
  void require_intact(int v, const std::string& reader) const {
    const PlannedValue& p = value(v);
    require(p.region, p.offset, std::max<std::size_t>(p.type.bytes(), 1), p.alias_of >= 0 ? p.alias_of : v, reader,
            "'" + p.name + "'");
  }

  void require(Region region, std::size_t offset, std::size_t bytes, int owner, const std::string& reader,
               const std::string& what) const {
    const Pieces& pieces = pieces_[static_cast<std::size_t>(region)];
    const auto it = pieces.find(offset);
    if (it == pieces.end() || it->second.end < offset + bytes || it->second.owner != owner) {
      fail(fmt::format("{} reads {} after it was overwritten", reader, what));
    }
  }

  // An output may lie over an input only if it starts where the input starts; and outputs, workspace and the other
  // inputs of a step never overlap.
  void check_outputs(const PlannedStep& step) const {
    for (const int o : step.outputs) {
      for (const int v : step.inputs) {
        if (v >= 0 && overlap(o, v) && (value(o).offset != value(v).offset || value(o).type != value(v).type)) {
          fail(fmt::format("{}: output '{}' overlaps input '{}'", step.node, value(o).name, value(v).name));
        }
      }
      for (const int other : step.outputs) {
        if (other != o && overlap(o, other)) fail(fmt::format("{}: two outputs overlap", step.node));
      }
      if (in_workspace(step, o)) fail(fmt::format("{}: the workspace overlaps an output", step.node));
    }
    for (const int v : step.inputs) {
      if (v >= 0 && in_workspace(step, v)) fail(fmt::format("{}: the workspace overlaps an input", step.node));
    }
  }

  bool overlap(int a, int b) const {
    const PlannedValue& x = value(a);
    const PlannedValue& y = value(b);
    return x.region == y.region && x.offset < y.offset + y.type.bytes() && y.offset < x.offset + x.type.bytes();
  }

  bool in_workspace(const PlannedStep& step, int v) const {
    const PlannedValue& p = value(v);
    return step.workspace_bytes > 0 && p.region == Region::transient &&
           p.offset < step.workspace_offset + step.workspace_bytes && step.workspace_offset < p.offset + p.type.bytes();
  }

  const Plan& plan_;
  std::array<Pieces, 3> pieces_;  // indexed by Region
};

}  // namespace

void check_plan(const Plan& plan) { Replay(plan).run(); }

}  // namespace trivet
