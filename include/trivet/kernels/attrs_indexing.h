// Attributes of the ops that take indices (i32 or i64).
//
// One rule for all of them: a negative index counts from the end, as in ONNX, and an index that is outside of the
// dimension even so names no element. What is read there is NaN (0 for integers and false for bool, or for all dtypes
// with `zero_outside`), and what would be written there is dropped. Ids of `embedding` are row numbers and never count
// from the end: -1 is outside.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct EmbeddingBackwardAttrs {
  std::int64_t rows = 0;  // of the table
};

struct GatherAttrs {
  std::int64_t axis = 0;
  bool zero_outside = false;
};

struct GatherBackwardAttrs {
  std::int64_t axis = 0;
  std::int64_t size = 0;  // of the forward input's dimension `axis`
};

struct GatherNdAttrs {
  std::int64_t batch_dims = 0;
  bool zero_outside = false;
};

enum class ScatterReduction { none, add, mul, max, min };

struct ScatterElementsAttrs {
  std::int64_t axis = 0;
  ScatterReduction reduction = ScatterReduction::none;
};

struct ScatterNdAttrs {
  ScatterReduction reduction = ScatterReduction::none;
  std::int64_t batch_dims = 0;
};

struct OneHotAttrs {
  std::int64_t depth = 0;
  std::int64_t axis = -1;
  double on_value = 1;
  double off_value = 0;
  DType dtype = DType::f32;
};

}  // namespace trivet::kernels
