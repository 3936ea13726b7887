// Attributes of what ranks tell each other while a plan runs.
#pragma once

#include <cstdint>

namespace trivet::kernels {

struct SumRanksAttrs {
  std::int64_t number = 0;  // of the sum in its plan: that of a start and of its wait
  std::int64_t ranks = 1;
};

// Of a broadcast from one rank, or a sum for one. The first two are those of SumRanksAttrs, and read as such.
struct RootedRanksAttrs {
  std::int64_t number = 0;  // in its plan, sums for all counted along
  std::int64_t ranks = 1;
  std::int64_t root = 0;  // the rank that sends, or has the sum
};

}  // namespace trivet::kernels
