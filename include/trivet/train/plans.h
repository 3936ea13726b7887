// All plans that a training run needs, compiled before anything runs, and what they say about memory and time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trivet/exec/device.h"
#include "trivet/exec/session.h"
#include "trivet/exec/tiles.h"
#include "trivet/train/graphs.h"

namespace trivet {

struct SampleCounts {
  std::int64_t train = 0;
  std::int64_t validation = 0;
  std::int64_t test = 0;
};

// With train.zero on several ranks: who keeps what for all. Equal on all ranks; otherwise empty.
struct ShardedStates {
  struct Entry {
    Value value;
    int owner = 0;  // or kEveryRank
  };
  static constexpr int kEveryRank = -1;  // all ranks keep it, alike
  std::vector<Entry> parameters;
  std::vector<Entry> optimizer;  // of the whole run; the layout of a rank has its own alone
  bool empty() const { return parameters.empty(); }
};

using PlanPtr = std::shared_ptr<const Plan>;

// Plans by their number of samples: the last batch of an epoch is usually smaller.
struct TrainPlans {
  StateLayout states{64};
  ShardedStates sharded;
  std::map<std::int64_t, PlanPtr> step;        // empty if gradients are accumulated
  std::map<std::int64_t, PlanPtr> accumulate;  // empty if not
  // With train.shards, instead of accumulate.
  std::map<std::pair<std::int64_t, ShardPlace>, PlanPtr> shard;
  PlanPtr apply;  // with accumulate or shard
  std::map<std::int64_t, PlanPtr> evaluate;
  std::string graph_hash;  // of the main training graph, before recomputation: what a checkpoint belongs to
  int recomputed = 0;      // activations of the main plan that are made again to save memory

  std::vector<PlanPtr> all() const;
  // The plan over a full batch (or micro-batch): what `trivet plan` shows.
  const Plan& main() const { return *main_entry().second; }
  std::int64_t main_samples() const { return main_entry().first; }
  std::size_t arena_bytes() const { return Arena::planned_bytes(states, all()); }

  // The largest pass and its number of samples.
  std::pair<std::int64_t, PlanPtr> main_entry() const;
};

// The part of a batch that one of several has: `count` samples from `first` on.
struct Slice {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
// Slice `index` of `samples` cut into `parts` of sizes that differ by 1 at most, the larger ones first.
Slice slice_of(std::int64_t samples, std::int64_t index, std::int64_t parts);
// What this process has of a batch of `samples`: config.rank's part, a whole number of shards if there are any.
Slice own_slice(const TrainConfig& config, std::int64_t samples);
// The samples of a pass of evaluation.
std::int64_t evaluation_batch(const TrainConfig& config);

// Samples of each pass when `samples` are cut into pieces of `piece`: full pieces, then the rest.
std::vector<std::int64_t> pieces(std::int64_t samples, std::int64_t piece);

// Runs every plan through the passes and compiles it for the device. Where a training plan's transient memory passes
// `transient_budget`, activations are recomputed until it does not, or as little as can be reached is used.
TrainPlans plan_training(const ModelTask& task, const TrainConfig& config, const SampleCounts& counts,
                         const Device& device, std::size_t transient_budget = SIZE_MAX);

// The graph through optimize().
Graph optimized(const Graph& graph);

// One graph through the passes and the compiler; its states are added to the layout.
PlanPtr compile_graph(const Graph& graph, StateLayout& states, const Device& device);

// Plans for predictions over batches of these sizes.
TilePlans predict_plans(const ModelTask& task, const std::set<std::int64_t>& batches, StateLayout& states,
                        const Device& device);

// Memory of a whole run by what it is for, to the byte for what is planned.
struct MemoryReport {
  BytesByClass arena{};  // at the peak of the plan with the largest transient part
  std::size_t constants = 0;
  std::size_t fragmentation = 0;  // between buffers at the peak
  std::size_t arena_total = 0;    // sum of the above = what the run allocates for its arena
  std::size_t staging = 0;        // inputs on their way to a device with a memory of its own: there, and on the host
  std::size_t data_set = 0;
  std::size_t loader = 0;
  std::size_t evaluation = 0;  // predictions that are measured
  std::size_t program = 0;     // code, libraries, threads: measured in this process, plus kProgramAllowance
  bool apart = false;          // the arena lies in a device's own memory
  std::size_t on_device() const { return apart ? arena_total + staging : 0; }
  std::size_t on_host() const { return (apart ? staging : arena_total) + data_set + loader + evaluation + program; }
  std::size_t total() const { return on_device() + on_host(); }
  // What a budget bounds: what is taken where the plans run.
  std::size_t bounded() const { return apart ? on_device() : on_host(); }
};

// For the log, records and the system's buffers, which nobody plans.
inline constexpr std::size_t kProgramAllowance = std::size_t{48} << 20;

MemoryReport report_memory(const StateLayout& states, const std::vector<PlanPtr>& plans, const Device& device,
                           std::size_t data_set, std::size_t loader, std::size_t evaluation);

// Error(memory) if it is more than the host has, or the device, or if bounded() is more than `budget`, unless that is
// 0; `what` needs it.
void require_memory(const MemoryReport& memory, const Device& device, std::size_t budget, const std::string& what,
                    const std::string& hint);

// Resident bytes of this process now / at its highest (VmRSS, VmHWM of /proc/self/status).
std::size_t resident_bytes();
std::size_t peak_resident_bytes();

// Operations with FLOPs, bytes and predicted time; memory by class; predicted step time.
std::string describe_plan(const Plan& plan, const MemoryReport& memory, const Ceilings& ceilings, std::int64_t samples);

}  // namespace trivet
