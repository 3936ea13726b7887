// Functions of one element: rounding, powers, exponentials, trigonometry, tests for special values, casts.
#include "runtime/ops/elementwise_rules.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_elementwise.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::AffineAttrs;
using kernels::CastAttrs;
using kernels::ClampAttrs;
using kernels::IsInfAttrs;

// --- shape rules ---

std::vector<TensorType> infer_number(const OpContext& context) {
  switch (context.in(0).dtype) {
    case DType::f32:
    case DType::bf16:
    case DType::f16:
    case DType::i8:
    case DType::u8:
    case DType::i32:
    case DType::i64:
      return {context.in(0)};
    default:
      context.fail(
          fmt::format("x is {}, expected f32, bf16, f16, i8, u8, i32 or i64", dtype_name(context.in(0).dtype)));
  }
}

std::vector<TensorType> infer_signed(const OpContext& context) {
  context.require(context.in(0).dtype != DType::u8, "x is u8, expected f32, bf16, f16, i8, i32 or i64");
  return infer_number(context);
}

std::vector<TensorType> infer_test(const OpContext& context) {
  require_compute_type(context, 0, "x");
  return {{DType::boolean, context.in(0).shape}};
}

std::vector<TensorType> infer_logical_not(const OpContext& context) {
  if (context.in(0).dtype != DType::boolean) {
    context.fail(fmt::format("x is {}, expected bool", dtype_name(context.in(0).dtype)));
  }
  return {context.in(0)};
}

std::vector<TensorType> infer_clamp(const OpContext& context) {
  const auto& attrs = context.attrs<ClampAttrs>();
  if (!(attrs.min_value <= attrs.max_value)) {
    context.fail(fmt::format("min is {}, max is {}, expected min <= max", attrs.min_value, attrs.max_value));
  }
  return infer_float(context);
}

std::vector<TensorType> infer_cast(const OpContext& context) {
  return {{context.attrs<CastAttrs>().to, context.in(0).shape}};
}

// --- gradients ---

void times_dout(GradContext& g, ValueId slope) { g.set(0, g.apply("mul", {g.dout(), slope})); }
void over_dout(GradContext& g, ValueId inverse_slope) { g.set(0, g.apply("div", {g.dout(), inverse_slope})); }

void gradient_neg(GradContext& g) { g.set(0, g.apply("neg", {g.dout()})); }
void gradient_abs(GradContext& g) { times_dout(g, g.apply("sign", {g.in(0)})); }
void gradient_exp(GradContext& g) { times_dout(g, g.out()); }
void gradient_log(GradContext& g) { over_dout(g, g.in(0)); }
void gradient_sqrt(GradContext& g) { g.set(0, g.apply("div", {scaled(g, g.dout(), 0.5), g.out()})); }
void gradient_rsqrt(GradContext& g) {
  const ValueId cube = g.apply("mul", {g.apply("square", {g.out()}), g.out()});
  g.set(0, g.apply("mul", {scaled(g, g.dout(), -0.5), cube}));
}
void gradient_reciprocal(GradContext& g) {
  g.set(0, g.apply("mul", {scaled(g, g.dout(), -1.0), g.apply("square", {g.out()})}));
}
void gradient_square(GradContext& g) { g.set(0, g.apply("mul", {scaled(g, g.dout(), 2.0), g.in(0)})); }
// Of the functions with steps: 0 almost everywhere.
void gradient_step(GradContext& g) { g.set(0, scaled(g, g.dout(), 0.0)); }
void gradient_affine(GradContext& g) { g.set(0, scaled(g, g.dout(), g.attrs<AffineAttrs>().scale)); }

// 2 / sqrt(pi) e^(-x^2)
void gradient_erf(GradContext& g) {
  const ValueId bell = g.apply("exp", {g.apply("neg", {g.apply("square", {g.in(0)})})});
  g.set(0, g.apply("mul", {scaled(g, g.dout(), 1.12837916709551257), bell}));
}

void gradient_sin(GradContext& g) { times_dout(g, g.apply("cos", {g.in(0)})); }
void gradient_cos(GradContext& g) { times_dout(g, g.apply("neg", {g.apply("sin", {g.in(0)})})); }
void gradient_tan(GradContext& g) { times_dout(g, scaled(g, g.apply("square", {g.out()}), 1, 1)); }
void gradient_sinh(GradContext& g) { times_dout(g, g.apply("cosh", {g.in(0)})); }
void gradient_cosh(GradContext& g) { times_dout(g, g.apply("sinh", {g.in(0)})); }

ValueId one_plus_square(GradContext& g) { return scaled(g, g.apply("square", {g.in(0)}), 1, 1); }
// 1 - x^2 as a product, which keeps its digits near 1.
ValueId one_minus_square(GradContext& g) {
  return g.apply("mul", {scaled(g, g.in(0), -1, 1), scaled(g, g.in(0), 1, 1)});
}

void gradient_asin(GradContext& g) { times_dout(g, g.apply("rsqrt", {one_minus_square(g)})); }
void gradient_acos(GradContext& g) { times_dout(g, g.apply("neg", {g.apply("rsqrt", {one_minus_square(g)})})); }
void gradient_atan(GradContext& g) { over_dout(g, one_plus_square(g)); }
void gradient_asinh(GradContext& g) { times_dout(g, g.apply("rsqrt", {one_plus_square(g)})); }
void gradient_acosh(GradContext& g) { times_dout(g, g.apply("rsqrt", {g.apply("neg", {one_minus_square(g)})})); }
void gradient_atanh(GradContext& g) { over_dout(g, one_minus_square(g)); }

// Passes where x was not changed, so also at the limits themselves.
void gradient_clamp(GradContext& g) {
  g.set(0, g.apply("where", {g.apply("equal", {g.in(0), g.out()}), g.dout(), constant_like_dout(g, 0)}));
}

// Between float types only; a cast through an integer has no useful derivative.
void gradient_cast(GradContext& g) {
  g.set(0, g.apply("cast", {g.dout()}, {{"to", std::string(dtype_name(g.in_type(0).dtype))}}));
}

// --- declarations ---

OpDef number(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&)) {
  OpDef op = unary(std::move(name), gradient);
  op.infer = infer;
  return op;
}

OpDef clamp_op() {
  OpDef op = unary("clamp", gradient_clamp, per_element<2 * kSimple>);
  op.infer = infer_clamp;
  op.attrs = Attributes<ClampAttrs>()
                 .number("min", &ClampAttrs::min_value, ClampAttrs{}.min_value)
                 .number("max", &ClampAttrs::max_value, ClampAttrs{}.max_value);
  return op;
}

OpDef affine_op() {
  return with(Attributes<AffineAttrs>()
                  .number("scale", &AffineAttrs::scale, AffineAttrs{}.scale)
                  .number("shift", &AffineAttrs::shift, AffineAttrs{}.shift),
              unary("affine", gradient_affine, per_element<2 * kSimple>));
}

OpDef is_inf_op() {
  return {.name = "is_inf",
          .attrs = Attributes<IsInfAttrs>()
                       .flag("detect_negative", &IsInfAttrs::detect_negative, true)
                       .flag("detect_positive", &IsInfAttrs::detect_positive, true),
          .infer = infer_test,
          .cost = per_element<kSimple>};
}

OpDef cast_op() {
  return {.name = "cast",
          .attrs = Attributes<CastAttrs>().choice("to", &CastAttrs::to, dtype_choices()),
          .infer = infer_cast,
          .gradient = gradient_cast,
          .cost = per_element<0>};
}

}  // namespace

std::vector<OpDef> unary_ops() {
  return {
      number("neg", infer_signed, gradient_neg),
      number("abs", infer_number, gradient_abs),
      number("sign", infer_number, gradient_step),
      unary("exp", gradient_exp, per_element<kExp>),
      unary("log", gradient_log, per_element<kLog>),
      unary("sqrt", gradient_sqrt),
      unary("rsqrt", gradient_rsqrt, per_element<2 * kSimple>),
      unary("reciprocal", gradient_reciprocal),
      unary("square", gradient_square),
      clamp_op(),
      affine_op(),
      unary("floor", gradient_step),
      unary("ceil", gradient_step),
      unary("round", gradient_step),  // ties to even
      unary("erf", gradient_erf, per_element<kErf>),
      unary("sin", gradient_sin, per_element<kTrigonometric>),
      unary("cos", gradient_cos, per_element<kTrigonometric>),
      unary("tan", gradient_tan, per_element<kTrigonometric>),
      unary("asin", gradient_asin, per_element<kTrigonometric>),
      unary("acos", gradient_acos, per_element<kTrigonometric>),
      unary("atan", gradient_atan, per_element<kTrigonometric>),
      unary("sinh", gradient_sinh, per_element<2 * kExp>),
      unary("cosh", gradient_cosh, per_element<kExp + 2 * kSimple>),
      unary("asinh", gradient_asinh, per_element<kLog + 9 * kSimple>),
      unary("acosh", gradient_acosh, per_element<kLog + 8 * kSimple>),
      unary("atanh", gradient_atanh, per_element<kLog + 7 * kSimple>),
      {.name = "is_nan", .infer = infer_test, .cost = per_element<kSimple>},
      is_inf_op(),
      {.name = "logical_not", .infer = infer_logical_not, .cost = per_element<0>, .in_place = {{0, 0}}},
      cast_op(),
  };
}

}  // namespace trivet
