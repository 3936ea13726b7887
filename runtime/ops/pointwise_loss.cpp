// Losses of predictions against targets of the same shape (N, ..), element by element: the loss of a sample is the mean
// over its elements.
#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/loss.h"
#include "trivet/kernels/attrs_loss.h"

namespace trivet {
namespace {

using kernels::HuberLossAttrs;

// predictions: f32 or bf16; targets f32. Gives the type f32 (N) of the loss.
TensorType check_pair(const OpContext& context) {
  require_compute_type(context, 0, "the prediction");
  const TensorType& x = context.in(0);
  context.require(x.rank() >= 1, "the prediction is a scalar, expected samples (N, ..)");
  require_type(context, 1, "the target", {DType::f32, x.shape});
  context.require(x.dim(0) == 0 || x.elements() > 0, "a sample has no elements");
  return {DType::f32, {x.dim(0)}};
}

void check_huber(const OpContext& context) {
  const double delta = context.attrs<HuberLossAttrs>().delta;
  if (!(delta > 0) || !std::isfinite(delta)) {
    context.fail(fmt::format("attribute 'delta' is {}, expected a finite number above 0", delta));
  }
}

// The weight of positive targets: one number, or one for each element of the last axis.
void check_pos_weight(const OpContext& context, int input) {
  if (!context.has(input)) return;
  const TensorType& weight = context.in(input);
  const TensorType& x = context.in(0);
  if (x.rank() < 2 || weight.rank() == 0) {
    require_type(context, input, "pos_weight", {DType::f32, {}});
  } else {
    require_type(context, input, "pos_weight", {DType::f32, {x.dim(-1)}});
  }
}

std::vector<TensorType> infer_loss(const OpContext& context) { return {check_pair(context)}; }

std::vector<TensorType> infer_backward(const OpContext& context) {
  require_type(context, 2, "dloss", check_pair(context));
  return {context.in(0)};
}

std::vector<TensorType> infer_huber(const OpContext& context) {
  check_huber(context);
  return infer_loss(context);
}

std::vector<TensorType> infer_huber_backward(const OpContext& context) {
  check_huber(context);
  return infer_backward(context);
}

std::vector<TensorType> infer_logistic(const OpContext& context) {
  const TensorType loss = check_pair(context);
  check_pos_weight(context, 2);
  return {loss};
}

std::vector<TensorType> infer_logistic_backward(const OpContext& context) {
  require_type(context, 2, "dloss", check_pair(context));
  check_pos_weight(context, 3);
  return {context.in(0)};
}

// Operations per element, counted from the formulas (an exponential counts as one).
template <int kPerElement>
Cost element_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

// Of a loss of prediction - target: the target's gradient is the prediction's with the other sign. It is f32, so it is
// not taken from a rounded one.
void difference_gradient(GradContext& context, const char* backward) {
  const bool rounded = context.in_type(0).dtype != DType::f32;
  ValueId dx = kNoValue;
  if (context.needs(0) || !rounded) {
    dx = context.apply(backward, {context.in(0), context.in(1), context.dout()}, context.attrs_list());
  }
  if (context.needs(0)) context.set(0, dx);
  if (!context.needs(1)) return;
  if (rounded) {
    const ValueId x = context.apply("cast", {context.in(0)}, {{"to", std::string("f32")}});
    dx = context.apply(backward, {x, context.in(1), context.dout()}, context.attrs_list());
  }
  context.set(1, context.apply("neg", {dx}));
}

void squared_gradient(GradContext& context) { difference_gradient(context, "mean_squared_error_backward"); }
void l1_gradient(GradContext& context) { difference_gradient(context, "l1_loss_backward"); }
void huber_gradient(GradContext& context) { difference_gradient(context, "huber_loss_backward"); }

void logistic_gradient(GradContext& context) {
  refuse_gradient(context, 1, "binary_cross_entropy_with_logits", "the targets");
  refuse_gradient(context, 2, "binary_cross_entropy_with_logits", "pos_weight");
  if (!context.needs(0)) return;
  std::vector<ValueId> inputs = {context.in(0), context.in(1), context.dout()};
  if (context.has(2)) inputs.push_back(context.in(2));
  context.set(0, context.apply("binary_cross_entropy_with_logits_backward", inputs));
}

AttrSchema huber_attributes() { return Attributes<HuberLossAttrs>().number("delta", &HuberLossAttrs::delta, 1); }

// (prediction, target, dloss) -> gradient of the prediction.
OpDef backward_op(const char* name, decltype(OpDef::infer) infer, decltype(OpDef::cost) cost, AttrSchema attrs = {},
                  int max_inputs = 3) {
  return {.name = name,
          .min_inputs = 3,
          .max_inputs = max_inputs,
          .attrs = std::move(attrs),
          .infer = infer,
          .cost = cost,
          .in_place = {{0, 0}, {0, 1}}};
}

// (prediction, target) -> loss of each sample.
OpDef loss_op(const char* name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&),
              decltype(OpDef::cost) cost, AttrSchema attrs = {}, int max_inputs = 2) {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = max_inputs,
          .attrs = std::move(attrs),
          .infer = infer,
          .gradient = gradient,
          .cost = cost};
}

}  // namespace

std::vector<OpDef> pointwise_loss_ops() {
  return {
      // (prediction - target)^2
      loss_op("mean_squared_error", infer_loss, squared_gradient, element_cost<3>),
      backward_op("mean_squared_error_backward", infer_backward, element_cost<3>),
      // |prediction - target|; its gradient where both are equal is 0.
      loss_op("l1_loss", infer_loss, l1_gradient, element_cost<3>),
      backward_op("l1_loss_backward", infer_backward, element_cost<3>),
      loss_op("huber_loss", infer_huber, huber_gradient, element_cost<6>, huber_attributes()),
      backward_op("huber_loss_backward", infer_huber_backward, element_cost<4>, huber_attributes()),
      // (logits, targets, pos_weight?) -> loss of each sample, the mean of -(pos_weight * target * log sigmoid(logit) +
      // (1 - target) * log sigmoid(-logit)). pos_weight is a scalar, or has one number for each element of the last
      // axis. The backward op has it as its fourth input.
      loss_op("binary_cross_entropy_with_logits", infer_logistic, logistic_gradient, element_cost<8>, {}, 3),
      backward_op("binary_cross_entropy_with_logits_backward", infer_logistic_backward, element_cost<8>, {}, 4),
  };
}

}  // namespace trivet
