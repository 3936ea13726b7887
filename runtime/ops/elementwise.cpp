// Element-wise ops with two or three inputs: arithmetic, comparisons, logic, where. Inputs broadcast as in NumPy.
#include "runtime/ops/elementwise_rules.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_elementwise.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ModAttrs;

// --- shape rules ---

void require_same_dtype(const OpContext& context, int a, int b) {
  if (context.in(a).dtype != context.in(b).dtype) {
    context.fail(
        fmt::format("the inputs are {} and {}", dtype_name(context.in(a).dtype), dtype_name(context.in(b).dtype)),
        "use cast on one of them: nothing is converted silently");
  }
}

bool is_integer(DType type) {
  return type == DType::i8 || type == DType::u8 || type == DType::i32 || type == DType::i64;
}

bool is_number(DType type) { return is_compute_type(type) || is_integer(type); }

void require_numbers(const OpContext& context) {
  require_same_dtype(context, 0, 1);
  const DType type = context.in(0).dtype;
  if (!is_number(type)) {
    context.fail(fmt::format("the inputs are {}, expected f32, bf16, f16, i8, u8, i32 or i64", dtype_name(type)));
  }
}

Shape broadcast_inputs(const OpContext& context) {
  return broadcast_shapes(context, context.in(0).shape, context.in(1).shape);
}

std::vector<TensorType> infer_float_binary(const OpContext& context) {
  require_compute_type(context, 0, "a");
  require_same_dtype(context, 0, 1);
  return {{context.in(0).dtype, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_arithmetic(const OpContext& context) {
  require_numbers(context);
  return {{context.in(0).dtype, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_mod(const OpContext& context) {
  require_numbers(context);
  if (!context.attrs<ModAttrs>().fmod && !is_integer(context.in(0).dtype)) {
    context.fail("the remainder with the divisor's sign is for integers only", "set attribute 'fmod'");
  }
  return infer_arithmetic(context);
}

std::vector<TensorType> infer_compare(const OpContext& context) {
  require_numbers(context);
  return {{DType::boolean, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_equal(const OpContext& context) {
  require_same_dtype(context, 0, 1);
  if (context.in(0).dtype != DType::boolean) require_numbers(context);
  return {{DType::boolean, broadcast_inputs(context)}};
}

void require_bool(const OpContext& context, int input, std::string_view name) {
  if (context.in(input).dtype != DType::boolean) {
    context.fail(fmt::format("{} is {}, expected bool", name, dtype_name(context.in(input).dtype)));
  }
}

std::vector<TensorType> infer_logical(const OpContext& context) {
  require_bool(context, 0, "a");
  require_bool(context, 1, "b");
  return {{DType::boolean, broadcast_inputs(context)}};
}

std::vector<TensorType> infer_where(const OpContext& context) {
  require_bool(context, 0, "the condition");
  require_same_dtype(context, 1, 2);
  const Shape values = broadcast_shapes(context, context.in(1).shape, context.in(2).shape);
  return {{context.in(1).dtype, broadcast_shapes(context, context.in(0).shape, values)}};
}

// --- gradients ---

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

// out = a - n b with the whole number n.
void gradient_mod(GradContext& g) {
  if (g.needs(0)) set_broadcast(g, 0, g.dout());
  if (!g.needs(1)) return;
  const ValueId multiple = g.apply("sub", {g.in(0), g.out()});
  const ValueId whole = g.apply("round", {g.apply("div", {multiple, g.in(1)})});
  g.set(1, g.apply("neg", {sum_to(g, g.apply("mul", {g.dout(), whole}), g.in_type(1))}));
}

// To the input that was chosen; half to each where both are equal.
void gradient_extreme(GradContext& g, std::string_view chosen) {
  const ValueId equal = g.apply("equal", {g.in(0), g.in(1)});
  const ValueId shared = g.apply("where", {equal, scaled(g, g.dout(), 0.5), constant_like_dout(g, 0)});
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
  const ValueId a = g.in(0), b = g.in(1), none = constant_like_dout(g, 0);
  if (g.needs(0)) {
    const ValueId power = g.apply("pow", {a, scaled(g, b, 1, -1)});
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
  const ValueId none = constant_like_dout(g, 0);
  if (g.needs(1)) set_broadcast(g, 1, g.apply("where", {g.in(0), g.dout(), none}));
  if (g.needs(2)) set_broadcast(g, 2, g.apply("where", {g.in(0), none, g.dout()}));
}

// --- declarations ---

OpDef to_bool(std::string name, decltype(OpDef::infer) infer) {
  return {.name = std::move(name), .min_inputs = 2, .max_inputs = 2, .infer = infer, .cost = per_element<kSimple>};
}

// Costs no floating-point operations, and may overwrite an input: bools of the same shape.
OpDef logical(std::string name) { return binary(std::move(name), infer_logical, nullptr, per_element<0>); }

OpDef where_op() {
  return {.name = "where",
          .min_inputs = 3,
          .max_inputs = 3,
          .infer = infer_where,
          .gradient = gradient_where,
          .cost = per_element<0>,
          .in_place = {{0, 1}, {0, 2}}};
}

}  // namespace

std::vector<OpDef> elementwise_ops() {
  return {
      binary("add", infer_arithmetic, gradient_add),
      binary("sub", infer_arithmetic, gradient_sub),
      binary("mul", infer_arithmetic, gradient_mul),
      binary("div", infer_arithmetic, gradient_div),
      with(Attributes<ModAttrs>().flag("fmod", &ModAttrs::fmod, false),
           binary("mod", infer_mod, gradient_mod, per_element<3 * kSimple>)),
      binary("maximum", infer_arithmetic, gradient_maximum),
      binary("minimum", infer_arithmetic, gradient_minimum),
      binary("pow", infer_float_binary, gradient_pow, per_element<kPow>),
      to_bool("equal", infer_equal),
      to_bool("not_equal", infer_equal),
      to_bool("less", infer_compare),
      to_bool("less_equal", infer_compare),
      to_bool("greater", infer_compare),
      to_bool("greater_equal", infer_compare),
      logical("logical_and"),
      logical("logical_or"),
      logical("logical_xor"),
      where_op(),
  };
}

}  // namespace trivet
