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
// are clamped to the dimension. A negative step walks backwards from start to the element behind end; an end before
// the first element (the lowest integer, say) takes that one along.
struct SliceAttrs {
  IntList starts;
  IntList ends;
  IntList axes;   // empty: the first ones, as many as there are starts
  IntList steps;  // empty: 1; never 0
};

struct SliceBackwardAttrs : SliceAttrs {
  IntList input_shape;  // of the forward input
};

struct ConcatAttrs {
  std::int64_t axis = 0;
};

// As ONNX Split: parts of the given sizes, or `num_outputs` equal ones of which the last may be smaller.
struct SplitAttrs {
  std::int64_t axis = 0;
  IntList sizes;
  std::int64_t num_outputs = 0;
};

struct ExpandAttrs {
  IntList shape;
};

// As ONNX ConstantOfShape.
struct FullAttrs {
  IntList shape;
  double value = 0;
  DType dtype = DType::f32;
};

// As ONNX DepthToSpace, with channels last: the block's row i and column j and the smaller channel c make up the
// channel (i * block + j) * C + c (DCR) or (c * block + i) * block + j (CRD).
enum class DepthOrder { dcr, crd };
struct DepthAttrs {
  std::int64_t blocksize = 1;
  DepthOrder mode = DepthOrder::dcr;
};

// As ONNX Trilu, over the last two dimensions: keeps the elements at column - row >= k (upper) or <= k.
struct TriluAttrs {
  bool upper = true;
  std::int64_t k = 0;
};

// Which elements a slice takes along one dimension: start, start + step, ... (count of them; the step may be negative).
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
    // Backwards, both may lie one before the first element but not behind the last.
    const std::int64_t low = step > 0 ? 0 : -1;
    const std::int64_t high = step > 0 ? size : size - 1;
    start = start < low ? low : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    const std::int64_t distance = step > 0 ? end - start - 1 : end - start + 1;
    const bool none = step > 0 ? end <= start : end >= start;
    const std::int64_t count = none ? 0 : distance / step + 1;
    ranges[axis] = {count > 0 ? start : 0, count > 1 ? step : 1, count};  // a huge step must not overflow in strides
  }
}

}  // namespace trivet::kernels
