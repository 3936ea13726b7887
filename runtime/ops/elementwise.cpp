#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_elementwise.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::AffineAttrs;
using kernels::CastAttrs;
using kernels::ClampAttrs;
using kernels::GeluAttrs;

// Floating-point operations for one element. An elementary function counts as its float32 polynomial does.
constexpr int kSimple = 1;
constexpr int kExp = 18;
constexpr int kLog = 24;
constexpr int kNormalCdf = 40;
constexpr int kPow = 48;

template <int kFlops>
Cost per_element(const OpContext&, std::span<const TensorType> out) {
  return {.flops = kFlops * static_cast<double>(out[0].elements())};
}

// --- shape rules ---

std::vector<TensorType> infer_unary(const OpContext& context) {
  require_f32(context, 0, "x");
  return {context.in(0)};
}

void require_same_dtype(const OpContext& context, int a, int b) {
  if (context.in(a).dtype != context.in(b).dtype) {
    context.fail(
        fmt::format("the inputs are {} and {}", dtype_name(context.in(a).dtype), dtype_name(context.in(b).dtype)),
        "use cast on one of them: nothing is converted silently");
  }
}

void require_number(const OpContext& context) {
  require_same_dtype(context, 0, 1);
  const DType type = context.in(0).dtype;
  if (type != DType::f32 && type != DType::i32 && type != DType::i64) {
    context.fail(fmt::format("the inputs are {}, expected f32, i32 or i64", dtype_name(type)));
  }
}

Shape broadcast_inputs(const OpContext& context) {
  return broadcast_shapes(context, context.in(0).shape, context.in(1).shape);
}

std::vector<TensorType> infer_binary_f32(const OpContext& context) {
  require_f32(context, 0, "a");
  require_f32(context, 1, "b");
  return {{DType::f32, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_arithmetic(const OpContext& context) {
  require_number(context);
  return {{context.in(0).dtype, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_compare(const OpContext& context) {
  require_number(context);
  return {{DType::boolean, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_where(const OpContext& context) {
  if (context.in(0).dtype != DType::boolean) {
    context.fail(fmt::format("the condition is {}, expected bool", dtype_name(context.in(0).dtype)));
  }
  require_same_dtype(context, 1, 2);
  const Shape values = broadcast_shapes(context, context.in(1).shape, context.in(2).shape);
  return {{context.in(1).dtype, broadcast_shapes(context, context.in(0).shape, values)}};
}

std::vector<TensorType> infer_clamp(const OpContext& context) {
  const auto& attrs = context.attrs<ClampAttrs>();
  if (!(attrs.min_value <= attrs.max_value)) {
    context.fail(fmt::format("min is {}, max is {}, expected min <= max", attrs.min_value, attrs.max_value));
  }
  return infer_unary(context);
}

std::vector<TensorType> infer_cast(const OpContext& context) {
  return {{context.attrs<CastAttrs>().to, context.in(0).shape}};
}

std::vector<TensorType> infer_backward(const OpContext& context) {
  require_f32(context, 0, "dy");
  require_type(context, 1, "the saved value", context.in(0));
  return {context.in(0)};
}

// --- gradients ---

// Hands back a contribution that has the output's shape.
void set_broadcast(GradContext& g, int input, ValueId gradient) { g.set(input, sum_to(g, gradient, g.in_type(input))); }

ValueId zero(GradContext& g) { return g.apply("full", {}, {{"shape", Shape{}}, {"value", 0.0}}); }

ValueId scaled(GradContext& g, ValueId x, double scale) { return g.apply("affine", {x}, {{"scale", scale}}); }

void gradient_add(GradContext& g) {
  for (int i = 0; i < 2; ++i) {
    if (g.needs(i)) set_broadcast(g, i, g.dout());
  }
}

void gradient_sub(GradContext& g) {
  if (g.needs(0)) set_broadcast(g, 0, g.dout());
  if (g.needs(1)) g.set(1, g.apply("neg", {sum_to(g, g.dout(), g.in_type(1))}));
}

void gradient_mul(GradContext& g) {
  for (int i = 0; i < 2; ++i) {
    if (g.needs(i)) set_broadcast(g, i, g.apply("mul", {g.dout(), g.in(1 - i)}));
  }
}

void gradient_div(GradContext& g) {
  const ValueId quotient = g.apply("div", {g.dout(), g.in(1)});
  if (g.needs(0)) set_broadcast(g, 0, quotient);
  if (g.needs(1)) g.set(1, g.apply("neg", {sum_to(g, g.apply("mul", {quotient, g.out()}), g.in_type(1))}));
}

// To the input that was chosen; half to each where both are equal.
void gradient_extreme(GradContext& g, std::string_view chosen) {
  const ValueId equal = g.apply("equal", {g.in(0), g.in(1)});
  const ValueId shared = g.apply("where", {equal, scaled(g, g.dout(), 0.5), zero(g)});
  for (int i = 0; i < 2; ++i) {
    if (!g.needs(i)) continue;
    const ValueId mine = g.apply(chosen, {g.in(i), g.in(1 - i)});
    set_broadcast(g, i, g.apply("where", {mine, g.dout(), shared}));
  }
}
void gradient_maximum(GradContext& g) { gradient_extreme(g, "greater"); }
void gradient_minimum(GradContext& g) { gradient_extreme(g, "less"); }

// d/da = b a^(b-1), 0 where b is 0. d/db = a^b log a, 0 where a is 0 (the limit for b > 0), NaN where a is negative.
void gradient_pow(GradContext& g) {
  const ValueId a = g.in(0), b = g.in(1), none = zero(g);
  if (g.needs(0)) {
    const ValueId power = g.apply("pow", {a, g.apply("affine", {b}, {{"shift", -1.0}})});
    const ValueId slope = g.apply("where", {g.apply("equal", {b, none}), none, g.apply("mul", {b, power})});
    set_broadcast(g, 0, g.apply("mul", {g.dout(), slope}));
  }
  if (g.needs(1)) {
    const ValueId growth = g.apply("mul", {g.out(), g.apply("log", {a})});
    const ValueId slope = g.apply("where", {g.apply("equal", {a, none}), none, growth});
    set_broadcast(g, 1, g.apply("mul", {g.dout(), slope}));
  }
}

void gradient_where(GradContext& g) {
  const ValueId none = zero(g);
  if (g.needs(1)) set_broadcast(g, 1, g.apply("where", {g.in(0), g.dout(), none}));
  if (g.needs(2)) set_broadcast(g, 2, g.apply("where", {g.in(0), none, g.dout()}));
}

void gradient_neg(GradContext& g) { g.set(0, g.apply("neg", {g.dout()})); }
void gradient_abs(GradContext& g) { g.set(0, g.apply("mul", {g.dout(), g.apply("sign", {g.in(0)})})); }
void gradient_exp(GradContext& g) { g.set(0, g.apply("mul", {g.dout(), g.out()})); }
void gradient_log(GradContext& g) { g.set(0, g.apply("div", {g.dout(), g.in(0)})); }
void gradient_sqrt(GradContext& g) { g.set(0, g.apply("div", {scaled(g, g.dout(), 0.5), g.out()})); }
void gradient_rsqrt(GradContext& g) {
  const ValueId cube = g.apply("mul", {g.apply("square", {g.out()}), g.out()});
  g.set(0, g.apply("mul", {scaled(g, g.dout(), -0.5), cube}));
}
void gradient_reciprocal(GradContext& g) {
  g.set(0, g.apply("mul", {scaled(g, g.dout(), -1.0), g.apply("square", {g.out()})}));
}
void gradient_square(GradContext& g) { g.set(0, g.apply("mul", {scaled(g, g.dout(), 2.0), g.in(0)})); }
void gradient_sign(GradContext& g) { g.set(0, scaled(g, g.dout(), 0.0)); }
void gradient_affine(GradContext& g) { g.set(0, scaled(g, g.dout(), g.attrs<AffineAttrs>().scale)); }

void gradient_tanh(GradContext& g) { g.set(0, g.apply("tanh_backward", {g.dout(), g.out()})); }
void gradient_sigmoid(GradContext& g) { g.set(0, g.apply("sigmoid_backward", {g.dout(), g.out()})); }
void gradient_relu(GradContext& g) { g.set(0, g.apply("relu_backward", {g.dout(), g.out()})); }
void gradient_silu(GradContext& g) { g.set(0, g.apply("silu_backward", {g.dout(), g.in(0)})); }
void gradient_gelu(GradContext& g) { g.set(0, g.apply("gelu_backward", {g.dout(), g.in(0)}, g.attrs_list())); }

// Passes where x was not changed, so also at the limits themselves.
void gradient_clamp(GradContext& g) {
  g.set(0, g.apply("where", {g.apply("equal", {g.in(0), g.out()}), g.dout(), zero(g)}));
}

// Between float types only; a cast through an integer has no useful derivative.
void gradient_cast(GradContext& g) {
  g.set(0, g.apply("cast", {g.dout()}, {{"to", std::string(dtype_name(g.in_type(0).dtype))}}));
}

// --- declarations ---

OpDef unary(std::string name, void (*gradient)(GradContext&), decltype(OpDef::cost) cost = per_element<kSimple>) {
  return {.name = std::move(name), .infer = infer_unary, .gradient = gradient, .cost = cost, .in_place = {{0, 0}}};
}

OpDef binary(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&),
             decltype(OpDef::cost) cost = per_element<kSimple>) {
  return {.name = std::move(name),
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer,
          .gradient = gradient,
          .cost = cost,
          .in_place = {{0, 0}, {0, 1}}};
}

OpDef compare(std::string name) {
  return {
      .name = std::move(name), .min_inputs = 2, .max_inputs = 2, .infer = infer_compare, .cost = per_element<kSimple>};
}

// Inputs (dy, saved): saved is the forward output y for relu, tanh and sigmoid, the forward input x for the others.
OpDef backward(std::string name, decltype(OpDef::cost) cost) {
  OpDef op = binary(std::move(name), infer_backward, nullptr, cost);
  return op;
}

AttrSchema gelu_attributes() {
  return Attributes<GeluAttrs>().choice("approximate", &GeluAttrs::approximate, {"none", "tanh"});
}

std::vector<OpDef> unary_ops() {
  std::vector<OpDef> ops = {
      unary("neg", gradient_neg),
      unary("abs", gradient_abs),
      unary("exp", gradient_exp, per_element<kExp>),
      unary("log", gradient_log, per_element<kLog>),
      unary("sqrt", gradient_sqrt),
      unary("rsqrt", gradient_rsqrt, per_element<2 * kSimple>),
      unary("reciprocal", gradient_reciprocal),
      unary("square", gradient_square),
      unary("sign", gradient_sign),
      unary("tanh", gradient_tanh, per_element<kExp + 4 * kSimple>),
      unary("sigmoid", gradient_sigmoid, per_element<kExp + 3 * kSimple>),
      unary("relu", gradient_relu),
      unary("gelu", gradient_gelu, per_element<kNormalCdf + kSimple>),
      unary("silu", gradient_silu, per_element<kExp + 4 * kSimple>),
      unary("clamp", gradient_clamp, per_element<2 * kSimple>),
      unary("affine", gradient_affine, per_element<2 * kSimple>),
  };
  for (OpDef& op : ops) {
    if (op.name == "gelu") op.attrs = gelu_attributes();
    if (op.name == "clamp") {
      op.infer = infer_clamp;
      op.attrs = Attributes<ClampAttrs>()
                     .number("min", &ClampAttrs::min_value, ClampAttrs{}.min_value)
                     .number("max", &ClampAttrs::max_value, ClampAttrs{}.max_value);
    }
    if (op.name == "affine") {
      op.attrs = Attributes<AffineAttrs>()
                     .number("scale", &AffineAttrs::scale, AffineAttrs{}.scale)
                     .number("shift", &AffineAttrs::shift, AffineAttrs{}.shift);
    }
  }
  return ops;
}

OpDef where_op() {
  return {.name = "where",
          .min_inputs = 3,
          .max_inputs = 3,
          .infer = infer_where,
          .gradient = gradient_where,
          .cost = per_element<0>,
          .in_place = {{0, 1}, {0, 2}}};
}

OpDef cast_op() {
  return {.name = "cast",
          .attrs = Attributes<CastAttrs>().choice("to", &CastAttrs::to,
                                                  {"f32", "f64", "i32", "i64", "u8", "bool", "bf16", "f16", "i8"}),
          .infer = infer_cast,
          .gradient = gradient_cast,
          .cost = per_element<0>};
}

}  // namespace

std::vector<OpDef> elementwise_ops() {
  std::vector<OpDef> ops = unary_ops();
  for (OpDef& op : std::vector<OpDef>{
           binary("add", infer_arithmetic, gradient_add),
           binary("sub", infer_arithmetic, gradient_sub),
           binary("mul", infer_arithmetic, gradient_mul),
           binary("div", infer_binary_f32, gradient_div),
           binary("maximum", infer_binary_f32, gradient_maximum),
           binary("minimum", infer_binary_f32, gradient_minimum),
           binary("pow", infer_binary_f32, gradient_pow, per_element<kPow>),
           compare("equal"),
           compare("less"),
           compare("greater"),
           where_op(),
           cast_op(),
           backward("relu_backward", per_element<kSimple>),
           backward("tanh_backward", per_element<3 * kSimple>),
           backward("sigmoid_backward", per_element<3 * kSimple>),
           backward("silu_backward", per_element<kExp + 8 * kSimple>),
           backward("gelu_backward", per_element<kNormalCdf + kExp + 5 * kSimple>),
       }) {
    if (op.name == "gelu_backward") op.attrs = gelu_attributes();
    ops.push_back(std::move(op));
  }
  return ops;
}

}  // namespace trivet
