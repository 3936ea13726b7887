// Attributes of the reductions.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct ReduceAttrs {
  IntList axes;          // each once, negative counts from the end; empty: all
  bool keepdims = true;  // reduced dimensions stay, with size 1
};

struct ArgmaxAttrs {
  std::int64_t axis = 0;
  bool keepdims = true;
};

}  // namespace trivet::kernels
