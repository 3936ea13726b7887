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

}  // namespace trivet
