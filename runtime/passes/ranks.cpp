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

}  // namespace

std::vector<ValueId> sum_over_ranks(Graph& graph, std::span<const ValueId> values, int ranks,
                                    const BucketSizes& sizes) {
  std::vector<ValueId> sums(values.size(), kNoValue);
  std::int64_t number = 0;
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

}  // namespace trivet
