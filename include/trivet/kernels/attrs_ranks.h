// Attributes of the sums over ranks.
#pragma once

#include <cstdint>

namespace trivet::kernels {

struct SumRanksAttrs {
  std::int64_t number = 0;  // of the sum in its plan: that of a start and of its wait
  std::int64_t ranks = 1;
};

}  // namespace trivet::kernels
