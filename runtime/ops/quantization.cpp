#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/products.h"
#include "trivet/kernels/attrs_quantization.h"

namespace trivet {
namespace {

using kernels::ConvAttrs;
using kernels::DequantizeAttrs;
using kernels::LinearAttrs;
using kernels::QuantizeAttrs;
using kernels::QuantizedType;

bool is_quantized(DType type) { return type == DType::u8 || type == DType::i8; }

void require_quantized(const OpContext& context, int input, std::string_view name) {
  const DType dtype = context.in(input).dtype;
  if (!is_quantized(dtype)) context.fail(fmt::format("{} is {}, expected u8 or i8", name, dtype_name(dtype)));
}

// scale () or (C) in f32, and zero_point of the same shape if there is one.
void check_scale(const OpContext& context, std::int64_t axis) {
  const TensorType& scale = context.in(1);
  if (scale.rank() > 0) {
    const std::int64_t channels = context.in(0).shape[static_cast<std::size_t>(context.axis(axis))];
    require_type(context, 1, "scale", {DType::f32, {channels}});
  } else {
    require_f32(context, 1, "scale");
  }
  if (context.has(2) && context.in(2).shape != scale.shape) {
    context.fail(fmt::format("zero_point has shape {}, expected that of scale, {}", to_string(context.in(2).shape),
                             to_string(scale.shape)));
  }
}

std::vector<TensorType> infer_quantize(const OpContext& context) {
  const auto& attrs = context.attrs<QuantizeAttrs>();
  require_compute_type(context, 0, "x");
  check_scale(context, attrs.axis);
  DType dtype = attrs.dtype == QuantizedType::u8 ? DType::u8 : DType::i8;
  if (context.has(2)) {
    require_quantized(context, 2, "zero_point");
    dtype = context.in(2).dtype;
  }
  return {{dtype, context.in(0).shape}};
}

std::vector<TensorType> infer_dequantize(const OpContext& context) {
  const TensorType& x = context.in(0);
  if (!is_quantized(x.dtype) && x.dtype != DType::i32) {
    context.fail(fmt::format("x is {}, expected u8, i8 or i32", dtype_name(x.dtype)));
  }
  check_scale(context, context.attrs<DequantizeAttrs>().axis);
  if (context.has(2) && context.in(2).dtype != x.dtype) {
    context.fail(fmt::format("zero_point is {}, expected {}", dtype_name(context.in(2).dtype), dtype_name(x.dtype)));
  }
  return {{DType::f32, x.shape}};
}

// The inputs that both products have, and the dtype of the result. `taps`: products in each sum.
DType check_product(const OpContext& context, std::int64_t channels, std::int64_t taps) {
  enum { kX, kXScale, kXZeroPoint, kW, kWScale, kBias, kYScale, kYZeroPoint };
  require_quantized(context, kX, "x");
  require_type(context, kXScale, "x_scale", {DType::f32, {}});
  require_type(context, kXZeroPoint, "x_zero_point", {context.in(kX).dtype, {}});
  if (context.in(kW).dtype != DType::i8) {
    context.fail(fmt::format("w is {}, expected i8", dtype_name(context.in(kW).dtype)));
  }
  if (context.in(kWScale).rank() > 0) {
    require_type(context, kWScale, "w_scale", {DType::f32, {channels}});
  } else {
    require_f32(context, kWScale, "w_scale");
  }
  constexpr std::int64_t kMostTaps = ((std::int64_t{1} << 31) - 1) / (255 * 128);
  if (taps > kMostTaps) {
    context.fail(fmt::format("each sum has {} products, more than the {} that surely fit in 32 bits", taps, kMostTaps),
                 "keep this layer in f32 or bf16");
  }
  if (context.has(kBias)) require_type(context, kBias, "bias", {DType::f32, {channels}});
  if (!context.has(kYScale)) {
    if (context.has(kYZeroPoint)) context.fail("there is a y_zero_point, but no y_scale");
    return DType::f32;
  }
  require_type(context, kYScale, "y_scale", {DType::f32, {}});
  if (!context.has(kYZeroPoint)) context.fail("there is a y_scale, but no y_zero_point, which gives the dtype of y");
  require_quantized(context, kYZeroPoint, "y_zero_point");
  require_type(context, kYZeroPoint, "y_zero_point", {context.in(kYZeroPoint).dtype, {}});
  return context.in(kYZeroPoint).dtype;
}

std::vector<TensorType> infer_linear(const OpContext& context) {
  const TensorType& x = context.in(0);
  const TensorType& w = context.in(3);
  if (x.rank() < 1 || x.elements() == 0) context.fail("x has no features, expected (..., K)");
  if (w.rank() != 2 || w.elements() == 0) context.fail(fmt::format("w is {}, expected (N, K)", to_string(w)));
  if (x.dim(-1) != w.dim(1)) {
    context.fail(fmt::format("x has {} features, but w {} expects {}", x.dim(-1), to_string(w.shape), w.dim(1)),
                 "w is (outputs, inputs)");
  }
  Shape shape = x.shape;
  shape.back() = w.dim(0);
  return {{check_product(context, w.dim(0), w.dim(1)), std::move(shape)}};
}

std::vector<TensorType> infer_conv2d(const OpContext& context) {
  const TensorType& x = context.in(0);
  const TensorType& w = context.in(3);
  if (x.rank() != 4) context.fail(fmt::format("x has rank {}, expected 4: (N, H, W, C)", x.rank()));
  Shape y = convolved_shape(context, context.attrs<ConvAttrs>(), x.shape, w.shape);
  return {{check_product(context, w.dim(0), w.elements() / w.dim(0)), std::move(y)}};
}

Cost quantize_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = 2.0 * static_cast<double>(context.in(0).elements())};
}

Cost linear_cost(const OpContext& context, std::span<const TensorType> out) {
  return {.flops = 2.0 * static_cast<double>(out[0].elements()) * static_cast<double>(context.in(3).dim(1)),
          .matrix = true};
}

Cost conv2d_cost(const OpContext& context, std::span<const TensorType> out) {
  return convolution_cost(out[0], context.in(3).shape);
}

}  // namespace

std::vector<OpDef> quantization_ops() {
  return {
      // (x f32 or bf16, scale, zero_point, optional) -> clamp(round(x / scale) + zero_point), rounded to the nearest
      // with ties to even. scale is () or, for numbers along `axis`, (C). The result has zero_point's dtype, or without
      // one that of the attribute. NaN gives the lowest integer. ONNX QuantizeLinear, whose default axis is 1, the
      // channels of its images; ours come last.
      {.name = "quantize_linear",
       .min_inputs = 2,
       .max_inputs = 3,
       .attrs = Attributes<QuantizeAttrs>()
                    .integer("axis", &QuantizeAttrs::axis, -1)
                    .choice("dtype", &QuantizeAttrs::dtype, {"u8", "i8"}),
       .infer = infer_quantize,
       .cost = quantize_cost},
      // (x u8, i8 or i32, scale, zero_point, optional) -> (x - zero_point) * scale in f32. ONNX DequantizeLinear.
      {.name = "dequantize_linear",
       .min_inputs = 2,
       .max_inputs = 3,
       .attrs = Attributes<DequantizeAttrs>().integer("axis", &DequantizeAttrs::axis, -1),
       .infer = infer_dequantize,
       .cost = quantize_cost},
      // (x (..., K) u8 or i8, x_scale, x_zero_point, w (N, K) i8, w_scale () or (N), bias (N) f32, optional, y_scale,
      // optional, y_zero_point, optional) -> activation((x - x_zero_point) w^T * x_scale * w_scale + bias), in f32, or
      // with y_scale divided by it, rounded, moved and clamped as by quantize_linear. Sums are exact. ONNX
      // QLinearMatMul with weights that have no zero point.
      {.name = "linear_int8",
       .min_inputs = 5,
       .max_inputs = 8,
       .attrs = Attributes<LinearAttrs>().choice("activation", &LinearAttrs::activation, {"none", "relu"}),
       .infer = infer_linear,
       .cost = linear_cost},
      // The same with x (N, H, W, C), w (O, KH, KW, C / groups); pads hold x_zero_point, which stands for 0. ONNX
      // QLinearConv, whose bias is in units of x_scale * w_scale.
      {.name = "conv2d_int8",
       .min_inputs = 5,
       .max_inputs = 8,
       .attrs = window_attributes<ConvAttrs>(2).choice("activation", &ConvAttrs::activation, {"none", "relu"}),
       .infer = infer_conv2d,
       .cost = conv2d_cost},
  };
}

}  // namespace trivet
