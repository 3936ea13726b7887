// Attributes of the ops that depend on the order of elements along one dimension. NaN counts as the largest number (for
// argmin, as in NumPy, as the smallest),
// and -0 equals 0.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// argmax and argmin: of equal elements the first, or the last.
struct ArgmaxAttrs {
  std::int64_t axis = 0;
  bool keepdims = true;
  bool select_last_index = false;
};

// As ONNX TopK.
struct TopKAttrs {
  std::int64_t k = 1;
  std::int64_t axis = -1;
  bool largest = true;
  bool sorted = true;  // by value; else the chosen elements keep the order that they have in x
};

struct SortAttrs {
  std::int64_t axis = -1;
  bool descending = false;
};

// As ONNX CumSum.
struct CumulativeSumAttrs {
  std::int64_t axis = 0;
  bool exclusive = false;  // without the element itself
  bool reverse = false;    // from the end
};

}  // namespace trivet::kernels
