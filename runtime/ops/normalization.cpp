// Normalization by statistics of each channel: over the batch, or over groups of channels of one sample.
#include "runtime/ops/normalization.h"

#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet {

void require_epsilon(const OpContext& context, double epsilon) {
  if (!(epsilon >= 0) || !std::isfinite(epsilon)) {
    context.fail(fmt::format("attribute 'epsilon' is {}, expected a finite number of at least 0", epsilon));
  }
}

void require_first_output_only(const GradContext& context, int outputs, const char* op) {
  for (int i = 1; i < outputs; ++i) {
    if (context.dout(i) != kNoValue) {
      throw Error(ErrorCode::graph, fmt::format("{}: output {} has no gradient, only output 0 has", op, i),
                  "compute statistics that the loss needs with reduce_mean");
    }
  }
}

namespace {

using kernels::Activation;
using kernels::BatchNormAttrs;
using kernels::BatchNormBackwardAttrs;
using kernels::BatchNormTrainAttrs;
using kernels::GroupNormAttrs;
using kernels::GroupNormBackwardAttrs;
using kernels::InstanceNormAttrs;

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

// The type of one f32 for each channel of x, which is f32 or bf16.
TensorType channels_of(const OpContext& context, int image, int least_rank) {
  require_compute_type(context, image, "x");
  const TensorType& x = context.in(image);
  if (x.rank() < least_rank) {
    context.fail(
        fmt::format("x has rank {}, expected at least {}: the last axis is the channels", x.rank(), least_rank));
  }
  context.require(x.elements() > 0, "x has no elements");
  return f32({x.dim(-1)});
}

template <class Names>
void require_channels(const OpContext& context, int first, const Names& names, const TensorType& channels) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    require_type(context, first + static_cast<int>(i), names[i], channels);
  }
}

// ---- batch normalization ----

// x and residual: f32 or bf16, the same. All others f32.
std::vector<TensorType> infer_batch_norm(const OpContext& context) {
  require_channels(context, 1, std::array{"gamma", "beta", "mean", "var"}, channels_of(context, 0, 1));
  if (context.has(5)) require_type(context, 5, "residual", context.in(0));
  require_epsilon(context, context.attrs<BatchNormAttrs>().epsilon);
  return {context.in(0)};
}

std::vector<TensorType> infer_batch_norm_train(const OpContext& context) {
  const TensorType channels = channels_of(context, 0, 1);
  require_channels(context, 1, std::array{"gamma", "beta", "running_mean", "running_var"}, channels);
  if (context.has(5)) require_type(context, 5, "residual", context.in(0));
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

// dy, x and y: f32 or bf16, the same. All others f32.
std::vector<TensorType> infer_batch_norm_backward(const OpContext& context) {
  const auto& attrs = context.attrs<BatchNormBackwardAttrs>();
  const TensorType channels = channels_of(context, 1, 1);
  const TensorType& x = context.in(1);
  require_type(context, 0, "dy", x);
  require_channels(context, 2, std::array{"gamma", "mean", "rstd"}, channels);
  const bool active = attrs.activation != Activation::none;
  if (context.has(5) != active) {
    context.fail(active ? "y is missing, whose sign the activation's gradient needs"
                        : "y is given, but there is no activation whose gradient needs it");
  }
  if (active) require_type(context, 5, "y", x);
  if (attrs.residual && !active) {
    context.fail("the residual's gradient is asked for, but without an activation it is dy itself");
  }
  std::vector<TensorType> out = {x, channels, channels};
  if (attrs.residual) out.push_back(x);
  return out;
}

// Gradients of (x, gamma, beta, ...) from those of (y, mean, rstd, ...).
void set_norm_gradients(GradContext& context, std::span<const ValueId> d) {
  for (int i = 0; i < 3; ++i) {
    if (context.needs(i)) context.set(i, d[static_cast<std::size_t>(i)]);
  }
}

void batch_norm_train_gradient(GradContext& context) {
  require_first_output_only(context, 5, "batch_norm_train");
  const bool active = context.attrs<BatchNormTrainAttrs>().activation != Activation::none;
  const bool residual = context.has(5) && context.needs(5);
  std::vector<ValueId> inputs = {context.dout(), context.in(0), context.in(1), context.out(1), context.out(2)};
  if (active) inputs.push_back(context.out());
  const std::vector<ValueId> d =
      context.apply_all("batch_norm_backward", inputs,
                        {{"activation", std::string(active ? "relu" : "none")}, {"residual", residual && active}});
  set_norm_gradients(context, d);
  if (residual) context.set(5, active ? d[3] : context.dout());
}

// Operations per element of x, counted from the formulas.
template <int kPerElement>
Cost element_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

std::vector<std::string> activations() { return {"none", "relu"}; }

std::vector<OpDef> batch_norm_ops() {
  return {
      // (x, gamma, beta, mean, var, residual?) -> y = activation((x - mean) / sqrt(var + epsilon) * gamma + beta +
      // residual) over all axes but the last, with given statistics. For inference only.
      {.name = "batch_norm",
       .min_inputs = 5,
       .max_inputs = 6,
       .attrs = Attributes<BatchNormAttrs>()
                    .number("epsilon", &BatchNormAttrs::epsilon, 1e-5)
                    .choice("activation", &BatchNormAttrs::activation, activations()),
       .infer = infer_batch_norm,
       .cost = element_cost<2>,
       .in_place = {{0, 0}, {0, 5}}},
      // (x, gamma, beta, running_mean, running_var, residual?) -> (y, mean, rstd, running_mean', running_var').
      // Normalizes with the biased variance and keeps the unbiased one, as Ioffe and Szegedy, "Batch Normalization"
      // (2015), do. y as above.
      {.name = "batch_norm_train",
       .min_inputs = 5,
       .max_inputs = 6,
       .attrs = Attributes<BatchNormTrainAttrs>()
                    .number("epsilon", &BatchNormTrainAttrs::epsilon, 1e-5)
                    .number("momentum", &BatchNormTrainAttrs::momentum, 0.1)
                    .choice("activation", &BatchNormTrainAttrs::activation, activations()),
       .infer = infer_batch_norm_train,
       .gradient = batch_norm_train_gradient,
       .cost = element_cost<7>,
       .in_place = {{0, 0}, {3, 3}, {4, 4}, {0, 5}}},
      // (dy, x, gamma, mean, rstd, y?) -> (dx, dgamma, dbeta, dresidual?), through the batch's own mean and variance. y
      // is there if there is an activation, and dresidual if `residual` asks for it.
      {.name = "batch_norm_backward",
       .min_inputs = 5,
       .max_inputs = 6,
       .attrs = Attributes<BatchNormBackwardAttrs>()
                    .choice("activation", &BatchNormBackwardAttrs::activation, activations())
                    .flag("residual", &BatchNormBackwardAttrs::residual, false),
       .infer = infer_batch_norm_backward,
       .cost = element_cost<9>,
       .in_place = {{0, 0}, {0, 1}, {0, 5}}},
  };
}

// ---- group and instance normalization ----

// The type of one f32 for each group of each sample.
TensorType groups_of(const OpContext& context, int image, std::int64_t groups) {
  const TensorType& x = context.in(image);
  if (groups < 1 || x.dim(-1) % groups != 0) {
    context.fail(fmt::format("attribute 'num_groups' is {}, but x has {} channels", groups, x.dim(-1)),
                 "the number of groups must divide the number of channels");
  }
  return f32({x.dim(0), groups});
}

std::vector<TensorType> infer_grouped(const OpContext& context, std::int64_t groups, double epsilon) {
  const TensorType channels = channels_of(context, 0, 2);
  require_channels(context, 1, std::array{"gamma", "beta"}, channels);
  require_epsilon(context, epsilon);
  const TensorType statistics = groups_of(context, 0, groups);
  return {context.in(0), statistics, statistics};
}

// x: f32 or bf16; gamma and beta f32.
std::vector<TensorType> infer_group_norm(const OpContext& context) {
  const auto& attrs = context.attrs<GroupNormAttrs>();
  return infer_grouped(context, attrs.num_groups, attrs.epsilon);
}

std::vector<TensorType> infer_instance_norm(const OpContext& context) {
  const std::int64_t channels = context.in(0).rank() == 0 ? 0 : context.in(0).dim(-1);
  return infer_grouped(context, channels, context.attrs<InstanceNormAttrs>().epsilon);
}

// dy and x: f32 or bf16, the same. All others f32.
std::vector<TensorType> infer_group_norm_backward(const OpContext& context) {
  const TensorType channels = channels_of(context, 1, 2);
  require_type(context, 0, "dy", context.in(1));
  require_type(context, 2, "gamma", channels);
  const TensorType statistics = groups_of(context, 1, context.attrs<GroupNormBackwardAttrs>().num_groups);
  require_type(context, 3, "mean", statistics);
  require_type(context, 4, "rstd", statistics);
  return {context.in(1), channels, channels};
}

void grouped_gradient(GradContext& context, std::int64_t groups, const char* op) {
  require_first_output_only(context, 3, op);
  set_norm_gradients(context,
                     context.apply_all("group_norm_backward",
                                       {context.dout(), context.in(0), context.in(1), context.out(1), context.out(2)},
                                       {{"num_groups", groups}}));
}

void group_norm_gradient(GradContext& context) {
  grouped_gradient(context, context.attrs<GroupNormAttrs>().num_groups, "group_norm");
}

void instance_norm_gradient(GradContext& context) {
  grouped_gradient(context, context.in_type(0).dim(-1), "instance_norm");
}

std::vector<OpDef> group_norm_ops() {
  return {
      // (x, gamma, beta) -> (y, mean, rstd) with x (N, .., C), over all axes but the first and each of num_groups
      // groups of neighbouring channels; mean and rstd are (N, num_groups). Wu and He, "Group Normalization" (2018);
      // ONNX GroupNormalization.
      {.name = "group_norm",
       .min_inputs = 3,
       .max_inputs = 3,
       .attrs = Attributes<GroupNormAttrs>()
                    .integer("num_groups", &GroupNormAttrs::num_groups, 1)
                    .number("epsilon", &GroupNormAttrs::epsilon, 1e-5),
       .infer = infer_group_norm,
       .gradient = group_norm_gradient,
       .cost = element_cost<7>,
       .in_place = {{0, 0}}},
      // The same with a group for each channel. Ulyanov et al., "Instance Normalization" (2016); ONNX
      // InstanceNormalization.
      {.name = "instance_norm",
       .min_inputs = 3,
       .max_inputs = 3,
       .attrs = Attributes<InstanceNormAttrs>().number("epsilon", &InstanceNormAttrs::epsilon, 1e-5),
       .infer = infer_instance_norm,
       .gradient = instance_norm_gradient,
       .cost = element_cost<7>,
       .in_place = {{0, 0}}},
      // (dy, x, gamma, mean, rstd) -> (dx, dgamma, dbeta)
      {.name = "group_norm_backward",
       .min_inputs = 5,
       .max_inputs = 5,
       .attrs = Attributes<GroupNormBackwardAttrs>().integer("num_groups", &GroupNormBackwardAttrs::num_groups, 1),
       .infer = infer_group_norm_backward,
       .cost = element_cost<9>,
       .in_place = {{0, 0}, {0, 1}}},
  };
}

}  // namespace

std::vector<OpDef> normalization_ops() {
  std::vector<OpDef> ops = batch_norm_ops();
  for (OpDef& op : group_norm_ops()) ops.push_back(std::move(op));
  return ops;
}

}  // namespace trivet
