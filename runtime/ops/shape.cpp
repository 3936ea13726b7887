#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_shape.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ConcatAttrs;
using kernels::EmbeddingBackwardAttrs;
using kernels::ExpandAttrs;
using kernels::FullAttrs;
using kernels::IntList;
using kernels::PadAttrs;
using kernels::ReshapeAttrs;
using kernels::SliceAttrs;
using kernels::SliceBackwardAttrs;
using kernels::SliceRange;
using kernels::TransposeAttrs;

Shape to_shape(const IntList& list) { return Shape(list.v, list.v + list.n); }

Shape size_list(const OpContext& context, const IntList& list) {
  for (int i = 0; i < list.n; ++i) {
    if (list.v[i] < 0) context.fail(fmt::format("shape {} has a negative size", to_string(to_shape(list))));
  }
  return to_shape(list);
}

Cost moves_only(const OpContext&, std::span<const TensorType>) { return {}; }

// --- reshape ---

std::vector<TensorType> infer_reshape(const OpContext& context) {
  Shape shape = to_shape(context.attrs<ReshapeAttrs>().shape);
  const std::int64_t elements = context.in(0).elements();
  const auto unknown = std::find(shape.begin(), shape.end(), -1);
  if (unknown != shape.end()) *unknown = 1;
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t n) { return n < 0; })) {
    context.fail(fmt::format("shape {} has a negative size", to_string(to_shape(context.attrs<ReshapeAttrs>().shape))),
                 "only one size may be -1: whatever is left");
  }
  if (unknown != shape.end()) {
    const std::int64_t rest = element_count(shape);
    *unknown = rest > 0 && elements % rest == 0 ? elements / rest : 0;
  }
  if (element_count(shape) != elements || (unknown != shape.end() && elements == 0)) {
    context.fail(fmt::format("x has {} elements, which do not fit shape {}", elements,
                             to_string(to_shape(context.attrs<ReshapeAttrs>().shape))));
  }
  return {{context.in(0).dtype, shape}};
}

Cost cost_alias(const OpContext&, std::span<const TensorType>) { return {.flops = 0, .bytes = 0}; }

void gradient_reshape(GradContext& g) { g.set(0, g.apply("reshape", {g.dout()}, {{"shape", g.in_type(0).shape}})); }

// --- transpose ---

std::vector<TensorType> infer_transpose(const OpContext& context) {
  const IntList& perm = context.attrs<TransposeAttrs>().perm;
  const Shape& in = context.in(0).shape;
  Shape out(in.rbegin(), in.rend());
  if (perm.n != 0) {
    std::vector<std::int64_t> sorted(perm.v, perm.v + perm.n);
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (perm.n != context.in(0).rank() || sorted[i] != static_cast<std::int64_t>(i)) {
        context.fail(fmt::format("perm is {}, expected each of the dimensions 0 to {} once",
                                 to_string(AttrValue(to_shape(perm))), in.size() - 1));
      }
    }
    context.require(!in.empty(), "a scalar has no dimensions to permute");
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = in[static_cast<std::size_t>(perm.v[i])];
  }
  return {{context.in(0).dtype, out}};
}

void gradient_transpose(GradContext& g) {
  const IntList& perm = g.attrs<TransposeAttrs>().perm;
  std::vector<std::int64_t> inverse(static_cast<std::size_t>(perm.n));
  for (int i = 0; i < perm.n; ++i) inverse[static_cast<std::size_t>(perm.v[i])] = i;
  g.set(0, g.apply("transpose", {g.dout()}, {{"perm", inverse}}));
}

// --- slice, pad ---

// Axes of `count` list entries (the first ones if `axes` is empty), each at most once.
std::vector<int> listed_axes(const OpContext& context, const IntList& axes, int count, int rank) {
  if (axes.n != 0 && axes.n != count) {
    context.fail(fmt::format("there are {} axes, expected {}", axes.n, count));
  }
  std::vector<int> result;
  for (int i = 0; i < count; ++i) {
    const std::int64_t axis = axes.n == 0 ? i : axes.v[i];
    if (axis < -rank || axis >= rank) context.fail(fmt::format("axis {} is outside of rank {}", axis, rank));
    result.push_back(static_cast<int>(axis < 0 ? axis + rank : axis));
    if (std::count(result.begin(), result.end(), result.back()) > 1) {
      context.fail(fmt::format("axis {} is given twice", result.back()));
    }
  }
  return result;
}

Shape sliced_shape(const OpContext& context, const SliceAttrs& attrs, const Shape& shape) {
  if (shape.size() > kMaxRank)
    context.fail(fmt::format("rank {} is not supported, at most {}", shape.size(), kMaxRank));
  if (attrs.starts.n != attrs.ends.n) {
    context.fail(fmt::format("there are {} starts and {} ends", attrs.starts.n, attrs.ends.n));
  }
  listed_axes(context, attrs.axes, attrs.starts.n, static_cast<int>(shape.size()));
  if (attrs.steps.n != 0 && attrs.steps.n != attrs.starts.n) {
    context.fail(fmt::format("there are {} steps, expected {}", attrs.steps.n, attrs.starts.n));
  }
  for (int i = 0; i < attrs.steps.n; ++i) {
    if (attrs.steps.v[i] < 1)
      context.fail(fmt::format("step {} is not supported, expected at least 1", attrs.steps.v[i]));
  }
  SliceRange ranges[kMaxRank];
  slice_ranges(attrs, static_cast<int>(shape.size()), shape.data(), ranges);
  Shape out;
  for (std::size_t d = 0; d < shape.size(); ++d) out.push_back(ranges[d].count);
  return out;
}

std::vector<TensorType> infer_slice(const OpContext& context) {
  return {{context.in(0).dtype, sliced_shape(context, context.attrs<SliceAttrs>(), context.in(0).shape)}};
}

std::vector<TensorType> infer_slice_backward(const OpContext& context) {
  const auto& attrs = context.attrs<SliceBackwardAttrs>();
  const Shape whole = size_list(context, attrs.input_shape);
  const Shape part = sliced_shape(context, attrs, whole);
  if (context.in(0).shape != part) {
    context.fail(fmt::format("dy has shape {}, a slice of {} has {}", to_string(context.in(0).shape), to_string(whole),
                             to_string(part)));
  }
  return {{context.in(0).dtype, whole}};
}

void gradient_slice(GradContext& g) {
  Attrs attrs = g.attrs_list();
  attrs.emplace_back("input_shape", g.in_type(0).shape);
  g.set(0, g.apply("slice_backward", {g.dout()}, std::move(attrs)));
}

template <class S>
Attributes<S> slice_attributes() {
  return Attributes<S>()
      .integers("starts", &S::starts, {}, true)
      .integers("ends", &S::ends, {}, true)
      .integers("axes", &S::axes, {})
      .integers("steps", &S::steps, {});
}

void require_representable(const OpContext& context, double value) {
  const auto within = [&](double low, double high) {
    return value >= low && value <= high && value == std::trunc(value);
  };
  const DType type = context.in(0).dtype;
  const bool good = type == DType::i32   ? within(-2147483648.0, 2147483647.0)
                    : type == DType::i64 ? within(-0x1p53, 0x1p53)
                    : type == DType::u8  ? within(0, 255)
                                         : true;
  if (!good) context.fail(fmt::format("value {} is not exact in {}", value, dtype_name(type)));
}

std::vector<TensorType> infer_pad(const OpContext& context) {
  const auto& attrs = context.attrs<PadAttrs>();
  const TensorType& x = context.in(0);
  if (x.dtype == DType::f64 || x.dtype == DType::boolean) {
    context.fail(fmt::format("x is {}, expected f32, i32, i64 or u8", dtype_name(x.dtype)));
  }
  require_representable(context, attrs.value);
  if (attrs.pads.n % 2 != 0) {
    context.fail(fmt::format("pads has {} entries, expected two for each axis", attrs.pads.n),
                 "all pads before, then all pads after, as in ONNX");
  }
  const int count = attrs.pads.n / 2;
  const std::vector<int> axes = listed_axes(context, attrs.axes, count, x.rank());
  Shape shape = x.shape;
  for (int i = 0; i < count; ++i) {
    constexpr std::int64_t kMostPad = std::int64_t{1} << 40;  // keeps the sum far from overflow
    const std::int64_t before = attrs.pads.v[i];
    const std::int64_t after = attrs.pads.v[count + i];
    if (before < 0 || after < 0 || before > kMostPad || after > kMostPad) {
      context.fail(fmt::format("pads {} and {} of axis {} are not supported, expected 0 to {}", before, after,
                               axes[static_cast<std::size_t>(i)], kMostPad),
                   "use slice to cut elements off");
    }
    shape[static_cast<std::size_t>(axes[static_cast<std::size_t>(i)])] += before + after;
  }
  return {{x.dtype, shape}};
}

void gradient_pad(GradContext& g) {
  const auto& attrs = g.attrs<PadAttrs>();
  std::vector<std::int64_t> starts, ends, axes;
  for (int i = 0; i < attrs.pads.n / 2; ++i) {
    const std::int64_t axis = attrs.axes.n == 0 ? i : attrs.axes.v[i];
    starts.push_back(attrs.pads.v[i]);
    ends.push_back(attrs.pads.v[i] + g.in_type(0).dim(static_cast<int>(axis)));
    axes.push_back(axis);
  }
  g.set(0, g.apply("slice", {g.dout()}, {{"starts", starts}, {"ends", ends}, {"axes", axes}}));
}

// --- concat ---

std::vector<TensorType> infer_concat(const OpContext& context) {
  const int axis = context.axis(context.attrs<ConcatAttrs>().axis);
  TensorType out = context.in(0);
  for (int i = 1; i < context.num_inputs(); ++i) {
    context.require(context.has(i), fmt::format("input {} is absent", i));
    TensorType expected = context.in(0);
    if (context.in(i).rank() == out.rank()) expected.shape[static_cast<std::size_t>(axis)] = context.in(i).dim(axis);
    if (context.in(i) != expected) {
      context.fail(fmt::format("input {} is {}, which does not fit {} along axis {}", i, to_string(context.in(i)),
                               to_string(context.in(0)), axis),
                   "dtype and all other dimensions must be equal");
    }
    out.shape[static_cast<std::size_t>(axis)] += context.in(i).dim(axis);
  }
  return {out};
}

void gradient_concat(GradContext& g) {
  const std::int64_t given = g.attrs<ConcatAttrs>().axis;
  const int axis = static_cast<int>(given < 0 ? given + g.out_type().rank() : given);
  std::int64_t begin = 0;
  for (int i = 0; g.has(i); ++i) {
    const std::int64_t end = begin + g.in_type(i).dim(axis);
    if (g.needs(i)) {
      g.set(i, g.apply("slice", {g.dout()},
                       {{"starts", Shape{begin}}, {"ends", Shape{end}}, {"axes", Shape{std::int64_t{axis}}}}));
    }
    begin = end;
  }
}

// --- embedding ---

void require_ids(const OpContext& context, int input) {
  const DType type = context.in(input).dtype;
  if (type != DType::i32 && type != DType::i64) {
    context.fail(fmt::format("the ids are {}, expected i32 or i64", dtype_name(type)));
  }
}

Shape embedded_shape(const Shape& ids, std::int64_t width) {
  Shape shape = ids;
  shape.push_back(width);
  return shape;
}

std::vector<TensorType> infer_embedding(const OpContext& context) {
  require_f32(context, 0, "the table");
  require_ids(context, 1);
  const TensorType& table = context.in(0);
  context.require(table.rank() == 2 && table.dim(0) > 0, "the table is not of shape (V, D) with V > 0");
  return {{DType::f32, embedded_shape(context.in(1).shape, table.dim(1))}};
}

std::vector<TensorType> infer_embedding_backward(const OpContext& context) {
  require_f32(context, 0, "dy");
  require_ids(context, 1);
  const std::int64_t rows = context.attrs<EmbeddingBackwardAttrs>().rows;
  if (rows < 1) context.fail(fmt::format("rows is {}, expected the number of rows of the table", rows));
  const TensorType& dy = context.in(0);
  context.require(dy.rank() > 0, "dy is a scalar, expected the ids' dimensions and the table's width");
  require_type(context, 0, "dy", {DType::f32, embedded_shape(context.in(1).shape, dy.dim(-1))});
  return {{DType::f32, {rows, dy.dim(-1)}}};
}

// Reads only the rows that the ids name.
Cost cost_embedding(const OpContext& context, std::span<const TensorType> out) {
  return {.flops = 0, .bytes = static_cast<double>(context.in(1).bytes() + 2 * out[0].bytes())};
}

Cost cost_embedding_backward(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.in(0).elements())};
}

void gradient_embedding(GradContext& g) {
  if (g.needs(0)) g.set(0, g.apply("embedding_backward", {g.dout(), g.in(1)}, {{"rows", g.in_type(0).dim(0)}}));
}

// --- expand, full ---

std::vector<TensorType> infer_expand(const OpContext& context) {
  const Shape shape = size_list(context, context.attrs<ExpandAttrs>().shape);
  const Shape& in = context.in(0).shape;
  bool fits = in.size() <= shape.size();
  for (std::size_t i = 0; fits && i < in.size(); ++i) {
    fits = in[in.size() - 1 - i] == 1 || in[in.size() - 1 - i] == shape[shape.size() - 1 - i];
  }
  if (!fits) {
    context.fail(fmt::format("{} does not broadcast to {}", to_string(in), to_string(shape)),
                 "aligned at the last dimension, sizes must be equal or 1 in x");
  }
  return {{context.in(0).dtype, shape}};
}

void gradient_expand(GradContext& g) { g.set(0, sum_to(g, g.dout(), g.in_type(0))); }

std::vector<TensorType> infer_full(const OpContext& context) {
  return {{DType::f32, size_list(context, context.attrs<FullAttrs>().shape)}};
}

}  // namespace

std::vector<OpDef> shape_ops() {
  return {
      {.name = "reshape",
       .attrs = Attributes<ReshapeAttrs>().integers("shape", &ReshapeAttrs::shape, {}, true),
       .infer = infer_reshape,
       .gradient = gradient_reshape,
       .cost = cost_alias,
       .alias = true},
      {.name = "transpose",
       .attrs = Attributes<TransposeAttrs>().integers("perm", &TransposeAttrs::perm, {}),
       .infer = infer_transpose,
       .gradient = gradient_transpose,
       .cost = moves_only},
      {.name = "slice",
       .attrs = slice_attributes<SliceAttrs>(),
       .infer = infer_slice,
       .gradient = gradient_slice,
       .cost = moves_only},
      {.name = "slice_backward",
       .attrs =
           slice_attributes<SliceBackwardAttrs>().integers("input_shape", &SliceBackwardAttrs::input_shape, {}, true),
       .infer = infer_slice_backward,
       .cost = moves_only},
      {.name = "concat",
       .max_inputs = kAnyInputs,
       .attrs = Attributes<ConcatAttrs>().integer("axis", &ConcatAttrs::axis, 0),
       .infer = infer_concat,
       .gradient = gradient_concat,
       .cost = moves_only},
      {.name = "pad",
       .attrs = Attributes<PadAttrs>()
                    .integers("pads", &PadAttrs::pads, {}, true)
                    .integers("axes", &PadAttrs::axes, {})
                    .number("value", &PadAttrs::value, 0.0),
       .infer = infer_pad,
       .gradient = gradient_pad,
       .cost = moves_only},
      {.name = "embedding",
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_embedding,
       .gradient = gradient_embedding,
       .cost = cost_embedding},
      {.name = "embedding_backward",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<EmbeddingBackwardAttrs>().integer("rows", &EmbeddingBackwardAttrs::rows, 0),
       .infer = infer_embedding_backward,
       .cost = cost_embedding_backward},
      {.name = "expand",
       .attrs = Attributes<ExpandAttrs>().integers("shape", &ExpandAttrs::shape, {}, true),
       .infer = infer_expand,
       .gradient = gradient_expand,
       .cost = moves_only},
      {.name = "full",
       .min_inputs = 0,
       .max_inputs = 0,
       .attrs = Attributes<FullAttrs>()
                    .integers("shape", &FullAttrs::shape, {}, true)
                    .number("value", &FullAttrs::value, 0.0),
       .infer = infer_full,
       .cost = moves_only},
  };
}

}  // namespace trivet
