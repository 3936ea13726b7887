// A plan: a graph compiled for one device and one set of shapes. Immutable. It holds the order of operations, every
// buffer's place, and for each operation its FLOPs and the bytes that it must move. Nothing else in Trivet computes a
// second opinion of these.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trivet/graph/graph.h"
#include "trivet/plan/target.h"

namespace trivet {

inline constexpr int kMemoryClasses = 6;
using BytesByClass = std::array<std::size_t, kMemoryClasses>;  // indexed by MemoryClass

// Where the states of one or several graphs live. Plans that share a layout share parameters.
class StateLayout {
 public:
  explicit StateLayout(std::size_t alignment) : alignment_(alignment) {}

  struct Slot {
    Value value;
    std::size_t offset = 0;
  };

  // Adds the graph's states that are not there yet. Error(graph) if a name comes again with another type.
  void add(const Graph& graph);
  const Slot* find(const std::string& name) const;
  const std::vector<Slot>& slots() const { return slots_; }  // in order of addition
  std::size_t bytes() const { return bytes_; }
  BytesByClass bytes_by_class() const;

 private:
  std::size_t alignment_;
  std::size_t bytes_ = 0;
  std::vector<Slot> slots_;
  std::map<std::string, std::size_t> by_name_;
};

// The parts of an arena. `transient` is shared by all plans of the arena, one after the other. `constant` holds a
// plan's constants and what its first steps compute of the states.
enum class Region { state, constant, transient };

struct PlannedValue {
  std::string name;
  TensorType type;
  Region region = Region::transient;
  std::size_t offset = 0;  // within the region
  int buffer = -1;         // index into Plan::buffers for transient values
  int alias_of = -1;       // the value that this one is another shape of
};

struct PlannedBuffer {
  std::size_t offset = 0;
  std::size_t bytes = 0;  // rounded up to the alignment
  int first = 0;          // live from step `first` (-1: before the run) ...
  int last = 0;           // ... to step `last` (number of steps: after the run)
  MemoryClass memory = MemoryClass::activations;
  std::string name;  // of the value that it was made for
};

struct PlannedStep {
  std::string node;
  std::string op;
  const kernels::KernelEntry* kernel = nullptr;
  std::shared_ptr<const kernels::Prepared> prepared;
  std::vector<std::byte> attrs;
  std::vector<int> inputs;  // indices into Plan::values; -1 where an optional input is absent
  std::vector<int> outputs;
  std::size_t workspace_offset = 0;  // in the transient region
  std::size_t workspace_bytes = 0;
  bool packs = false;             // calls the kernel's pack() instead of run()
  std::size_t packed_offset = 0;  // in the constant region
  std::size_t packed_bytes = 0;
  kernels::TensorDesc weights;  // what was packed
  double flops = 0;
  double bytes = 0;
  bool matrix = false;
  DType dtype = DType::f32;  // of the first input, which decides the rate of matrix products

  // Those of the op, as the struct that its kernels read.
  template <class A>
  A attributes() const {
    A result;
    std::memcpy(&result, attrs.data(), sizeof result);
    return result;
  }
};

struct Plan {
  std::string name;
  std::string target;  // Target::description()
  int threads = 1;
  std::vector<PlannedStep> steps;
  // Steps before this one compute what depends on the states alone; they run again only after those have changed.
  std::size_t first_repeated = 0;
  std::vector<PlannedValue> values;
  std::vector<PlannedBuffer> buffers;  // transient ones, workspaces among them
  std::map<std::string, int> inputs;   // name -> index into values
  std::map<std::string, int> outputs;
  std::vector<std::pair<std::size_t, Tensor>> constants;  // offset in the constant region, content
  std::size_t state_bytes = 0;
  std::size_t constant_bytes = 0;
  std::size_t transient_bytes = 0;
  BytesByClass peak_by_class{};  // of the transient region at the step where most of it is live
  std::size_t peak_live = 0;     // sum of peak_by_class; transient_bytes - peak_live is lost to fragmentation
  int peak_step = 0;
  std::string graph_hash;
  // A twin runs on a thread of its own beside the plan that it was made from: it has transient memory of its own,
  // from transient_offset on, and uses the constant region of that plan.
  std::shared_ptr<const Plan> twin_of;
  std::size_t transient_offset = 0;

  double flops() const;  // of a run, without the steps before first_repeated; so for bytes and seconds
  double bytes() const;
  // Predicted time of one step: the larger of FLOPs over rate and bytes over bandwidth, and the launch.
  static double seconds(const PlannedStep& step, const Ceilings& ceilings);
  double seconds(const Ceilings& ceilings) const;
  std::string dump() const;  // stable text: steps, values, places
  std::string hash() const;
};

struct CompileOptions {
  bool tile = false;  // one thread's part of a batch; otherwise the plan has all threads of the target
  // The states seldom change, and by no run of the plan: what can be computed of them alone is computed once, and
  // weights are kept as the kernels like them. The graph must have no updates.
  bool fixed_states = false;
};

// Compiles. The graph has been through the passes; nodes whose results nobody needs are an error of the caller's, not
// removed here. Error(graph) names the node where the target has no kernel for an op's types and shapes, or where a
// state's update cannot be written in place.
std::shared_ptr<const Plan> compile(const Graph& graph, const StateLayout& states, const Target& target,
                                    const CompileOptions& options = {});

// `plan` and `count` - 1 twins of it. Error(graph) as compile().
std::vector<std::shared_ptr<const Plan>> with_twins(const std::shared_ptr<const Plan>& plan, int count,
                                                    const Target& target);

// Derives all lifetimes again from the finished plan, by other means than the compiler, and throws Error(internal) if
// two live buffers overlap or a step reads what was overwritten. Run on every plan that is compiled: it is cheap.
void check_plan(const Plan& plan);

}  // namespace trivet
