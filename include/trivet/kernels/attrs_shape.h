// Attributes of the ops that move elements.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct ReshapeAttrs {
  IntList shape;  // one entry may be -1: whatever is left
};

struct TransposeAttrs {
  IntList perm;  // output dimension i is input dimension perm[i]; empty: all in reverse order
};

// As ONNX Slice: ranges [start, end) with a step along `axes`. Negative starts and ends count from the end, and all
// are clamped to the dimension.
struct SliceAttrs {
  IntList starts;
  IntList ends;
  IntList axes;   // empty: the first ones, as many as there are starts
  IntList steps;  // empty: 1; at least 1
};

struct SliceBackwardAttrs : SliceAttrs {
  IntList input_shape;  // of the forward input
};

struct ConcatAttrs {
  std::int64_t axis = 0;
};

// As ONNX Pad, mode constant.
struct PadAttrs {
  IntList pads;  // [before each of axes ..., after each of axes ...], at least 0
  IntList axes;  // empty: the first ones, as many as there are pairs
  double value = 0;
};

struct EmbeddingBackwardAttrs {
  std::int64_t rows = 0;  // of the table
};

struct ExpandAttrs {
  IntList shape;
};

struct FullAttrs {
  IntList shape;
  double value = 0;
};

// Which elements a slice takes along one dimension: start, start + step, ... (count of them).
struct SliceRange {
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::int64_t count = 0;
};

// The ranges of all `rank` dimensions. The attributes must have passed the op's shape rule. Always inlined, because
// the vector kernels must not share code with what is built for another instruction set.
[[gnu::always_inline]] inline void slice_ranges(const SliceAttrs& attrs, int rank, const std::int64_t* shape,
                                                SliceRange* ranges) {
  for (int d = 0; d < rank; ++d) ranges[d] = {0, 1, shape[d]};
  for (int i = 0; i < attrs.starts.n; ++i) {
    const std::int64_t axis = attrs.axes.n == 0 ? i : attrs.axes.v[i] < 0 ? attrs.axes.v[i] + rank : attrs.axes.v[i];
    const std::int64_t size = shape[axis];
    const std::int64_t step = attrs.steps.n == 0 ? 1 : attrs.steps.v[i];
    std::int64_t start = attrs.starts.v[i] < 0 ? attrs.starts.v[i] + size : attrs.starts.v[i];
    std::int64_t end = attrs.ends.v[i] < 0 ? attrs.ends.v[i] + size : attrs.ends.v[i];
    start = start < 0 ? 0 : start > size ? size : start;
    end = end < 0 ? 0 : end > size ? size : end;
    const std::int64_t count = end > start ? (end - start - 1) / step + 1 : 0;
    ranges[axis] = {start, count > 1 ? step : 1, count};  // a huge step must not overflow in strides
  }
}

}  // namespace trivet::kernels
