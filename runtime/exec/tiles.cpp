#include "trivet/exec/tiles.h"

#include <fmt/format.h>

#include <algorithm>

#include "trivet/base/error.h"

namespace trivet {
namespace {

// Smaller batches are run as one, all threads at each op. That the number of threads has no say in which batches are
// cut keeps results the same on any number: tiles may be computed by other algorithms.
constexpr std::int64_t kLeastTile = 8;

// Bytes that the largest op reads and writes, its weights aside.
std::size_t largest_op(const Graph& graph) {
  const std::vector<ValueId> inputs = graph.inputs();
  std::set<ValueId> moving(inputs.begin(), inputs.end());
  std::size_t largest = 0;
  for (const Node& node : graph.nodes()) {
    std::size_t bytes = 0;
    for (const ValueId v : node.inputs) {
      if (v != kNoValue && moving.contains(v)) bytes += graph.type(v).bytes();
    }
    if (bytes == 0) continue;
    for (const ValueId v : node.outputs) {
      moving.insert(v);
      bytes += graph.type(v).bytes();
    }
    if (!node.op->alias) largest = std::max(largest, bytes);
  }
  return largest;
}

std::int64_t choose_tile(const Graph& graph, std::int64_t samples, const Device& device) {
  const int threads = device.threads();
  if (device.tile_bytes() == 0 || samples < kLeastTile) return samples;
  const auto bytes = [each = largest_op(graph) / static_cast<std::size_t>(samples)](std::int64_t tile) {
    return each * static_cast<std::size_t>(tile);
  };
  std::int64_t tile = (samples + threads - 1) / threads;
  while (bytes(tile) > device.tile_bytes() && tile >= 2 * kLeastTile) tile = (tile + 1) / 2;
  return tile;
}

}  // namespace

std::vector<std::shared_ptr<const Plan>> TilePlans::all() const {
  std::vector<std::shared_ptr<const Plan>> result;
  for (const auto& [samples, twins] : plans) result.insert(result.end(), twins.begin(), twins.end());
  return result;
}

TilePlans compile_tiles(const GraphOfSamples& graph, const std::set<std::int64_t>& batches, StateLayout& states,
                        const Device& device) {
  const int threads = device.threads();
  const std::int64_t largest = *batches.rbegin();
  TilePlans result;
  result.tile = choose_tile(graph(largest), largest, device);
  const bool tiled = device.tile_bytes() > 0 && largest >= kLeastTile;
  const auto add = [&](std::int64_t samples, int lanes) {
    if (samples == 0 || result.plans.contains(samples)) return;
    const Graph made = graph(samples);
    states.add(made);
    const auto plan = compile(made, states, device, {.tile = tiled, .fixed_states = true});
    result.plans[samples] = with_twins(plan, lanes, device);
  };
  if (tiled) add(result.tile, threads);
  for (const std::int64_t batch : batches) add(tiled ? batch % result.tile : batch, 1);
  return result;
}

TiledSession::TiledSession(std::shared_ptr<Arena> arena, const TilePlans& plans)
    : arena_(std::move(arena)), tile_(plans.tile) {
  for (const auto& [samples, twins] : plans.plans) {
    for (const auto& plan : twins) sessions_[samples].push_back(std::make_unique<Session>(arena_, plan));
  }
}

TiledSession::Lanes& TiledSession::lanes(std::int64_t samples) {
  const auto found = sessions_.find(samples);
  if (found == sessions_.end()) {
    throw Error(ErrorCode::graph, fmt::format("no plan was compiled for a batch or tile of {} samples", samples));
  }
  return found->second;
}

void TiledSession::run_tile(Session& session, std::int64_t first, std::int64_t count, std::int64_t samples,
                            std::span<const Input> inputs, std::span<const Output> outputs) {
  const auto at = static_cast<std::size_t>(first), size = static_cast<std::size_t>(count);
  const auto all = static_cast<std::size_t>(samples);
  for (const Input& input : inputs) {
    session.set_input(input.name, static_cast<const std::byte*>(input.data) + at * (input.bytes / all),
                      size * (input.bytes / all));
  }
  session.run();
  for (const Output& output : outputs) {
    session.read_output(output.name, static_cast<std::byte*>(output.data) + at * (output.bytes / all),
                        size * (output.bytes / all));
  }
}

void TiledSession::run(std::int64_t samples, std::span<const Input> inputs, std::span<const Output> outputs) {
  const std::int64_t tiles = samples / tile_;
  if (const std::int64_t rest = samples % tile_; rest > 0) {
    run_tile(*lanes(rest)[0], samples - rest, rest, samples, inputs, outputs);
  }
  if (tiles == 0) return;
  Lanes& full = lanes(tile_);
  if (tiles == 1) return run_tile(*full[0], 0, tile_, samples, inputs, outputs);
  full[0]->refresh();
  arena_->device().run_tasks(tiles, [&](std::int64_t tile, int thread) {
    run_tile(*full[static_cast<std::size_t>(thread)], tile * tile_, tile_, samples, inputs, outputs);
  });
}

}  // namespace trivet
