#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_reduction.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ReduceAttrs;

Shape reduced_shape(const Shape& shape, const ReduceAttrs& attrs, bool keepdims) {
  bool reduced[kMaxRank];
  kernels::reduced_dimensions(attrs, static_cast<int>(shape.size()), reduced);
  Shape out;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (!reduced[d]) {
      out.push_back(shape[d]);
    } else if (keepdims) {
      out.push_back(1);
    }
  }
  return out;
}

// --- shape rules ---

enum class Takes { floats, numbers, bytes_too };

template <Takes kTakes>
void require_reducible(const OpContext& context) {
  const DType type = context.in(0).dtype;
  bool good = is_compute_type(type);
  if (kTakes != Takes::floats) good = good || type == DType::i32 || type == DType::i64;
  if (kTakes == Takes::bytes_too) good = good || type == DType::u8 || type == DType::i8;
  if (good) return;
  context.fail(fmt::format("x is {}, expected f32, bf16{}", dtype_name(type),
                           kTakes == Takes::floats    ? " or f16"
                           : kTakes == Takes::numbers ? ", f16, i32 or i64"
                                                      : ", f16, i32, i64, u8 or i8"));
}

template <Takes kTakes>
std::vector<TensorType> infer_reduce(const OpContext& context) {
  require_reducible<kTakes>(context);
  const auto& attrs = context.attrs<ReduceAttrs>();
  listed_axes(context, attrs.axes, attrs.axes.n, context.in(0).rank());
  if (context.in(0).rank() > kMaxRank) context.fail("the rank is too large");
  return {{context.in(0).dtype, reduced_shape(context.in(0).shape, attrs, attrs.keepdims)}};
}

// For reductions that are undefined over nothing.
template <Takes kTakes>
std::vector<TensorType> infer_reduce_some(const OpContext& context) {
  std::vector<TensorType> out = infer_reduce<kTakes>(context);
  if (context.in(0).elements() == 0 && out[0].elements() > 0) {
    context.fail("there is nothing to reduce", "a reduced dimension has size 0");
  }
  return out;
}

std::vector<TensorType> infer_squared_norm(const OpContext& context) {
  require_reducible<Takes::floats>(context);
  return {{DType::f32, {}}};
}

// --- cost ---

template <int kFlops>
Cost cost_reduce(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kFlops * static_cast<double>(context.in(0).elements())};
}

// --- gradients ---

// A value of the output's shape with the reduced dimensions put back as size 1.
ValueId with_dimensions(GradContext& g, ValueId value) {
  const Shape kept = reduced_shape(g.in_type(0).shape, g.attrs<ReduceAttrs>(), true);
  return kept == g.out_type().shape ? value : g.apply("reshape", {value}, {{"shape", kept}});
}

ValueId scaled(GradContext& g, ValueId value, double scale) { return g.apply("affine", {value}, {{"scale", scale}}); }

// The same reduction with dimensions kept, by `op`.
ValueId reduce_again(GradContext& g, std::string_view op, ValueId value) {
  const ReduceAttrs& attrs = g.attrs<ReduceAttrs>();
  return g.apply(
      op, {value},
      {{"axes", to_shape(attrs.axes)}, {"keepdims", true}, {"noop_with_empty_axes", attrs.noop_with_empty_axes}});
}

void gradient_sum(GradContext& g) {
  g.set(0, g.apply("expand", {with_dimensions(g, g.dout())}, {{"shape", g.in_type(0).shape}}));
}

void gradient_mean(GradContext& g) {
  const double count = static_cast<double>(g.in_type(0).elements()) / static_cast<double>(g.out_type().elements());
  const ValueId share = scaled(g, with_dimensions(g, g.dout()), 1 / count);
  g.set(0, g.apply("expand", {share}, {{"shape", g.in_type(0).shape}}));
}

// Shared equally among the elements that are equal to the extreme one. In f32, because counts need its precision.
void gradient_extreme(GradContext& g) {
  const ValueId chosen = g.apply("equal", {g.in(0), with_dimensions(g, g.out())});
  const ValueId mask = cast_to(g, chosen, DType::f32);
  const ValueId dout = cast_to(g, with_dimensions(g, g.dout()), DType::f32);
  const ValueId share = g.apply("div", {dout, reduce_again(g, "reduce_sum", mask)});
  g.set(0, cast_to(g, g.apply("mul", {mask, share}), g.in_type(0).dtype));
}

// The derivative by one factor is the product of all others: right where factors are 0, because zeros are counted and
// left out of the product.
void gradient_prod(GradContext& g) {
  const ValueId zero = full_of(g, {DType::f32, {}}, 0);
  const ValueId x = cast_to(g, g.in(0), DType::f32);
  const ValueId equal = g.apply("equal", {x, zero});
  const ValueId is_zero = cast_to(g, equal, DType::f32);
  const ValueId factors = g.apply("where", {equal, full_of(g, {DType::f32, {}}, 1), x});
  const ValueId product = reduce_again(g, "reduce_prod", factors);
  const ValueId alone = g.apply("equal", {reduce_again(g, "reduce_sum", is_zero), is_zero});
  const ValueId rest = g.apply("where", {alone, g.apply("div", {product, factors}), zero});
  const ValueId dout = cast_to(g, with_dimensions(g, g.dout()), DType::f32);
  g.set(0, cast_to(g, g.apply("mul", {dout, rest}), g.in_type(0).dtype));
}

void gradient_l1(GradContext& g) {
  g.set(0, g.apply("mul", {g.apply("sign", {g.in(0)}), with_dimensions(g, g.dout())}));
}

// x / y, and 0 where all elements are.
void gradient_l2(GradContext& g) {
  const ValueId zero = full_of(g, {g.in_type(0).dtype, {}}, 0);
  const ValueId share = g.apply("div", {g.dout(), g.out()});
  const ValueId finite = g.apply("where", {g.apply("equal", {g.out(), zero}), zero, share});
  g.set(0, g.apply("mul", {g.in(0), with_dimensions(g, finite)}));
}

void gradient_sum_square(GradContext& g) {
  g.set(0, g.apply("mul", {g.in(0), scaled(g, with_dimensions(g, g.dout()), 2.0)}));
}

void gradient_log_sum(GradContext& g) {
  const ValueId share = g.apply("div", {with_dimensions(g, g.dout()), reduce_again(g, "reduce_sum", g.in(0))});
  g.set(0, g.apply("expand", {share}, {{"shape", g.in_type(0).shape}}));
}

// Softmax, from the largest element: e^(x - y) would have the rounding of a large y.
void gradient_log_sum_exp(GradContext& g) {
  const ValueId x = cast_to(g, g.in(0), DType::f32);
  const ValueId e = g.apply("exp", {g.apply("sub", {x, reduce_again(g, "reduce_max", x)})});
  const ValueId dout = cast_to(g, with_dimensions(g, g.dout()), DType::f32);
  const ValueId share = g.apply("div", {dout, reduce_again(g, "reduce_sum", e)});
  g.set(0, cast_to(g, g.apply("mul", {e, share}), g.in_type(0).dtype));
}

void gradient_squared_norm(GradContext& g) {
  const ValueId scale = cast_to(g, scaled(g, g.dout(), 2.0), g.in_type(0).dtype);
  g.set(0, g.apply("mul", {g.in(0), scale}));
}

// --- declarations ---

OpDef reduce(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&),
             decltype(OpDef::cost) cost = cost_reduce<1>) {
  return {.name = std::move(name),
          .attrs = Attributes<ReduceAttrs>()
                       .integers("axes", &ReduceAttrs::axes, {})
                       .flag("keepdims", &ReduceAttrs::keepdims, true)
                       .flag("noop_with_empty_axes", &ReduceAttrs::noop_with_empty_axes, false),
          .infer = infer,
          .gradient = gradient,
          .cost = cost};
}

}  // namespace

// As ONNX's Reduce operators. Integers wrap around.
std::vector<OpDef> reduction_ops() {
  constexpr int kExp = 18;  // its polynomial
  return {
      reduce("reduce_sum", infer_reduce<Takes::numbers>, gradient_sum),
      reduce("reduce_mean", infer_reduce_some<Takes::floats>, gradient_mean),
      reduce("reduce_max", infer_reduce_some<Takes::bytes_too>, gradient_extreme),
      reduce("reduce_min", infer_reduce_some<Takes::bytes_too>, gradient_extreme),
      reduce("reduce_prod", infer_reduce<Takes::numbers>, gradient_prod),
      reduce("reduce_l1", infer_reduce<Takes::numbers>, gradient_l1, cost_reduce<2>),
      reduce("reduce_l2", infer_reduce<Takes::floats>, gradient_l2, cost_reduce<2>),
      reduce("reduce_sum_square", infer_reduce<Takes::numbers>, gradient_sum_square, cost_reduce<2>),
      reduce("reduce_log_sum", infer_reduce<Takes::floats>, gradient_log_sum),
      reduce("reduce_log_sum_exp", infer_reduce<Takes::floats>, gradient_log_sum_exp, cost_reduce<kExp + 3>),
      // x -> the sum of the squares of all elements, a scalar in f32.
      {.name = "squared_norm", .infer = infer_squared_norm, .gradient = gradient_squared_norm, .cost = cost_reduce<2>},
  };
}

}  // namespace trivet
