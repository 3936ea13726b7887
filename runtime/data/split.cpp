#include "trivet/data/split.h"

#include "trivet/base/error.h"
#include "trivet/data/random.h"

namespace trivet {
namespace {

void shuffle(std::span<std::int64_t> values, DrawSequence draws) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[draws.below(i)]);
}

}  // namespace

Split split_indices(std::int64_t n, double validation_share, std::uint64_t seed) {
  // Written so that a NaN is refused.
  if (n < 0 || !(validation_share >= 0 && validation_share < 1)) {
    throw Error(ErrorCode::data, fmt::format("cannot hold out a share of {} of {} samples", validation_share, n),
                "the share lies in [0, 1)");
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  shuffle(order, DrawSequence(data_key(seed, DataDraw::split, 0)));
  std::int64_t held_out = 0;
  if (validation_share > 0 && n > 1) {
    held_out = static_cast<std::int64_t>(std::floor(validation_share * static_cast<double>(n) + 1e-9));
    held_out = std::clamp(held_out, std::int64_t{1}, n - 1);
  }
  const auto middle = order.begin() + held_out;
  Split split;
  split.validation.assign(order.begin(), middle);
  split.train.assign(middle, order.end());
  std::sort(split.validation.begin(), split.validation.end());
  std::sort(split.train.begin(), split.train.end());
  return split;
}

std::vector<std::int64_t> shuffled(std::span<const std::int64_t> indices, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(indices.begin(), indices.end());
  shuffle(order, DrawSequence(data_key(seed, DataDraw::shuffle, static_cast<std::uint64_t>(epoch))));
  return order;
}

std::vector<std::int64_t> balanced(std::span<const std::int64_t> indices, std::span<const std::int32_t> labels,
                                   std::uint64_t seed, std::int64_t epoch) {
  if (indices.size() != labels.size()) {
    throw Error(ErrorCode::internal, fmt::format("{} labels of {} samples", labels.size(), indices.size()));
  }
  const std::uint64_t key = data_key(seed, DataDraw::balance, static_cast<std::uint64_t>(epoch));
  std::map<std::int32_t, std::vector<std::int64_t>> members;
  for (std::size_t i = 0; i < indices.size(); ++i) members[labels[i]].push_back(indices[i]);
  std::vector<std::int64_t> classes;
  for (const auto& [label, samples] : members) classes.push_back(label);
  shuffle(classes, DrawSequence(key, 0));  // which of them are visited once more
  std::vector<std::int64_t> order;
  order.reserve(indices.size());
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const auto label = static_cast<std::int32_t>(classes[c]);
    std::vector<std::int64_t>& samples = members[label];
    shuffle(samples, DrawSequence(key, 2 + static_cast<std::uint64_t>(label)));
    const std::size_t visits = indices.size() / classes.size() + (c < indices.size() % classes.size() ? 1 : 0);
    for (std::size_t i = 0; i < visits; ++i) order.push_back(samples[i % samples.size()]);
  }
  shuffle(order, DrawSequence(key, 1));
  return order;
}

}  // namespace trivet
