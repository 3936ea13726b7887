// Attributes of resize.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

enum class ResizeMode { nearest, linear, cubic };
enum class ResizeCoordinates { half_pixel, align_corners, asymmetric, pytorch_half_pixel };
enum class ResizeNearest { round_prefer_floor, round_prefer_ceil, floor, ceil };

// As ONNX Resize, for the spatial dimensions of x (N, D.., C) only, outermost first: either their sizes or the factors
// by which they grow.
struct ResizeAttrs {
  IntList sizes;
  NumberList scales;
  ResizeMode mode = ResizeMode::nearest;
  ResizeCoordinates coordinates = ResizeCoordinates::half_pixel;
  ResizeNearest nearest_mode = ResizeNearest::round_prefer_floor;
  double cubic_coeff_a = -0.75;
  bool exclude_outside = false;  // cubic: elements outside of x weigh nothing, instead of repeating the outermost one
};

struct ResizeBackwardAttrs : ResizeAttrs {
  IntList input_sizes;  // of the forward input's spatial dimensions
};

}  // namespace trivet::kernels
