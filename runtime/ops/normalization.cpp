#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/base/error.h"
#include "trivet/kernels/attrs_normalization.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::BatchNormAttrs;
using kernels::BatchNormTrainAttrs;
using kernels::LayerNormAttrs;
using kernels::SoftmaxAttrs;

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

TensorType channels_of(const OpContext& context, int image) {
  require_f32(context, image, "x");
  context.require(context.in(image).rank() >= 1, "x is a scalar, expected at least the axis to normalize");
  context.require(context.in(image).elements() > 0, "x has no elements");
  return f32({context.in(image).dim(-1)});
}

void require_epsilon(const OpContext& context, double epsilon) {
  if (!(epsilon >= 0) || !std::isfinite(epsilon)) {
    context.fail(fmt::format("attribute 'epsilon' is {}, expected a finite number of at least 0", epsilon));
  }
}

std::vector<TensorType> infer_batch_norm(const OpContext& context) {
  const TensorType channels = channels_of(context, 0);
  constexpr std::array names = {"x", "gamma", "beta", "mean", "var"};
  for (int i = 1; i < 5; ++i) require_type(context, i, names[static_cast<std::size_t>(i)], channels);
  require_epsilon(context, context.attrs<BatchNormAttrs>().epsilon);
  return {context.in(0)};
}

std::vector<TensorType> infer_batch_norm_train(const OpContext& context) {
  const TensorType channels = channels_of(context, 0);
  constexpr std::array names = {"x", "gamma", "beta", "running_mean", "running_var"};
  for (int i = 1; i < 5; ++i) require_type(context, i, names[static_cast<std::size_t>(i)], channels);
  const auto& attrs = context.attrs<BatchNormTrainAttrs>();
  require_epsilon(context, attrs.epsilon);
  if (!(attrs.momentum >= 0 && attrs.momentum <= 1)) {
    context.fail(fmt::format("attribute 'momentum' is {}, expected 0 to 1", attrs.momentum));
  }
  if (context.in(0).elements() == context.in(0).dim(-1)) {
    context.fail("x has one value for each channel, which has no variance",
                 "train with a larger batch, or leave out a last batch of one sample");
  }
  return {context.in(0), channels, channels, channels, channels};
}

std::vector<TensorType> infer_batch_norm_backward(const OpContext& context) {
  const TensorType channels = channels_of(context, 1);
  require_type(context, 0, "dy", context.in(1));
  constexpr std::array names = {"gamma", "mean", "rstd"};
  for (int i = 2; i < 5; ++i) require_type(context, i, names[static_cast<std::size_t>(i) - 2], channels);
  return {context.in(1), channels, channels};
}

TensorType rows_of(const TensorType& x) { return f32(Shape(x.shape.begin(), x.shape.end() - 1)); }

std::vector<TensorType> infer_layer_norm(const OpContext& context) {
  const TensorType channels = channels_of(context, 0);
  require_type(context, 1, "gamma", channels);
  require_type(context, 2, "beta", channels);
  require_epsilon(context, context.attrs<LayerNormAttrs>().epsilon);
  const TensorType rows = rows_of(context.in(0));
  return {context.in(0), rows, rows};
}

std::vector<TensorType> infer_layer_norm_backward(const OpContext& context) {
  const TensorType channels = channels_of(context, 1);
  require_type(context, 0, "dy", context.in(1));
  require_type(context, 2, "gamma", channels);
  const TensorType rows = rows_of(context.in(1));
  require_type(context, 3, "mean", rows);
  require_type(context, 4, "rstd", rows);
  return {context.in(1), channels, channels};
}

std::vector<TensorType> infer_softmax(const OpContext& context) {
  require_f32(context, 0, "x");
  context.axis(context.attrs<SoftmaxAttrs>().axis);
  return {context.in(0)};
}

std::vector<TensorType> infer_softmax_backward(const OpContext& context) {
  require_f32(context, 1, "y");
  require_type(context, 0, "dy", context.in(1));
  context.axis(context.attrs<SoftmaxAttrs>().axis);
  return {context.in(1)};
}

// Operations per element of the first input, counted from the formulas (an exponential counts as one).
template <int kPerElement>
Cost element_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

// The saved statistics feed the backward op only; a loss on them has no gradient rule.
void require_first_output_only(const GradContext& context, int outputs, const char* op) {
  for (int i = 1; i < outputs; ++i) {
    if (context.dout(i) != kNoValue) {
      throw Error(ErrorCode::graph, fmt::format("{}: output {} has no gradient, only output 0 has", op, i),
                  "compute statistics that the loss needs with reduce_mean");
    }
  }
}

// For batch_norm_train and layer_norm alike: (y, mean, rstd, ...) of (x, gamma, beta, ...).
void norm_gradient(GradContext& context, int outputs, const char* op, const char* backward) {
  require_first_output_only(context, outputs, op);
  if (context.dout() == kNoValue) return;
  const std::vector<ValueId> d =
      context.apply_all(backward, {context.dout(), context.in(0), context.in(1), context.out(1), context.out(2)});
  for (int i = 0; i < 3; ++i) {
    if (context.needs(i)) context.set(i, d[static_cast<std::size_t>(i)]);
  }
}

void batch_norm_train_gradient(GradContext& context) {
  norm_gradient(context, 5, "batch_norm_train", "batch_norm_backward");
}

void layer_norm_gradient(GradContext& context) { norm_gradient(context, 3, "layer_norm", "layer_norm_backward"); }

void softmax_gradient(GradContext& context) {
  context.set(0, context.apply("softmax_backward", {context.dout(), context.out()}, context.attrs_list()));
}

void log_softmax_gradient(GradContext& context) {
  context.set(0, context.apply("log_softmax_backward", {context.dout(), context.out()}, context.attrs_list()));
}

AttrSchema softmax_attributes() { return Attributes<SoftmaxAttrs>().integer("axis", &SoftmaxAttrs::axis, -1); }

OpDef softmax_op(const char* name, void (*gradient)(GradContext&)) {
  return {.name = name,
          .attrs = softmax_attributes(),
          .infer = infer_softmax,
          .gradient = gradient,
          .cost = element_cost<5>,
          .in_place = {{0, 0}}};
}

OpDef softmax_backward_op(const char* name) {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .attrs = softmax_attributes(),
          .infer = infer_softmax_backward,
          .cost = element_cost<4>,
          .in_place = {{0, 0}, {0, 1}}};
}

}  // namespace

std::vector<OpDef> normalization_ops() {
  return {
      // (x, gamma, beta, mean, var) -> y over all axes but the last, with given statistics. For inference only.
      {.name = "batch_norm",
       .min_inputs = 5,
       .max_inputs = 5,
       .attrs = Attributes<BatchNormAttrs>().number("epsilon", &BatchNormAttrs::epsilon, 1e-5),
       .infer = infer_batch_norm,
       .cost = element_cost<2>,
       .in_place = {{0, 0}}},
      // (x, gamma, beta, running_mean, running_var) -> (y, mean, rstd, running_mean', running_var'). Normalizes with
      // the biased variance and keeps the unbiased one, as Ioffe and Szegedy, "Batch Normalization" (2015), do.
      {.name = "batch_norm_train",
       .min_inputs = 5,
       .max_inputs = 5,
       .attrs = Attributes<BatchNormTrainAttrs>()
                    .number("epsilon", &BatchNormTrainAttrs::epsilon, 1e-5)
                    .number("momentum", &BatchNormTrainAttrs::momentum, 0.1),
       .infer = infer_batch_norm_train,
       .gradient = batch_norm_train_gradient,
       .cost = element_cost<7>,
       .in_place = {{0, 0}, {3, 3}, {4, 4}}},
      // (dy, x, gamma, mean, rstd) -> (dx, dgamma, dbeta), through the batch's own mean and variance.
      {.name = "batch_norm_backward",
       .min_inputs = 5,
       .max_inputs = 5,
       .infer = infer_batch_norm_backward,
       .cost = element_cost<9>,
       .in_place = {{0, 0}, {0, 1}}},
      // (x, gamma, beta) -> (y, mean, rstd) over the last axis. Ba et al., "Layer Normalization" (2016), section 3.
      {.name = "layer_norm",
       .min_inputs = 3,
       .max_inputs = 3,
       .attrs = Attributes<LayerNormAttrs>().number("epsilon", &LayerNormAttrs::epsilon, 1e-5),
       .infer = infer_layer_norm,
       .gradient = layer_norm_gradient,
       .cost = element_cost<7>,
       .in_place = {{0, 0}}},
      {.name = "layer_norm_backward",
       .min_inputs = 5,
       .max_inputs = 5,
       .infer = infer_layer_norm_backward,
       .cost = element_cost<14>,
       .in_place = {{0, 0}, {0, 1}}},
      // A row that holds NaN or +inf, or -inf only, gives NaN.
      softmax_op("softmax", softmax_gradient),
      softmax_backward_op("softmax_backward"),
      softmax_op("log_softmax", log_softmax_gradient),
      softmax_backward_op("log_softmax_backward"),
  };
}

}  // namespace trivet
