#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet {
namespace {

using kernels::AdamWAttrs;
using kernels::ClipScaleAttrs;
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

std::vector<TensorType> infer_sgd(const OpContext& context) {
  const auto& attrs = context.attrs<SgdAttrs>();
  require_at_least_0(context, "momentum", attrs.momentum);
  require_at_least_0(context, "weight_decay", attrs.weight_decay);
  require_f32(context, 0, "param");
  require_type(context, 1, "grad", context.in(0));
  require_type(context, 2, "momentum_buffer", context.in(0));
  require_type(context, 3, "lr", kScalar);
  if (context.has(4)) require_type(context, 4, "scale", kScalar);
  return {context.in(0), context.in(0)};
}

std::vector<TensorType> infer_adamw(const OpContext& context) {
  const auto& attrs = context.attrs<AdamWAttrs>();
  require_decay_rate(context, "beta1", attrs.beta1);
  require_decay_rate(context, "beta2", attrs.beta2);
  require_at_least_0(context, "epsilon", attrs.epsilon);
  require_at_least_0(context, "weight_decay", attrs.weight_decay);
  require_f32(context, 0, "param");
  require_type(context, 1, "grad", context.in(0));
  require_type(context, 2, "m", context.in(0));
  require_type(context, 3, "v", context.in(0));
  require_type(context, 4, "lr", kScalar);
  require_type(context, 5, "step", {DType::i64, {}});
  if (context.has(6)) require_type(context, 6, "scale", kScalar);
  return {context.in(0), context.in(0), context.in(0)};
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

std::vector<TensorType> infer_zero(const OpContext& context) { return {context.in(0)}; }

// Operations per parameter, counted from the formulas (a division and a root count as one each).
template <int kPerElement>
Cost parameter_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

Cost clip_scale_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.num_inputs()) + 3};
}

// x is not read.
Cost zero_cost(const OpContext&, std::span<const TensorType> out) {
  return {.flops = 0, .bytes = static_cast<double>(out[0].bytes())};
}

}  // namespace

// The steps take an optional last input `scale`, a factor for the gradient, so that clipping reads it only once.
std::vector<OpDef> optimizer_ops() {
  return {
      // (param, grad, momentum_buffer, lr, [scale]) -> (param', momentum_buffer'). With g = scale * grad +
      // weight_decay * param and b = momentum * buffer + g: param' = param - lr * (nesterov ? g + momentum * b : b).
      // Sutskever et al., "On the importance of initialization and momentum" (2013), in PyTorch's form.
      {.name = "sgd_step",
       .min_inputs = 4,
       .max_inputs = 5,
       .attrs = Attributes<SgdAttrs>()
                    .number("momentum", &SgdAttrs::momentum, 0)
                    .number("weight_decay", &SgdAttrs::weight_decay, 0)
                    .flag("nesterov", &SgdAttrs::nesterov, false),
       .infer = infer_sgd,
       .cost = parameter_cost<8>,
       .in_place = {{0, 0}, {1, 2}}},
      // (param, grad, m, v, lr, step, [scale]) -> (param', m', v'); step counts from 1.
      // Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, in PyTorch's form: the
      // decay
      // is lr * weight_decay, and epsilon is added to the bias-corrected root.
      {.name = "adamw_step",
       .min_inputs = 6,
       .max_inputs = 7,
       .attrs = Attributes<AdamWAttrs>()
                    .number("beta1", &AdamWAttrs::beta1, 0.9)
                    .number("beta2", &AdamWAttrs::beta2, 0.999)
                    .number("epsilon", &AdamWAttrs::epsilon, 1e-8)
                    .number("weight_decay", &AdamWAttrs::weight_decay, 0.01),
       .infer = infer_adamw,
       .cost = parameter_cost<14>,
       .in_place = {{0, 0}, {1, 2}, {2, 3}}},
      // (squared norms ...) -> (scale, norm): norm = sqrt(sum), scale = min(1, max_norm / (norm + 1e-6)). NaN stays
      // NaN.
      // Pascanu et al., "On the difficulty of training recurrent neural networks" (2013), algorithm 1.
      {.name = "clip_scale",
       .min_inputs = 1,
       .max_inputs = kAnyInputs,
       .attrs = Attributes<ClipScaleAttrs>().number("max_norm", &ClipScaleAttrs::max_norm, 1),
       .infer = infer_clip_scale,
       .cost = clip_scale_cost},
      // x -> zeros of x's type, of which it may take the memory.
      {.name = "zero", .infer = infer_zero, .cost = zero_cost, .in_place = {{0, 0}}},
  };
}

}  // namespace trivet
