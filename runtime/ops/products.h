// Rules that the shape rules and gradients of matrix products and convolutions share.
#pragma once

#include "runtime/ops/checks.h"
#include "trivet/kernels/attrs_convolution.h"
#include "trivet/ops/grad_context.h"

namespace trivet {

// Weights and bias may be f32 beside a bf16 x: f32 masters of a model that computes in bf16. The weights are then
// rounded as they are used, and their gradient is f32. A bias has the dtype of the weights.
void check_weight_types(const OpContext& context, int x, int w, int bias, std::int64_t channels);

// The dtype of the weights' gradient.
DType gradient_dtype(kernels::GradientType type, DType activations);
// The attribute for weights and activations of these types.
AttrValue gradient_type(const TensorType& w, const TensorType& x);

// The gradient of a bias that is added to every pixel or row: sums of dy over all axes but the last.
ValueId bias_gradient(GradContext& context, ValueId dy, const TensorType& bias);

// The shape (N, spatial axes, O) of the convolution of x (N, spatial axes, C) with w (O, spatial axes, C / groups).
Shape convolved_shape(const OpContext& context, const kernels::ConvWindow& window, const Shape& x, const Shape& w);

// Each element of y takes taps * C / groups multiplications and additions, in all three products; taps on the padding
// are counted.
Cost convolution_cost(const TensorType& y, const Shape& w);

// The attributes of a ConvWindow; an empty list means ones, or no pads.
template <class A>
Attributes<A> window_attributes(int axes = 0) {
  const auto n = static_cast<std::size_t>(axes);
  return Attributes<A>()
      .integers("strides", &A::strides, std::vector<std::int64_t>(n, 1))
      .integers("pads", &A::pads, std::vector<std::int64_t>(2 * n, 0))
      .integers("dilations", &A::dilations, std::vector<std::int64_t>(n, 1))
      .integer("groups", &A::groups, 1);
}

}  // namespace trivet
