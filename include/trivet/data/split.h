// Which samples are for training, which are held out, and in which order an epoch visits them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trivet {

// Indices of samples, ascending. The two are disjoint and together complete.
struct Split {
  std::vector<std::int64_t> train;
  std::vector<std::int64_t> validation;
};

// Holds out floor(share * n) of n samples, chosen by the seed alone; at least 1 if share > 0 and n > 1. A product
// within 1e-9 of a whole number counts as that number, so that 0.29 of 100 are 29.
// Error(data) unless n >= 0 and 0 <= share < 1.
Split split_indices(std::int64_t n, double validation_share, std::uint64_t seed);

// The indices in the order of one epoch: a uniform permutation (Fisher and Yates), a pure function of its arguments.
std::vector<std::int64_t> shuffled(std::span<const std::int64_t> indices, std::uint64_t seed, std::int64_t epoch);

// The same number of draws in an order that visits all classes equally often: the counts of two classes differ by at
// most 1, and so do the visits of two samples of one class. `labels`: the class of each index. Classes without samples
// do not count. A pure function of its arguments.
std::vector<std::int64_t> balanced(std::span<const std::int64_t> indices, std::span<const std::int32_t> labels,
                                   std::uint64_t seed, std::int64_t epoch);

}  // namespace trivet
