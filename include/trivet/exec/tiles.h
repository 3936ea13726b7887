// Inference over batches: each batch is cut into tiles whose activations stay in the caches, and each thread of the
// device takes tiles on its own, which spares the threads from waiting for each other after every op.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "trivet/exec/session.h"

namespace trivet {

// A graph for so many samples, in which no sample depends on another; all inputs and outputs have them as first axis.
using GraphOfSamples = std::function<Graph(std::int64_t samples)>;

struct TilePlans {
  std::int64_t tile = 0;  // samples of a full tile
  // By number of samples. A plan for full tiles comes with a twin for each further thread.
  std::map<std::int64_t, std::vector<std::shared_ptr<const Plan>>> plans;

  std::vector<std::shared_ptr<const Plan>> all() const;
};

// Plans for these sizes of batches, the largest of which decides the tile. Their states are added to the layout.
// Error(graph) as compile().
TilePlans compile_tiles(const GraphOfSamples& graph, const std::set<std::int64_t>& batches, StateLayout& states,
                        const Device& device);

// Runs them on an arena that was made for all of them.
class TiledSession {
 public:
  struct Input {
    std::string name;
    const void* data = nullptr;
    std::size_t bytes = 0;  // of the whole batch
  };
  struct Output {
    std::string name;
    void* data = nullptr;
    std::size_t bytes = 0;
  };

  TiledSession(std::shared_ptr<Arena> arena, const TilePlans& plans);
  // `samples`: one of the sizes that were compiled. Error(graph) if names or sizes are not those of the plans.
  void run(std::int64_t samples, std::span<const Input> inputs, std::span<const Output> outputs);

 private:
  using Lanes = std::vector<std::unique_ptr<Session>>;  // one for each thread
  Lanes& lanes(std::int64_t samples);
  static void run_tile(Session& session, std::int64_t first, std::int64_t count, std::int64_t samples,
                       std::span<const Input> inputs, std::span<const Output> outputs);

  std::shared_ptr<Arena> arena_;
  std::int64_t tile_;
  std::map<std::int64_t, Lanes> sessions_;
};

}  // namespace trivet
