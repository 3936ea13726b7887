#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_shape.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ConcatAttrs;
using kernels::DepthAttrs;
using kernels::ExpandAttrs;
using kernels::FullAttrs;
using kernels::IntList;
using kernels::ReshapeAttrs;
using kernels::SliceAttrs;
using kernels::SliceBackwardAttrs;
using kernels::SliceRange;
using kernels::SplitAttrs;
using kernels::TransposeAttrs;
using kernels::TriluAttrs;

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

// --- slice ---

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
  for (int i = 0; i < attrs.steps.n; ++i) context.require(attrs.steps.v[i] != 0, "a step is 0");
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

// --- concat, split ---

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

// More parts would only be a mistake in a file.
constexpr std::int64_t kMostParts = 4096;

std::vector<std::int64_t> part_sizes(const OpContext& context, std::int64_t size) {
  const auto& attrs = context.attrs<SplitAttrs>();
  if (attrs.sizes.n == 0) {
    const std::int64_t count = attrs.num_outputs;
    if (count < 1 || count > kMostParts) {
      context.fail(fmt::format("num_outputs is {}, expected 1 to {}", count, kMostParts), "or give sizes");
    }
    const std::int64_t part = (size + count - 1) / count;
    std::vector<std::int64_t> sizes;
    for (std::int64_t i = 0; i < count; ++i) sizes.push_back(std::clamp(size - i * part, std::int64_t{0}, part));
    return sizes;
  }
  if (attrs.num_outputs != 0 && attrs.num_outputs != attrs.sizes.n) {
    context.fail(fmt::format("num_outputs is {}, but there are {} sizes", attrs.num_outputs, attrs.sizes.n));
  }
  std::int64_t rest = size;
  for (int i = 0; i < attrs.sizes.n; ++i) {
    if (attrs.sizes.v[i] < 0 || attrs.sizes.v[i] > rest) rest = -1;
    if (rest >= 0) rest -= attrs.sizes.v[i];
  }
  if (rest != 0) {
    context.fail(fmt::format("sizes {} do not add up to {}", to_string(to_shape(attrs.sizes)), size));
  }
  return to_shape(attrs.sizes);
}

std::vector<TensorType> infer_split(const OpContext& context) {
  const int axis = context.axis(context.attrs<SplitAttrs>().axis);
  std::vector<TensorType> parts;
  for (const std::int64_t size : part_sizes(context, context.in(0).dim(axis))) {
    parts.push_back(context.in(0));
    parts.back().shape[static_cast<std::size_t>(axis)] = size;
  }
  return parts;
}

void gradient_split(GradContext& g) {
  const auto& attrs = g.attrs<SplitAttrs>();
  const std::int64_t count = attrs.sizes.n == 0 ? attrs.num_outputs : attrs.sizes.n;
  std::vector<ValueId> parts;
  for (int i = 0; i < count; ++i) {
    parts.push_back(g.dout(i) == kNoValue ? full_of(g, g.out_type(i), 0) : g.dout(i));
  }
  g.set(0, g.apply("concat", parts, {{"axis", attrs.axis}}));
}

// --- space_to_depth, depth_to_space ---

// Images are (N, H, W, C), where ONNX has (N, C, H, W).
std::int64_t block_of(const OpContext& context) {
  const std::int64_t block = context.attrs<DepthAttrs>().blocksize;
  if (context.in(0).rank() != 4)
    context.fail(fmt::format("x has rank {}, expected (N, H, W, C)", context.in(0).rank()));
  constexpr std::int64_t kMostBlock = 1 << 20;  // its square is far from overflow
  if (block < 1 || block > kMostBlock)
    context.fail(fmt::format("blocksize is {}, expected 1 to {}", block, kMostBlock));
  return block;
}

std::vector<TensorType> infer_space_to_depth(const OpContext& context) {
  const std::int64_t block = block_of(context);
  const Shape& x = context.in(0).shape;
  if (x[1] % block != 0 || x[2] % block != 0) {
    context.fail(fmt::format("height {} and width {} are not multiples of blocksize {}", x[1], x[2], block));
  }
  return {{context.in(0).dtype, {x[0], x[1] / block, x[2] / block, x[3] * block * block}}};
}

std::vector<TensorType> infer_depth_to_space(const OpContext& context) {
  const std::int64_t block = block_of(context);
  const Shape& x = context.in(0).shape;
  if (x[3] % (block * block) != 0) {
    context.fail(fmt::format("{} channels are not a multiple of blocksize squared, {}", x[3], block * block));
  }
  return {{context.in(0).dtype, {x[0], x[1] * block, x[2] * block, x[3] / (block * block)}}};
}

void gradient_space_to_depth(GradContext& g) { g.set(0, g.apply("depth_to_space", {g.dout()}, g.attrs_list())); }
void gradient_depth_to_space(GradContext& g) { g.set(0, g.apply("space_to_depth", {g.dout()}, g.attrs_list())); }

// --- trilu ---

std::vector<TensorType> infer_trilu(const OpContext& context) {
  if (context.in(0).rank() < 2) {
    context.fail(fmt::format("x has rank {}, expected 2 or more: matrices", context.in(0).rank()));
  }
  return {context.in(0)};
}

void gradient_trilu(GradContext& g) { g.set(0, g.apply("trilu", {g.dout()}, g.attrs_list())); }

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
  const auto& attrs = context.attrs<FullAttrs>();
  require_representable(context, attrs.value, attrs.dtype);
  return {{attrs.dtype, size_list(context, attrs.shape)}};
}

OpDef depth_op(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&)) {
  return {.name = std::move(name),
          .attrs = Attributes<DepthAttrs>()
                       .integer("blocksize", &DepthAttrs::blocksize, 1)
                       .choice("mode", &DepthAttrs::mode, {"DCR", "CRD"}),
          .infer = infer,
          .gradient = gradient,
          .cost = moves_only};
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
      {.name = "split",
       .attrs = Attributes<SplitAttrs>()
                    .integer("axis", &SplitAttrs::axis, 0)
                    .integers("sizes", &SplitAttrs::sizes, {})
                    .integer("num_outputs", &SplitAttrs::num_outputs, 0),
       .infer = infer_split,
       .gradient = gradient_split,
       .cost = moves_only},
      depth_op("space_to_depth", infer_space_to_depth, gradient_space_to_depth),
      depth_op("depth_to_space", infer_depth_to_space, gradient_depth_to_space),
      {.name = "trilu",
       .attrs = Attributes<TriluAttrs>().flag("upper", &TriluAttrs::upper, true).integer("k", &TriluAttrs::k, 0),
       .infer = infer_trilu,
       .gradient = gradient_trilu,
       .cost = moves_only,
       .in_place = {{0, 0}}},
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
                    .number("value", &FullAttrs::value, 0.0)
                    .choice("dtype", &FullAttrs::dtype, dtype_choices()),
       .infer = infer_full,
       .cost = moves_only},
  };
}

}  // namespace trivet
