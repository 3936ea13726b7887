// Attributes of the reductions.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct ReduceAttrs {
  IntList axes;                       // each once, negative counts from the end; empty: all
  bool keepdims = true;               // reduced dimensions stay, with size 1
  bool noop_with_empty_axes = false;  // empty axes are none: each element is reduced by itself
};

// Which of `rank` dimensions are reduced.
[[gnu::always_inline]] inline void reduced_dimensions(const ReduceAttrs& attrs, int rank, bool* reduced) {
  for (int d = 0; d < rank; ++d) reduced[d] = attrs.axes.n == 0 && !attrs.noop_with_empty_axes;
  for (int i = 0; i < attrs.axes.n; ++i) reduced[attrs.axes.v[i] < 0 ? attrs.axes.v[i] + rank : attrs.axes.v[i]] = true;
}

}  // namespace trivet::kernels
