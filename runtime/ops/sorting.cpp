// Ops that depend on the order of elements along one dimension.
#include <fmt/format.h>

#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_sorting.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ArgmaxAttrs;
using kernels::CumulativeSumAttrs;
using kernels::SortAttrs;
using kernels::TopKAttrs;

// --- argmax, argmin ---

std::vector<TensorType> infer_argmax(const OpContext& context) {
  const DType type = context.in(0).dtype;
  if (type == DType::f64 || type == DType::f16 || type == DType::boolean) {
    context.fail(fmt::format("x is {}, expected f32, bf16, i32, i64, u8 or i8", dtype_name(type)));
  }
  const auto& attrs = context.attrs<ArgmaxAttrs>();
  const int axis = context.axis(attrs.axis);
  if (context.in(0).dim(axis) == 0)
    context.fail(fmt::format("dimension {} has size 0: there is no extreme element", axis));
  constexpr std::int64_t kLongest = (std::int64_t{1} << 31) - 1;
  if (context.in(0).dim(axis) > kLongest) {
    context.fail(fmt::format("dimension {} is {}, at most {} is possible", axis, context.in(0).dim(axis), kLongest));
  }
  Shape shape = context.in(0).shape;
  if (attrs.keepdims) {
    shape[static_cast<std::size_t>(axis)] = 1;
  } else {
    shape.erase(shape.begin() + axis);
  }
  return {{DType::i64, shape}};
}

// One operation for each element read.
Cost cost_each(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.in(0).elements())};
}

// --- top_k, sort ---

int sorted_axis(const OpContext& context, std::int64_t given) {
  const int axis = context.axis(given);
  constexpr std::int64_t kLongest = (std::int64_t{1} << 32) - 1;
  if (context.in(0).dim(axis) > kLongest) {
    context.fail(fmt::format("dimension {} is {}, at most {} is possible", axis, context.in(0).dim(axis), kLongest));
  }
  return axis;
}

std::vector<TensorType> infer_top_k(const OpContext& context) {
  const auto& attrs = context.attrs<TopKAttrs>();
  const int axis = sorted_axis(context, attrs.axis);
  TensorType values = context.in(0);
  std::int64_t& size = values.shape[static_cast<std::size_t>(axis)];
  if (attrs.k < 0 || attrs.k > size) {
    context.fail(fmt::format("k is {}, but dimension {} has {} elements", attrs.k, axis, size));
  }
  size = attrs.k;
  return {values, {DType::i64, values.shape}};
}

std::vector<TensorType> infer_sort(const OpContext& context) {
  sorted_axis(context, context.attrs<SortAttrs>().axis);
  return {context.in(0), {DType::i64, context.in(0).shape}};
}

// Each value goes back to its place.
void gradient_places(GradContext& g, std::int64_t axis) {
  g.set(0, g.apply("scatter_elements", {full_of(g, g.in_type(0), 0), g.out(1), g.dout(0)}, {{"axis", axis}}));
}
void gradient_top_k(GradContext& g) { gradient_places(g, g.attrs<TopKAttrs>().axis); }
void gradient_sort(GradContext& g) { gradient_places(g, g.attrs<SortAttrs>().axis); }

// --- cumulative_sum ---

std::vector<TensorType> infer_cumulative_sum(const OpContext& context) {
  const DType type = context.in(0).dtype;
  if (type != DType::f32 && type != DType::bf16 && type != DType::i32 && type != DType::i64) {
    context.fail(fmt::format("x is {}, expected f32, bf16, i32 or i64", dtype_name(type)));
  }
  context.axis(context.attrs<CumulativeSumAttrs>().axis);
  return {context.in(0)};
}

void gradient_cumulative_sum(GradContext& g) {
  const auto& attrs = g.attrs<CumulativeSumAttrs>();
  g.set(0, g.apply("cumulative_sum", {g.dout()},
                   {{"axis", attrs.axis}, {"exclusive", attrs.exclusive}, {"reverse", !attrs.reverse}}));
}

OpDef arg(std::string name) {
  return {.name = std::move(name),
          .attrs = Attributes<ArgmaxAttrs>()
                       .integer("axis", &ArgmaxAttrs::axis, 0)
                       .flag("keepdims", &ArgmaxAttrs::keepdims, true)
                       .flag("select_last_index", &ArgmaxAttrs::select_last_index, false),
          .infer = infer_argmax,
          .cost = cost_each};
}

}  // namespace

std::vector<OpDef> sorting_ops() {
  return {
      arg("argmax"),
      arg("argmin"),  // a NaN counts as the smallest element here
      // x -> values, indices i64: the k largest or smallest elements along the axis; of equal ones the first.
      {.name = "top_k",
       .attrs = Attributes<TopKAttrs>()
                    .integer("k", &TopKAttrs::k, 1)
                    .integer("axis", &TopKAttrs::axis, -1)
                    .flag("largest", &TopKAttrs::largest, true)
                    .flag("sorted", &TopKAttrs::sorted, true),
       .infer = infer_top_k,
       .gradient = gradient_top_k,
       .cost = cost_each},
      // x -> values, indices i64, in ascending or descending order; equal elements keep theirs.
      {.name = "sort",
       .attrs = Attributes<SortAttrs>()
                    .integer("axis", &SortAttrs::axis, -1)
                    .flag("descending", &SortAttrs::descending, false),
       .infer = infer_sort,
       .gradient = gradient_sort,
       .cost = cost_each},
      {.name = "cumulative_sum",
       .attrs = Attributes<CumulativeSumAttrs>()
                    .integer("axis", &CumulativeSumAttrs::axis, 0)
                    .flag("exclusive", &CumulativeSumAttrs::exclusive, false)
                    .flag("reverse", &CumulativeSumAttrs::reverse, false),
       .infer = infer_cumulative_sum,
       .gradient = gradient_cumulative_sum,
       .cost = cost_each,
       .in_place = {{0, 0}}},
  };
}

}  // namespace trivet
