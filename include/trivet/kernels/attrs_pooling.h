// Attributes of the pooling ops. Images are (N, spatial axes .., C) with one to three spatial axes; lists have an entry
// for each of them, from the outermost to the innermost.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// Windows as in ONNX MaxPool and AveragePool. Along an axis of size H the output has
// floor((H + before + after - reach) / stride) + 1 windows with reach = (kernel - 1) * dilation + 1, or with ceil_mode
// the ceiling of it, less a last window that would begin behind the image. Each window holds an element of the image.
struct PoolWindow {
  IntList kernel;
  IntList strides;    // empty: equal to kernel
  IntList pads;       // before each axis, then after each axis; empty: none
  IntList dilations;  // distance between neighbouring elements of a window; empty: 1
  bool ceil_mode = false;
};

struct MaxPoolAttrs : PoolWindow {};

struct AveragePoolAttrs : PoolWindow {
  // Divide by the number of the window's places in the padded image, or else in the image. Places beyond the pads,
  // which a last window may have with ceil_mode, never count.
  bool count_include_pad = true;
};

struct AveragePoolBackwardAttrs : AveragePoolAttrs {
  IntList input_shape;  // of the forward input
};

// Window i of `output` ones along an axis of size H holds the elements from floor(i * H / output) to
// ceil((i + 1) * H / output), the latter excluded.
struct AdaptivePoolAttrs {
  IntList output_size;
};

struct AdaptivePoolBackwardAttrs {
  IntList input_shape;  // of the forward input
};

}  // namespace trivet::kernels
