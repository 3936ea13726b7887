#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_convolution.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::Activation;
using kernels::Conv2dAttrs;
using kernels::Conv2dBackwardDataAttrs;
using kernels::Conv2dBackwardWeightsAttrs;
using kernels::Conv2dWindow;
using kernels::IntList;

// A larger stride, pad or dilation than any image has; keeps the sums below far from overflow.
constexpr std::int64_t kMaxStep = std::int64_t{1} << 20;

void check_list(const OpContext& context, std::string_view name, const IntList& list, int size, std::int64_t least) {
  if (list.n != size) context.fail(fmt::format("attribute '{}' has {} entries, expected {}", name, list.n, size));
  for (int i = 0; i < size; ++i) {
    if (list.v[i] < least || list.v[i] > kMaxStep) {
      context.fail(fmt::format("attribute '{}' has {}, expected {} to {}", name, list.v[i], least, kMaxStep));
    }
  }
}

// Sizes that the caller gives as an attribute.
Shape listed_shape(const OpContext& context, std::string_view name, const IntList& list) {
  constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;
  const Shape shape(list.v, list.v + list.n);
  for (const std::int64_t size : shape) {
    if (size < 1 || size > kMaxSize) {
      context.fail(fmt::format("attribute '{}' is {}, expected sizes from 1 to {}", name, to_string(shape), kMaxSize));
    }
  }
  return shape;
}

void check_tensor(const OpContext& context, std::string_view name, const Shape& shape, std::string_view axes) {
  if (shape.size() != 4) context.fail(fmt::format("{} has rank {}, expected 4: {}", name, shape.size(), axes));
  for (const std::int64_t size : shape) {
    if (size < 1) context.fail(fmt::format("{} {} has no elements", name, to_string(shape)));
  }
}

// The channels of the input x, of the weights w and the groups fit together.
void check_channels(const OpContext& context, const Conv2dWindow& window, const Shape& x, const Shape& w) {
  if (window.groups < 1 || x[3] % window.groups != 0 || w[0] % window.groups != 0) {
    context.fail(fmt::format("groups is {}, but x has {} channels and w has {} outputs", window.groups, x[3], w[0]),
                 "groups must divide both");
  }
  if (w[3] != x[3] / window.groups) {
    context.fail(fmt::format("x has {} channels in {} group(s), so w should be [{},{},{},{}], not {}", x[3],
                             window.groups, w[0], w[1], w[2], x[3] / window.groups, to_string(w)),
                 "w is (outputs, kernel rows, kernel columns, channels / groups)");
  }
}

// The shape (N, OH, OW, O) of the convolution of x (N, H, W, C) with w (O, KH, KW, C / groups).
Shape convolved_shape(const OpContext& context, const Conv2dWindow& window, const Shape& x, const Shape& w) {
  check_tensor(context, "x", x, "(N, H, W, C)");
  check_tensor(context, "w", w, "(O, KH, KW, C / groups)");
  check_list(context, "strides", window.strides, 2, 1);
  check_list(context, "pads", window.pads, 4, 0);
  check_list(context, "dilations", window.dilations, 2, 1);
  check_channels(context, window, x, w);
  Shape y = {x[0], 0, 0, w[0]};
  for (int i = 0; i < 2; ++i) {
    const auto axis = static_cast<std::size_t>(i) + 1;
    const std::int64_t padded = x[axis] + window.pads.v[i] + window.pads.v[i + 2];
    const std::int64_t reach = (w[axis] - 1) * window.dilations.v[i] + 1;
    if (reach > padded) {
      context.fail(fmt::format("the kernel covers {} {}, but the input has {} with its pads", reach,
                               i == 0 ? "rows" : "columns", padded),
                   "add pads, or use a smaller kernel or dilation");
    }
    y[axis] = (padded - reach) / window.strides.v[i] + 1;
  }
  return y;
}

std::vector<TensorType> infer_forward(const OpContext& context) {
  require_f32(context, 0, "x");
  require_f32(context, 1, "w");
  const Shape& w = context.in(1).shape;
  Shape y = convolved_shape(context, context.attrs<Conv2dAttrs>(), context.in(0).shape, w);
  if (context.has(2)) require_type(context, 2, "bias", {DType::f32, {w[0]}});
  return {{DType::f32, std::move(y)}};
}

std::vector<TensorType> infer_backward_data(const OpContext& context) {
  const auto& attrs = context.attrs<Conv2dBackwardDataAttrs>();
  require_f32(context, 1, "w");
  const Shape x = listed_shape(context, "input_shape", attrs.input_shape);
  require_type(context, 0, "dy", {DType::f32, convolved_shape(context, attrs, x, context.in(1).shape)});
  return {{DType::f32, x}};
}

std::vector<TensorType> infer_backward_weights(const OpContext& context) {
  const auto& attrs = context.attrs<Conv2dBackwardWeightsAttrs>();
  require_f32(context, 0, "x");
  const Shape w = listed_shape(context, "kernel_shape", attrs.kernel_shape);
  require_type(context, 1, "dy", {DType::f32, convolved_shape(context, attrs, context.in(0).shape, w)});
  return {{DType::f32, w}};
}

// Each element of y takes KH * KW * C / groups multiplications and additions, in all three products; taps on the
// padding are counted.
Cost product_cost(const TensorType& y, const Shape& w) {
  const double taps = static_cast<double>(w[1]) * static_cast<double>(w[2]) * static_cast<double>(w[3]);
  return {.flops = 2.0 * static_cast<double>(y.elements()) * taps, .matrix = true};
}

Cost forward_cost(const OpContext& context, std::span<const TensorType> out) {
  return product_cost(out[0], context.in(1).shape);
}

Cost backward_data_cost(const OpContext& context, std::span<const TensorType>) {
  return product_cost(context.in(0), context.in(1).shape);
}

Cost backward_weights_cost(const OpContext& context, std::span<const TensorType> out) {
  return product_cost(context.in(1), out[0].shape);
}

void conv2d_gradient(GradContext& context) {
  ValueId dy = context.dout();
  if (context.attrs<Conv2dAttrs>().activation == Activation::relu) {
    dy = context.apply("relu_backward", {dy, context.out()});
  }
  Attrs window = context.attrs_list();
  std::erase_if(window, [](const auto& attr) { return attr.first == "activation"; });
  const auto with_shape = [&window](const char* name, const Shape& shape) {
    Attrs attrs = window;
    attrs.emplace_back(name, shape);
    return attrs;
  };
  if (context.needs(0)) {
    const Attrs attrs = with_shape("input_shape", context.in_type(0).shape);
    context.set(0, context.apply("conv2d_backward_data", {dy, context.in(1)}, attrs));
  }
  if (context.needs(1)) {
    const Attrs attrs = with_shape("kernel_shape", context.in_type(1).shape);
    context.set(1, context.apply("conv2d_backward_weights", {context.in(0), dy}, attrs));
  }
  if (context.has(2) && context.needs(2)) {
    context.set(2, context.apply("reduce_sum", {dy}, {{"axes", Shape{0, 1, 2}}, {"keepdims", false}}));
  }
}

template <class A>
Attributes<A> window_attributes() {
  return Attributes<A>()
      .integers("strides", &A::strides, {1, 1})
      .integers("pads", &A::pads, {0, 0, 0, 0})
      .integers("dilations", &A::dilations, {1, 1})
      .integer("groups", &A::groups, 1);
}

}  // namespace

std::vector<OpDef> convolution_ops() {
  return {
      // (x (N, H, W, C), w (O, KH, KW, C / groups), bias (O), optional) -> activation(conv(x, w) + bias), (N, OH, OW,
      // O).
      // The kernel is not flipped (a cross-correlation, as in all of deep learning).
      {.name = "conv2d",
       .min_inputs = 2,
       .max_inputs = 3,
       .attrs = window_attributes<Conv2dAttrs>().choice("activation", &Conv2dAttrs::activation, {"none", "relu"}),
       .infer = infer_forward,
       .gradient = conv2d_gradient,
       .cost = forward_cost},
      // (dy, w) -> dx of the shape that the attribute gives.
      {.name = "conv2d_backward_data",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = window_attributes<Conv2dBackwardDataAttrs>().integers("input_shape",
                                                                      &Conv2dBackwardDataAttrs::input_shape, {}, true),
       .infer = infer_backward_data,
       .cost = backward_data_cost},
      // (x, dy) -> dw of the shape that the attribute gives.
      {.name = "conv2d_backward_weights",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = window_attributes<Conv2dBackwardWeightsAttrs>().integers(
           "kernel_shape", &Conv2dBackwardWeightsAttrs::kernel_shape, {}, true),
       .infer = infer_backward_weights,
       .cost = backward_weights_cost},
  };
}

}  // namespace trivet
