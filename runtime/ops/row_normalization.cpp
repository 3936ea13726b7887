// Normalization over the last axes of each sample, which become the rows of a matrix.
#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/normalization.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet {
namespace {

using kernels::LayerNormAttrs;
using kernels::LayerNormBackwardAttrs;

struct RowTypes {
  TensorType row;   // f32, one for each normalized element
  TensorType rows;  // f32, one for each row
};

// x is f32 or bf16.
RowTypes rows_of(const OpContext& context, int input, std::int64_t axis) {
  require_compute_type(context, input, "x");
  const TensorType& x = context.in(input);
  context.require(x.rank() >= 1, "x is a scalar, expected at least the axis to normalize");
  context.require(x.elements() > 0, "x has no elements");
  const auto first = x.shape.begin() + context.axis(axis, input);
  return {{DType::f32, Shape(first, x.shape.end())}, {DType::f32, Shape(x.shape.begin(), first)}};
}

// x: f32 or bf16; gamma and beta f32.
std::vector<TensorType> infer_layer_norm(const OpContext& context) {
  const auto& attrs = context.attrs<LayerNormAttrs>();
  const RowTypes types = rows_of(context, 0, attrs.axis);
  require_type(context, 1, "gamma", types.row);
  if (context.has(2)) require_type(context, 2, "beta", types.row);
  require_epsilon(context, attrs.epsilon);
  return {context.in(0), types.rows, types.rows};
}

// dy and x: f32 or bf16, the same. All others f32.
std::vector<TensorType> infer_layer_norm_backward(const OpContext& context) {
  const RowTypes types = rows_of(context, 1, context.attrs<LayerNormBackwardAttrs>().axis);
  require_type(context, 0, "dy", context.in(1));
  require_type(context, 2, "gamma", types.row);
  require_type(context, 3, "mean", types.rows);
  require_type(context, 4, "rstd", types.rows);
  return {context.in(1), types.row, types.row};
}

std::vector<TensorType> infer_rms_norm(const OpContext& context) {
  const auto& attrs = context.attrs<LayerNormAttrs>();
  const RowTypes types = rows_of(context, 0, attrs.axis);
  require_type(context, 1, "gamma", types.row);
  require_epsilon(context, attrs.epsilon);
  return {context.in(0), types.rows};
}

std::vector<TensorType> infer_rms_norm_backward(const OpContext& context) {
  const RowTypes types = rows_of(context, 1, context.attrs<LayerNormBackwardAttrs>().axis);
  require_type(context, 0, "dy", context.in(1));
  require_type(context, 2, "gamma", types.row);
  require_type(context, 3, "rstd", types.rows);
  return {context.in(1), types.row};
}

void layer_norm_gradient(GradContext& context) {
  require_first_output_only(context, 3, "layer_norm");
  const std::vector<ValueId> d = context.apply_all(
      "layer_norm_backward", {context.dout(), context.in(0), context.in(1), context.out(1), context.out(2)},
      {{"axis", context.attrs<LayerNormAttrs>().axis}});
  for (int i = 0; i < 3; ++i) {
    if (context.has(i) && context.needs(i)) context.set(i, d[static_cast<std::size_t>(i)]);
  }
}

void rms_norm_gradient(GradContext& context) {
  require_first_output_only(context, 2, "rms_norm");
  const std::vector<ValueId> d =
      context.apply_all("rms_norm_backward", {context.dout(), context.in(0), context.in(1), context.out(1)},
                        {{"axis", context.attrs<LayerNormAttrs>().axis}});
  for (int i = 0; i < 2; ++i) {
    if (context.needs(i)) context.set(i, d[static_cast<std::size_t>(i)]);
  }
}

// Operations per element of x, counted from the formulas.
template <int kPerElement>
Cost element_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

AttrSchema forward_attributes() {
  return Attributes<LayerNormAttrs>()
      .integer("axis", &LayerNormAttrs::axis, -1)
      .number("epsilon", &LayerNormAttrs::epsilon, 1e-5);
}

AttrSchema backward_attributes() {
  return Attributes<LayerNormBackwardAttrs>().integer("axis", &LayerNormBackwardAttrs::axis, -1);
}

}  // namespace

std::vector<OpDef> row_normalization_ops() {
  return {
      // (x, gamma, beta?) -> (y, mean, rstd) over the axes from `axis` on; mean and rstd have the axes before. Ba et
      // al., "Layer Normalization" (2016), section 3; ONNX LayerNormalization.
      {.name = "layer_norm",
       .min_inputs = 2,
       .max_inputs = 3,
       .attrs = forward_attributes(),
       .infer = infer_layer_norm,
       .gradient = layer_norm_gradient,
       .cost = element_cost<7>,
       .in_place = {{0, 0}}},
      // (dy, x, gamma, mean, rstd) -> (dx, dgamma, dbeta)
      {.name = "layer_norm_backward",
       .min_inputs = 5,
       .max_inputs = 5,
       .attrs = backward_attributes(),
       .infer = infer_layer_norm_backward,
       .cost = element_cost<14>,
       .in_place = {{0, 0}, {0, 1}}},
      // (x, gamma) -> (y, rstd): y = x * rstd * gamma with rstd = 1 / sqrt(mean(x^2) + epsilon). Zhang and Sennrich,
      // "Root Mean Square Layer Normalization" (2019), (4); ONNX RMSNormalization.
      {.name = "rms_norm",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = forward_attributes(),
       .infer = infer_rms_norm,
       .gradient = rms_norm_gradient,
       .cost = element_cost<4>,
       .in_place = {{0, 0}}},
      // (dy, x, gamma, rstd) -> (dx, dgamma)
      {.name = "rms_norm_backward",
       .min_inputs = 4,
       .max_inputs = 4,
       .attrs = backward_attributes(),
       .infer = infer_rms_norm_backward,
       .cost = element_cost<10>,
       .in_place = {{0, 0}, {0, 1}}},
  };
}

}  // namespace trivet
