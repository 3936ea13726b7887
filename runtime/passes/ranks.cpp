#include "trivet/passes/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "trivet/ops/registry.h"

namespace trivet {
namespace {

constexpr std::size_t kMostOfABucket = 256;  // tensors, as the op allows

// Positions in `values`, in the order in which these are computed, cut into buckets of one type each.
std::vector<std::vector<std::size_t>> buckets(const Graph& graph, std::span<const ValueId> values,
                                              const BucketSizes& sizes) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return graph.value(values[a]).producer < graph.value(values[b]).producer;
  });
  std::vector<std::vector<std::size_t>> result;
  std::size_t bytes = 0;
  for (const std::size_t i : order) {
    const TensorType& type = graph.type(values[i]);
    const std::size_t limit = result.size() == 1 ? sizes.first : sizes.others;
    if (result.empty() || bytes + type.bytes() > limit || result.back().size() == kMostOfABucket ||
        graph.type(values[result.back().front()]).dtype != type.dtype) {
      result.emplace_back();
      bytes = 0;
    }
    result.back().push_back(i);
    bytes += type.bytes();
  }
  return result;
}

// Something that goes to or comes from its owner.
struct Owned {
  std::size_t index;
  NodeId place;  // of the node that it must wait for
  int owner;
  TensorType type;
};

// Those of each owner and type cut into buckets, in the order in which the last of a bucket can go.
std::vector<std::vector<Owned>> buckets_of_owners(std::vector<Owned> all, std::size_t limit) {
  std::stable_sort(all.begin(), all.end(), [](const Owned& a, const Owned& b) { return a.place < b.place; });
  struct Open {
    std::size_t bucket = 0, bytes = 0;
  };
  std::map<std::pair<int, DType>, Open> open;
  std::vector<std::vector<Owned>> result;
  for (const Owned& o : all) {
    const auto [found, is_new] = open.try_emplace({o.owner, o.type.dtype});
    Open& now = found->second;
    if (is_new || now.bytes + o.type.bytes() > limit || result[now.bucket].size() == kMostOfABucket) {
      now = {result.size(), 0};
      result.emplace_back();
    }
    result[now.bucket].push_back(o);
    now.bytes += o.type.bytes();
  }
  std::stable_sort(result.begin(), result.end(),
                   [](const auto& a, const auto& b) { return a.back().place < b.back().place; });
  return result;
}

// Of what ranks do together in a run.
std::int64_t next_number(const Graph& graph) {
  return std::count_if(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) {
    return node.op->name == "sum_ranks_start" || node.op->name == "reduce_ranks_start";
  });
}

}  // namespace

std::vector<ValueId> sum_over_ranks(Graph& graph, std::span<const ValueId> values, int ranks,
                                    const BucketSizes& sizes) {
  std::vector<ValueId> sums(values.size(), kNoValue);
  std::int64_t number = next_number(graph);
  for (const std::vector<std::size_t>& bucket : buckets(graph, values, sizes)) {
    std::vector<ValueId> parts;
    for (const std::size_t i : bucket) parts.push_back(values[i]);
    const Attrs attrs = {{"number", number}, {"ranks", static_cast<std::int64_t>(ranks)}};
    const auto started = apply_all(graph, "sum_ranks_start", parts, attrs, fmt::format("sum{}.start", number));
    const auto done = apply_all(graph, "sum_ranks_wait", started, attrs, fmt::format("sum{}.wait", number));
    for (std::size_t i = 0; i < bucket.size(); ++i) {
      sums[bucket[i]] = done[i];
      graph.set_memory(started[i], MemoryClass::gradients);
      graph.set_memory(done[i], MemoryClass::gradients);
    }
    ++number;
  }
  return sums;
}

std::vector<int> share_out(std::span<const std::size_t> sizes, int ranks) {
  std::vector<std::size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return sizes[a] > sizes[b]; });
  std::vector<std::size_t> load(static_cast<std::size_t>(ranks));
  std::vector<int> owners(sizes.size());
  for (const std::size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    owners[i] = static_cast<int>(least - load.begin());
    *least += sizes[i];
  }
  return owners;
}

std::vector<ValueId> sum_for_owners(Graph& graph, std::span<const ValueId> values, std::span<const int> owners,
                                    int rank, int ranks, const BucketSizes& sizes) {
  std::vector<Owned> all;
  for (std::size_t i = 0; i < values.size(); ++i) {
    all.push_back({i, graph.value(values[i]).producer, owners[i], graph.type(values[i])});
  }
  const std::size_t limit = std::max(sizes.first, sizes.others / 4 / static_cast<std::size_t>(ranks));
  const auto all_buckets = buckets_of_owners(std::move(all), limit);
  const std::int64_t first = next_number(graph);
  std::vector<ValueId> sums(values.size(), kNoValue);
  std::vector<ValueId> started;  // the bucket before
  const auto attrs = [&](std::size_t b) -> Attrs {
    const std::int64_t root = all_buckets[b].front().owner;
    return {{"number", first + static_cast<std::int64_t>(b)}, {"ranks", std::int64_t{ranks}}, {"root", root}};
  };
  const auto wait = [&](std::size_t b, ValueId other) {
    const bool own = all_buckets[b].front().owner == rank;
    std::vector<ValueId> inputs = started;
    inputs.push_back(other);
    const auto done = apply_all(graph, own ? "reduce_ranks_wait" : "reduce_ranks_sent", inputs, attrs(b),
                                fmt::format("sum{}.{}", first + static_cast<std::int64_t>(b), own ? "wait" : "sent"));
    for (std::size_t i = 0; i < all_buckets[b].size(); ++i) {
      sums[all_buckets[b][i].index] = done[own ? i : 0];
      if (own) graph.set_memory(done[i], MemoryClass::gradients);
    }
  };
  for (std::size_t b = 0; b < all_buckets.size(); ++b) {
    std::vector<ValueId> parts;
    for (const Owned& o : all_buckets[b]) parts.push_back(values[o.index]);
    const auto next = apply_all(graph, "reduce_ranks_start", parts, attrs(b),
                                fmt::format("sum{}.start", first + static_cast<std::int64_t>(b)));
    for (const ValueId v : next) graph.set_memory(v, MemoryClass::gradients);
    if (b > 0) wait(b - 1, next.front());
    started = next;
  }
  if (!all_buckets.empty()) wait(all_buckets.size() - 1, kNoValue);
  return sums;
}

void broadcast_updates(Graph& graph, std::span<const OwnedState> states, int rank, int ranks,
                       const BucketSizes& sizes) {
  std::vector<Owned> all;
  for (std::size_t i = 0; i < states.size(); ++i) {
    all.push_back({i, graph.value(states[i].after).producer, states[i].owner, graph.type(states[i].state)});
  }
  std::int64_t number = next_number(graph);
  for (const std::vector<Owned>& bucket : buckets_of_owners(std::move(all), sizes.others)) {
    const int root = bucket.front().owner;
    const Attrs attrs = {{"number", number}, {"ranks", std::int64_t{ranks}}, {"root", std::int64_t{root}}};
    std::vector<ValueId> inputs;
    for (const Owned& o : bucket) inputs.push_back(root == rank ? states[o.index].now : states[o.index].state);
    if (root == rank) {
      const std::string name = fmt::format("broadcast{}.send", number);
      graph.set_output(name, apply(graph, "broadcast_ranks_send", inputs, attrs, name));
    } else {
      for (const Owned& o : bucket) inputs.push_back(states[o.index].after);
      const auto now =
          apply_all(graph, "broadcast_ranks_receive", inputs, attrs, fmt::format("broadcast{}.receive", number));
      for (std::size_t i = 0; i < bucket.size(); ++i) graph.set_update(states[bucket[i].index].state, now[i]);
    }
    ++number;
  }
}

}  // namespace trivet
