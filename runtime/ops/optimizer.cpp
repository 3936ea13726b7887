#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet {
namespace {

using kernels::AdafactorAttrs;
using kernels::AdamWAttrs;
using kernels::AverageAttrs;
using kernels::ClipScaleAttrs;
using kernels::LionAttrs;
using kernels::LossScaleAttrs;
using kernels::ParameterRounding;
using kernels::SgdAttrs;

const TensorType kScalar{DType::f32, {}};

void require_at_least_0(const OpContext& context, std::string_view name, double value) {
  if (!(value >= 0) || !std::isfinite(value)) {
    context.fail(fmt::format("attribute '{}' is {}, expected a finite number of at least 0", name, value));
  }
}

void require_decay_rate(const OpContext& context, std::string_view name, double value) {
  if (!(value >= 0 && value < 1)) {
    context.fail(fmt::format("attribute '{}' is {}, expected at least 0 and less than 1", name, value));
  }
}

const TensorType kStep{DType::i64, {}};

// param and grad, of one shape, each f32 or bf16. Returns the type of the optimizer's state: f32.
TensorType checked_state(const OpContext& context) {
  require_compute_type(context, 0, "param");
  require_compute_type(context, 1, "grad");
  require_type(context, 1, "grad", {context.in(1).dtype, context.in(0).shape});
  return {DType::f32, context.in(0).shape};
}

void check_rounding(const OpContext& context, const ParameterRounding& rounding, int step) {
  if (!rounding.stochastic_rounding) return;
  if (context.in(0).dtype != DType::bf16) {
    context.fail(
        fmt::format("stochastic_rounding is set, but param is {}, expected bf16", dtype_name(context.in(0).dtype)),
        "leave stochastic_rounding out for f32 parameters");
  }
  if (!context.has(step)) context.fail("stochastic_rounding needs the input 'step', which keys its draws");
}

std::vector<TensorType> infer_sgd(const OpContext& context) {
  const auto& attrs = context.attrs<SgdAttrs>();
  require_at_least_0(context, "momentum", attrs.momentum);
  require_at_least_0(context, "weight_decay", attrs.weight_decay);
  const TensorType state = checked_state(context);
  require_type(context, 2, "momentum_buffer", state);
  require_type(context, 3, "lr", kScalar);
  if (context.has(4)) require_type(context, 4, "scale", kScalar);
  if (context.has(5)) require_type(context, 5, "step", kStep);
  check_rounding(context, attrs, 5);
  return {context.in(0), state};
}

std::vector<TensorType> infer_adamw(const OpContext& context) {
  const auto& attrs = context.attrs<AdamWAttrs>();
  require_decay_rate(context, "beta1", attrs.beta1);
  require_decay_rate(context, "beta2", attrs.beta2);
  require_at_least_0(context, "epsilon", attrs.epsilon);
  require_at_least_0(context, "weight_decay", attrs.weight_decay);
  const TensorType state = checked_state(context);
  require_type(context, 2, "m", state);
  require_type(context, 3, "v", state);
  require_type(context, 4, "lr", kScalar);
  require_type(context, 5, "step", kStep);
  if (context.has(6)) require_type(context, 6, "scale", kScalar);
  check_rounding(context, attrs, 5);
  return {context.in(0), state, state};
}

std::vector<TensorType> infer_lion(const OpContext& context) {
  const auto& attrs = context.attrs<LionAttrs>();
  require_decay_rate(context, "beta1", attrs.beta1);
  require_decay_rate(context, "beta2", attrs.beta2);
  require_at_least_0(context, "weight_decay", attrs.weight_decay);
  const TensorType state = checked_state(context);
  require_type(context, 2, "m", state);
  require_type(context, 3, "lr", kScalar);
  if (context.has(4)) require_type(context, 4, "scale", kScalar);
  if (context.has(5)) require_type(context, 5, "step", kStep);
  check_rounding(context, attrs, 5);
  return {context.in(0), state};
}

std::vector<TensorType> infer_adafactor(const OpContext& context) {
  const auto& attrs = context.attrs<AdafactorAttrs>();
  require_at_least_0(context, "decay_rate", attrs.decay_rate);
  require_at_least_0(context, "epsilon", attrs.epsilon);
  require_at_least_0(context, "weight_decay", attrs.weight_decay);
  if (!(attrs.clip_threshold > 0) || !std::isfinite(attrs.clip_threshold)) {
    context.fail(
        fmt::format("attribute 'clip_threshold' is {}, expected a finite number above 0", attrs.clip_threshold));
  }
  const TensorType state = checked_state(context);
  require_type(context, 3, "lr", kScalar);
  require_type(context, 4, "step", kStep);
  if (context.has(6)) require_type(context, 6, "scale", kScalar);
  if (state.rank() < 2) {
    require_type(context, 2, "moments", state);
    if (context.has(5)) context.fail("column_moments is given, but param is a vector: its moments are not factored");
    return {context.in(0), state};
  }
  const std::int64_t rows = state.dim(0);
  if (state.elements() == 0) context.fail("param has no elements");
  if (!context.has(5))
    context.fail("column_moments is missing; a param of rank 2 or more needs row and column moments");
  const TensorType row{DType::f32, {rows}};
  const TensorType column{DType::f32, {state.elements() / rows}};
  require_type(context, 2, "row_moments", row);
  require_type(context, 5, "column_moments", column);
  return {context.in(0), row, column};
}

std::vector<TensorType> infer_average(const OpContext& context) {
  const double decay = context.attrs<AverageAttrs>().decay;
  if (!(decay >= 0 && decay <= 1)) {
    context.fail(fmt::format("attribute 'decay' is {}, expected 0 to 1", decay));
  }
  require_f32(context, 0, "average");
  require_compute_type(context, 1, "param");
  require_type(context, 1, "param", {context.in(1).dtype, context.in(0).shape});
  return {context.in(0)};
}

std::vector<TensorType> infer_clip_scale(const OpContext& context) {
  const double max_norm = context.attrs<ClipScaleAttrs>().max_norm;
  if (!(max_norm > 0) || !std::isfinite(max_norm)) {
    context.fail(fmt::format("attribute 'max_norm' is {}, expected a finite number above 0", max_norm));
  }
  for (int i = 0; i < context.num_inputs(); ++i) {
    context.require(context.has(i), "each squared norm must be given");
    require_type(context, i, fmt::format("squared norm {}", i), kScalar);
  }
  return {kScalar, kScalar};
}

std::vector<TensorType> infer_loss_scale(const OpContext& context) {
  const auto& attrs = context.attrs<LossScaleAttrs>();
  require_at_least_0(context, "max_norm", attrs.max_norm);
  if (attrs.interval < 1) context.fail(fmt::format("attribute 'interval' is {}, expected at least 1", attrs.interval));
  require_type(context, 0, "loss scale", kScalar);
  require_type(context, 1, "good_steps", kStep);
  require_type(context, 2, "skipped_steps", kStep);
  for (int i = 3; i < context.num_inputs(); ++i) {
    context.require(context.has(i), "each squared norm must be given");
    require_type(context, i, fmt::format("squared norm {}", i - 3), kScalar);
  }
  return {kScalar, kScalar, {DType::boolean, {}}, kScalar, kStep, kStep};
}

std::vector<TensorType> infer_zero(const OpContext& context) { return {context.in(0)}; }

// Operations per parameter, counted from the formulas (a division and a root count as one each).
template <int kPerElement>
Cost parameter_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

Cost clip_scale_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.num_inputs()) + 3};
}

Cost loss_scale_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.num_inputs()) + 5};
}

// x is not read.
Cost zero_cost(const OpContext&, std::span<const TensorType> out) {
  return {.flops = 0, .bytes = static_cast<double>(out[0].bytes())};
}

template <class S>
Attributes<S> rounding_attributes() {
  return Attributes<S>()
      .flag("stochastic_rounding", &S::stochastic_rounding, false)
      .integer("seed", &S::seed, 0)
      .integer("op", &S::op, 0);
}

}  // namespace

// The steps take an optional input `scale`, a factor for the gradient, so that clipping reads it only once. Parameters
// and gradients are f32 or bf16, the state is f32. bf16 parameters are rounded to the nearest, or with
// stochastic_rounding at random, keyed by seed, op and the input `step`.
std::vector<OpDef> optimizer_ops() {
  return {
      // (param, grad, momentum_buffer, lr, [scale], [step]) -> (param', momentum_buffer'). With g = scale * grad +
      // weight_decay * param and b = momentum * buffer + g: param' = param - lr * (nesterov ? g + momentum * b : b).
      // Sutskever et al., "On the importance of initialization and momentum" (2013), in PyTorch's form.
      {.name = "sgd_step",
       .min_inputs = 4,
       .max_inputs = 6,
       .attrs = rounding_attributes<SgdAttrs>()
                    .number("momentum", &SgdAttrs::momentum, 0)
                    .number("weight_decay", &SgdAttrs::weight_decay, 0)
                    .flag("nesterov", &SgdAttrs::nesterov, false),
       .infer = infer_sgd,
       .cost = parameter_cost<8>,
       .in_place = {{0, 0}, {1, 2}}},
      // (param, grad, m, v, lr, step, [scale]) -> (param', m', v'); step counts from 1.
      // Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, in PyTorch's form: the
      // decay is lr * weight_decay, and epsilon is added to the bias-corrected root.
      {.name = "adamw_step",
       .min_inputs = 6,
       .max_inputs = 7,
       .attrs = rounding_attributes<AdamWAttrs>()
                    .number("beta1", &AdamWAttrs::beta1, 0.9)
                    .number("beta2", &AdamWAttrs::beta2, 0.999)
                    .number("epsilon", &AdamWAttrs::epsilon, 1e-8)
                    .number("weight_decay", &AdamWAttrs::weight_decay, 0.01),
       .infer = infer_adamw,
       .cost = parameter_cost<14>,
       .in_place = {{0, 0}, {1, 2}, {2, 3}}},
      // (param, grad, m, lr, [scale], [step]) -> (param', m'): param' = (1 - lr * weight_decay) param - lr * sign(c)
      // with
      // c = beta1 m + (1 - beta1) g, and m' = beta2 m + (1 - beta2) g. Chen et al., "Symbolic Discovery of
      // Optimization Algorithms" (2023), algorithm 2.
      {.name = "lion_step",
       .min_inputs = 4,
       .max_inputs = 6,
       .attrs = rounding_attributes<LionAttrs>()
                    .number("beta1", &LionAttrs::beta1, 0.9)
                    .number("beta2", &LionAttrs::beta2, 0.99)
                    .number("weight_decay", &LionAttrs::weight_decay, 0),
       .infer = infer_lion,
       .cost = parameter_cost<10>,
       .in_place = {{0, 0}, {1, 2}}},
      // (param, grad, row_moments (R), lr, step, column_moments (C), [scale]) -> (param', row_moments',
      // column_moments'); step counts from 1. A param of rank 2 or more is a matrix: R is its first axis, C all others.
      // One of lower rank has moments of its own shape and no column_moments: (param, grad, moments, lr, step) ->
      // (param', moments'). Shazeer and Stern, "Adafactor" (2018), algorithms 4 and 5, with the step size lr (no
      // relative step), averages in place of sums (which changes nothing), and decoupled weight decay.
      {.name = "adafactor_step",
       .min_inputs = 5,
       .max_inputs = 7,
       .attrs = Attributes<AdafactorAttrs>()
                    .number("decay_rate", &AdafactorAttrs::decay_rate, 0.8)
                    .number("epsilon", &AdafactorAttrs::epsilon, 1e-30)
                    .number("clip_threshold", &AdafactorAttrs::clip_threshold, 1)
                    .number("weight_decay", &AdafactorAttrs::weight_decay, 0),
       .infer = infer_adafactor,
       .cost = parameter_cost<15>,
       .in_place = {{0, 0}, {1, 2}, {2, 5}}},
      // (average f32, param) -> decay * average + (1 - decay) * param: the exponential moving average of parameters.
      // Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992), with decay.
      {.name = "average_step",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<AverageAttrs>().number("decay", &AverageAttrs::decay, 0.999),
       .infer = infer_average,
       .cost = parameter_cost<3>,
       .in_place = {{0, 0}}},
      // (squared norms ...) -> (scale, norm): norm = sqrt(sum), scale = min(1, max_norm / (norm + 1e-6)). NaN stays
      // NaN.
      // Pascanu et al., "On the difficulty of training recurrent neural networks" (2013), algorithm 1.
      {.name = "clip_scale",
       .min_inputs = 1,
       .max_inputs = kAnyInputs,
       .attrs = Attributes<ClipScaleAttrs>().number("max_norm", &ClipScaleAttrs::max_norm, 1),
       .infer = infer_clip_scale,
       .cost = clip_scale_cost},
      // (loss_scale, good_steps, skipped_steps, squared norms ...) -> (factor, norm, taken bool, loss_scale',
      // good_steps', skipped_steps'). The norms are of gradients that are loss_scale times too large; norm is the true
      // one of them together, and factor undoes the scale and clips to max_norm (0: does not clip). If a norm is not
      // finite, the step is not to be taken: factor is 0 and the scale halves, down to 1. After `interval` steps in a
      // row that were taken it doubles, up to 2^24. Micikevicius et al., "Mixed Precision Training" (2018).
      {.name = "loss_scale_step",
       .min_inputs = 4,
       .max_inputs = kAnyInputs,
       .attrs = Attributes<LossScaleAttrs>()
                    .number("max_norm", &LossScaleAttrs::max_norm, 0)
                    .integer("interval", &LossScaleAttrs::interval, 2000),
       .infer = infer_loss_scale,
       .cost = loss_scale_cost,
       .in_place = {{3, 0}, {4, 1}, {5, 2}}},
      // x -> zeros of x's type, of which it may take the memory.
      {.name = "zero", .infer = infer_zero, .cost = zero_cost, .in_place = {{0, 0}}},
  };
}

}  // namespace trivet
