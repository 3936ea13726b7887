// Attributes of the convolutions over one to three spatial axes. Activations are (N, spatial axes, C), weights
// (O, spatial axes, C / groups): (N, W, C), (N, H, W, C) or (N, D, H, W, C).
#pragma once

#include <cstdint>

#include "trivet/kernels/attrs_matrix.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels {

// How the kernel moves over the input; the same for the forward product and both of its gradients. Lists have an entry
// for each spatial axis, pads two: zeros added before each axis, then those added behind each. Empty lists are ones,
// and no pads.
struct ConvWindow {
  IntList strides;
  IntList pads;
  IntList dilations;  // distance between neighbouring taps
  std::int64_t groups = 1;

  std::int64_t stride(int axis) const { return strides.n == 0 ? 1 : strides.v[axis]; }
  std::int64_t dilation(int axis) const { return dilations.n == 0 ? 1 : dilations.v[axis]; }
  std::int64_t pad_before(int axis) const { return pads.n == 0 ? 0 : pads.v[axis]; }
  std::int64_t pad_after(int axis) const { return pads.n == 0 ? 0 : pads.v[pads.n / 2 + axis]; }
};

struct ConvAttrs : ConvWindow {
  Activation activation = Activation::none;
};

struct ConvBackwardDataAttrs : ConvWindow {
  IntList input_shape;  // of the gradient: the output's size alone leaves it open when strides exceed 1
};

struct ConvBackwardWeightsAttrs : ConvWindow {
  IntList kernel_shape;
  GradientType dtype = GradientType::same;
  bool bias = false;  // the gradient of the bias is a second output
};

// The window is that of the convolution whose input gradient this op is.
struct ConvTransposeAttrs : ConvWindow {
  IntList output_padding;  // rows (columns, ...) that the output has beyond the least that fits, below the stride
};

}  // namespace trivet::kernels
