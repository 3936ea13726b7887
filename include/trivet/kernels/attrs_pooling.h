// Attributes of the pooling ops.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// Windows over images (N, H, W, C). The output has floor((H + top + bottom - kernel) / stride) + 1 rows, and
// columns likewise; every pad is smaller than the kernel, so that each window holds at least one element.
struct PoolWindow {
  IntList kernel;   // [rows, columns]
  IntList strides;  // [rows, columns]; empty: equal to kernel
  IntList pads;     // [top, left, bottom, right]
};

struct MaxPoolAttrs : PoolWindow {};

struct AveragePoolAttrs : PoolWindow {
  bool count_include_pad = true;  // divide by the kernel's size, or else by the number of elements in the image
};

struct AveragePoolBackwardAttrs : AveragePoolAttrs {
  IntList input_shape;  // (N, H, W, C) of the forward input
};

}  // namespace trivet::kernels
