#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/products.h"

namespace trivet {
namespace {

using kernels::Activation;
using kernels::ConvAttrs;
using kernels::ConvBackwardDataAttrs;
using kernels::ConvBackwardWeightsAttrs;
using kernels::ConvTransposeAttrs;
using kernels::IntList;

// conv2d and its gradients are for images; the ops named conv are for sequences and volumes.
constexpr std::size_t kImageRank = 4;

// The family's prefix for tensors of this rank.
std::string named(const char* op, std::size_t rank) { return std::string(rank == kImageRank ? "conv2d" : "conv") + op; }

template <bool kImages>
void check_rank(const OpContext& context, std::string_view name, std::size_t rank) {
  if (kImages ? rank == kImageRank : rank == 3 || rank == 5) return;
  context.fail(fmt::format("{} has rank {}, expected {}", name, rank,
                           kImages ? "4: (N, H, W, C)" : "3: (N, W, C), or 5: (N, D, H, W, C)"),
               kImages ? "conv is for sequences and volumes" : "conv2d is for images");
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

template <bool kImages>
std::vector<TensorType> infer_forward(const OpContext& context) {
  const TensorType& x = context.in(0);
  const Shape& w = context.in(1).shape;
  check_rank<kImages>(context, "x", x.shape.size());
  Shape y = convolved_shape(context, context.attrs<ConvAttrs>(), x.shape, w);
  check_weight_types(context, 0, 1, 2, w[0]);
  return {{x.dtype, std::move(y)}};
}

template <bool kImages>
std::vector<TensorType> infer_backward_data(const OpContext& context) {
  const auto& attrs = context.attrs<ConvBackwardDataAttrs>();
  const Shape x = listed_shape(context, "input_shape", attrs.input_shape);
  check_rank<kImages>(context, "input_shape", x.size());
  check_weight_types(context, 0, 1, -1, 0);
  const DType dtype = context.in(0).dtype;
  require_type(context, 0, "dy", {dtype, convolved_shape(context, attrs, x, context.in(1).shape)});
  return {{dtype, x}};
}

template <bool kImages>
std::vector<TensorType> infer_backward_weights(const OpContext& context) {
  const auto& attrs = context.attrs<ConvBackwardWeightsAttrs>();
  const TensorType& x = context.in(0);
  require_compute_type(context, 0, "x");
  check_rank<kImages>(context, "x", x.shape.size());
  const Shape w = listed_shape(context, "kernel_shape", attrs.kernel_shape);
  require_type(context, 1, "dy", {x.dtype, convolved_shape(context, attrs, x.shape, w)});
  const DType dtype = gradient_dtype(attrs.dtype, x.dtype);
  std::vector<TensorType> out = {{dtype, w}};
  if (attrs.bias) out.push_back({dtype, {w[0]}});
  return out;
}

// The least output for which the convolution gives x, and output_padding more.
std::vector<TensorType> infer_transpose(const OpContext& context) {
  const auto& attrs = context.attrs<ConvTransposeAttrs>();
  const TensorType& x = context.in(0);
  const Shape& w = context.in(1).shape;
  const std::size_t rank = x.shape.size();
  if (rank < 3 || rank > 5) {
    context.fail(fmt::format("x has rank {}, expected 3 to 5: (N, spatial axes, C)", rank));
  }
  if (w.size() != rank) context.fail(fmt::format("w has rank {}, expected {}", w.size(), rank));
  if (w[0] != x.shape.back()) {
    context.fail(fmt::format("x has {} channels, but w {} expects {}", x.shape.back(), to_string(w), w[0]),
                 "w is (inputs, kernel sizes, outputs / groups)");
  }
  const auto axes = static_cast<int>(rank) - 2;
  for (const auto& [name, list, size] :
       {std::tuple("strides", attrs.strides, axes), std::tuple("pads", attrs.pads, 2 * axes),
        std::tuple("dilations", attrs.dilations, axes), std::tuple("output_padding", attrs.output_padding, axes)}) {
    if (list.n != 0 && list.n != size) {
      context.fail(fmt::format("attribute '{}' has {} entries, expected {}", name, list.n, size));
    }
  }
  Shape y = x.shape;
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  y.back() = w.back() * std::clamp<std::int64_t>(attrs.groups, 1, kMost);
  for (int i = 0; i < axes; ++i) {
    const auto axis = static_cast<std::size_t>(i) + 1;
    const std::int64_t extra = attrs.output_padding.n == 0 ? 0 : attrs.output_padding.v[i];
    const std::int64_t stride = std::clamp<std::int64_t>(attrs.stride(i), 1, kMost);
    const std::int64_t dilation = std::clamp<std::int64_t>(attrs.dilation(i), 1, kMost);
    if (extra < 0 || extra >= stride) {
      context.fail(fmt::format("attribute 'output_padding' has {}, expected 0 to {}", extra, stride - 1),
                   "it must be below the stride");
    }
    if (x.shape[axis] < 1 || w[axis] < 1) context.fail("x or w has no elements");
    const std::int64_t pads = std::clamp<std::int64_t>(attrs.pad_before(i), 0, kMost) +
                              std::clamp<std::int64_t>(attrs.pad_after(i), 0, kMost);
    y[axis] = (x.shape[axis] - 1) * stride + (w[axis] - 1) * dilation + 1 + extra - pads;
    if (y[axis] < 1) context.fail(fmt::format("pads of {} leave nothing of an output axis", pads), "use smaller pads");
  }
  const Shape back = convolved_shape(context, attrs, y, w);  // checks the window as well
  if (back != x.shape) context.fail(fmt::format("a convolution of the output would have shape {}", to_string(back)));
  check_weight_types(context, 0, 1, 2, y.back());
  return {{x.dtype, std::move(y)}};
}

Cost forward_cost(const OpContext& context, std::span<const TensorType> out) {
  return convolution_cost(out[0], context.in(1).shape);
}

// Of both backward_data and transpose: their first input is the convolution's output.
Cost backward_data_cost(const OpContext& context, std::span<const TensorType>) {
  return convolution_cost(context.in(0), context.in(1).shape);
}

Cost backward_weights_cost(const OpContext& context, std::span<const TensorType> out) {
  return convolution_cost(context.in(1), out[0].shape);
}

// The window's attributes and one more.
Attrs window_with(const GradContext& context, const char* name, AttrValue value) {
  Attrs attrs = context.attrs_list();
  std::erase_if(attrs, [](const auto& a) { return a.first == "activation" || a.first == "output_padding"; });
  attrs.emplace_back(name, std::move(value));
  return attrs;
}

void forward_gradient(GradContext& context) {
  ValueId dy = context.dout();
  if (context.attrs<ConvAttrs>().activation == Activation::relu) {
    dy = context.apply("relu_backward", {dy, context.out()});
  }
  const TensorType x = context.in_type(0);
  const TensorType w = context.in_type(1);
  if (context.needs(0)) {
    const Attrs attrs = window_with(context, "input_shape", x.shape);
    context.set(0, context.apply(named("_backward_data", x.shape.size()), {dy, context.in(1)}, attrs));
  }
  const bool bias = context.has(2) && context.needs(2);
  if (context.needs(1)) {
    Attrs attrs = window_with(context, "kernel_shape", w.shape);
    attrs.emplace_back("dtype", gradient_type(w, x));
    attrs.emplace_back("bias", bias);
    const std::string op = named("_backward_weights", x.shape.size());
    const std::vector<ValueId> out = context.apply_all(op, {context.in(0), dy}, attrs);
    context.set(1, out[0]);
    if (bias) context.set(2, out[1]);
  } else if (bias) {
    context.set(2, bias_gradient(context, dy, context.in_type(2)));
  }
}

// The roles of x and y of the convolution are exchanged.
void transpose_gradient(GradContext& context) {
  const ValueId dy = context.dout();
  const TensorType w = context.in_type(1);
  if (context.needs(0)) {
    const Attrs attrs = window_with(context, "activation", std::string("none"));
    context.set(0, context.apply(named("", w.shape.size()), {dy, context.in(1)}, attrs));
  }
  if (context.needs(1)) {
    Attrs attrs = window_with(context, "kernel_shape", w.shape);
    attrs.emplace_back("dtype", gradient_type(w, context.in_type(0)));
    context.set(1, context.apply(named("_backward_weights", w.shape.size()), {dy, context.in(0)}, attrs));
  }
  if (context.has(2) && context.needs(2)) context.set(2, bias_gradient(context, dy, context.in_type(2)));
}

template <bool kImages>
std::vector<OpDef> family() {
  constexpr int kAxes = kImages ? 2 : 0;  // of the attributes' defaults
  const std::string name = kImages ? "conv2d" : "conv";
  return {
      // (x (N, spatial axes, C), w (O, spatial axes, C / groups), bias (O), optional)
      //   -> activation(conv(x, w) + bias), (N, spatial axes, O).
      // The kernel is not flipped (a cross-correlation, as in all of deep learning). ONNX Conv, whose axes are
      // (N, C, spatial axes) and (O, C / groups, spatial axes).
      {.name = name,
       .min_inputs = 2,
       .max_inputs = 3,
       .attrs = window_attributes<ConvAttrs>(kAxes).choice("activation", &ConvAttrs::activation, {"none", "relu"}),
       .infer = infer_forward<kImages>,
       .gradient = forward_gradient,
       .cost = forward_cost},
      // (dy, w) -> dx of the shape that the attribute gives.
      {.name = name + "_backward_data",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = window_attributes<ConvBackwardDataAttrs>(kAxes).integers("input_shape",
                                                                         &ConvBackwardDataAttrs::input_shape, {}, true),
       .infer = infer_backward_data<kImages>,
       .cost = backward_data_cost},
      // (x, dy) -> dw of the shape that the attribute gives, and the gradient of the bias if it is asked for.
      {.name = name + "_backward_weights",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = window_attributes<ConvBackwardWeightsAttrs>(kAxes)
                    .integers("kernel_shape", &ConvBackwardWeightsAttrs::kernel_shape, {}, true)
                    .choice("dtype", &ConvBackwardWeightsAttrs::dtype, {"same", "f32"})
                    .flag("bias", &ConvBackwardWeightsAttrs::bias, false),
       .infer = infer_backward_weights<kImages>,
       .cost = backward_weights_cost},
  };
}

}  // namespace

std::vector<OpDef> convolution_ops() {
  std::vector<OpDef> ops = family<true>();
  for (OpDef& op : family<false>()) ops.push_back(std::move(op));
  // (x (N, spatial axes, C), w (C, spatial axes, O / groups), bias (O), optional) -> (N, spatial axes, O), with one to
  // three spatial axes of stride * (size - 1) + output_padding + reach of the kernel - pads: the gradient that a
  // convolution with this w hands to its input. ONNX ConvTranspose, whose w is (C, O / groups, spatial axes).
  ops.push_back({.name = "conv_transpose",
                 .min_inputs = 2,
                 .max_inputs = 3,
                 .attrs = window_attributes<ConvTransposeAttrs>().integers("output_padding",
                                                                           &ConvTransposeAttrs::output_padding, {}),
                 .infer = infer_transpose,
                 .gradient = transpose_gradient,
                 .cost = backward_data_cost});
  return ops;
}

}  // namespace trivet
