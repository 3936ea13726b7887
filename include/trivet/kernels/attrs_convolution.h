// Attributes of the two-dimensional convolutions. Activations are (N, H, W, C), weights (O, KH, KW, C / groups).
#pragma once

#include <cstdint>

#include "trivet/kernels/attrs_matrix.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels {

// How the kernel moves over the input; the same for the forward product and both of its gradients.
struct Conv2dWindow {
  IntList strides = {2, {1, 1}};     // rows, columns
  IntList pads = {4, {0, 0, 0, 0}};  // zeros added at the top, left, bottom, right
  IntList dilations = {2, {1, 1}};   // distance between neighbouring taps: rows, columns
  std::int64_t groups = 1;
};

struct Conv2dAttrs : Conv2dWindow {
  Activation activation = Activation::none;
};

struct Conv2dBackwardDataAttrs : Conv2dWindow {
  IntList input_shape;  // (N, H, W, C) of the gradient: the output's size alone leaves it open when strides exceed 1
};

struct Conv2dBackwardWeightsAttrs : Conv2dWindow {
  IntList kernel_shape;  // (O, KH, KW, C / groups)
};

}  // namespace trivet::kernels
