#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_reduction.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ArgmaxAttrs;
using kernels::IntList;
using kernels::ReduceAttrs;

// Which of `rank` dimensions `axes` names; all if it is empty.
std::vector<bool> reduced_dimensions(const IntList& axes, int rank) {
  std::vector<bool> reduced(static_cast<std::size_t>(rank), axes.n == 0);
  for (int i = 0; i < axes.n; ++i) {
    reduced[static_cast<std::size_t>(axes.v[i] < 0 ? axes.v[i] + rank : axes.v[i])] = true;
  }
  return reduced;
}

Shape reduced_shape(const Shape& shape, const std::vector<bool>& reduced, bool keepdims) {
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

std::vector<TensorType> infer_reduce(const OpContext& context) {
  require_f32(context, 0, "x");
  const auto& attrs = context.attrs<ReduceAttrs>();
  std::vector<bool> seen(static_cast<std::size_t>(context.in(0).rank()), false);
  for (int i = 0; i < attrs.axes.n; ++i) {
    const auto axis = static_cast<std::size_t>(context.axis(attrs.axes.v[i]));
    if (seen[axis]) context.fail(fmt::format("axis {} is given twice", axis), "each axis is reduced once");
    seen[axis] = true;
  }
  const std::vector<bool> reduced = reduced_dimensions(attrs.axes, context.in(0).rank());
  return {{DType::f32, reduced_shape(context.in(0).shape, reduced, attrs.keepdims)}};
}

// For reductions that are undefined over nothing.
std::vector<TensorType> infer_reduce_some(const OpContext& context) {
  std::vector<TensorType> out = infer_reduce(context);
  if (context.in(0).elements() == 0 && out[0].elements() > 0) {
    context.fail("there is nothing to reduce", "a reduced dimension has size 0");
  }
  return out;
}

std::vector<TensorType> infer_squared_norm(const OpContext& context) {
  require_f32(context, 0, "x");
  return {{DType::f32, {}}};
}

std::vector<TensorType> infer_argmax(const OpContext& context) {
  require_f32(context, 0, "x");
  const auto& attrs = context.attrs<ArgmaxAttrs>();
  const int axis = context.axis(attrs.axis);
  if (context.in(0).dim(axis) == 0)
    context.fail(fmt::format("dimension {} has size 0: there is no largest element", axis));
  std::vector<bool> reduced(static_cast<std::size_t>(context.in(0).rank()), false);
  reduced[static_cast<std::size_t>(axis)] = true;
  return {{DType::i64, reduced_shape(context.in(0).shape, reduced, attrs.keepdims)}};
}

// One operation for each element read.
Cost cost_reduce(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.in(0).elements())};
}

Cost cost_squared_norm(const OpContext& context, std::span<const TensorType>) {
  return {.flops = 2 * static_cast<double>(context.in(0).elements())};
}

// A value of the output's shape with the reduced dimensions put back as size 1.
ValueId with_dimensions(GradContext& g, ValueId value) {
  const Shape& shape = g.in_type(0).shape;
  const Shape kept = reduced_shape(shape, reduced_dimensions(g.attrs<ReduceAttrs>().axes, g.in_type(0).rank()), true);
  return kept == g.out_type().shape ? value : g.apply("reshape", {value}, {{"shape", kept}});
}

void gradient_sum(GradContext& g) {
  g.set(0, g.apply("expand", {with_dimensions(g, g.dout())}, {{"shape", g.in_type(0).shape}}));
}

void gradient_mean(GradContext& g) {
  const double count = static_cast<double>(g.in_type(0).elements()) / static_cast<double>(g.out_type().elements());
  const ValueId share = g.apply("affine", {with_dimensions(g, g.dout())}, {{"scale", 1 / count}});
  g.set(0, g.apply("expand", {share}, {{"shape", g.in_type(0).shape}}));
}

// Shared equally among the elements that are equal to the extreme one.
void gradient_extreme(GradContext& g) {
  const ValueId chosen = g.apply("equal", {g.in(0), with_dimensions(g, g.out())});
  const ValueId mask = g.apply("cast", {chosen}, {{"to", std::string("f32")}});
  const std::vector<std::int64_t> axes(g.attrs<ReduceAttrs>().axes.v,
                                       g.attrs<ReduceAttrs>().axes.v + g.attrs<ReduceAttrs>().axes.n);
  const ValueId count = g.apply("reduce_sum", {mask}, {{"axes", axes}, {"keepdims", true}});
  g.set(0, g.apply("mul", {mask, g.apply("div", {with_dimensions(g, g.dout()), count})}));
}

void gradient_squared_norm(GradContext& g) {
  g.set(0, g.apply("mul", {g.in(0), g.apply("affine", {g.dout()}, {{"scale", 2.0}})}));
}

OpDef reduce(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&)) {
  return {.name = std::move(name),
          .attrs = Attributes<ReduceAttrs>()
                       .integers("axes", &ReduceAttrs::axes, {})
                       .flag("keepdims", &ReduceAttrs::keepdims, true),
          .infer = infer,
          .gradient = gradient,
          .cost = cost_reduce};
}

}  // namespace

std::vector<OpDef> reduction_ops() {
  return {
      reduce("reduce_sum", infer_reduce, gradient_sum),
      reduce("reduce_mean", infer_reduce_some, gradient_mean),
      reduce("reduce_max", infer_reduce_some, gradient_extreme),
      reduce("reduce_min", infer_reduce_some, gradient_extreme),
      {.name = "squared_norm",
       .infer = infer_squared_norm,
       .gradient = gradient_squared_norm,
       .cost = cost_squared_norm},
      {.name = "argmax",
       .attrs = Attributes<ArgmaxAttrs>()
                    .integer("axis", &ArgmaxAttrs::axis, 0)
                    .flag("keepdims", &ArgmaxAttrs::keepdims, true),
       .infer = infer_argmax,
       .cost = cost_reduce},
  };
}

}  // namespace trivet
