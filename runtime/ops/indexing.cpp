// Ops that take indices. trivet/kernels/attrs_indexing.h has the rule for indices that are outside.
#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_indexing.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::EmbeddingBackwardAttrs;
using kernels::GatherAttrs;
using kernels::GatherBackwardAttrs;
using kernels::GatherNdAttrs;
using kernels::OneHotAttrs;
using kernels::ScatterElementsAttrs;
using kernels::ScatterNdAttrs;
using kernels::ScatterReduction;

// --- embedding ---

Shape embedded_shape(const Shape& ids, std::int64_t width) {
  Shape shape = ids;
  shape.push_back(width);
  return shape;
}

std::vector<TensorType> infer_embedding(const OpContext& context) {
  const TensorType& table = context.in(0);
  require_compute_type(context, 0, "the table");
  require_indices(context, 1, "the ids");
  context.require(table.rank() == 2 && table.dim(0) > 0, "the table is not of shape (V, D) with V > 0");
  return {{table.dtype, embedded_shape(context.in(1).shape, table.dim(1))}};
}

std::vector<TensorType> infer_embedding_backward(const OpContext& context) {
  require_compute_type(context, 0, "dy");
  require_indices(context, 1, "the ids");
  const std::int64_t rows = context.attrs<EmbeddingBackwardAttrs>().rows;
  if (rows < 1) context.fail(fmt::format("rows is {}, expected the number of rows of the table", rows));
  const TensorType& dy = context.in(0);
  context.require(dy.rank() > 0, "dy is a scalar, expected the ids' dimensions and the table's width");
  require_type(context, 0, "dy", {dy.dtype, embedded_shape(context.in(1).shape, dy.dim(-1))});
  return {{dy.dtype, {rows, dy.dim(-1)}}};
}

// Reads only what the indices name.
Cost cost_gather(const OpContext& context, std::span<const TensorType> out) {
  return {.flops = 0, .bytes = static_cast<double>(context.in(1).bytes() + 2 * out[0].bytes())};
}

Cost cost_sums(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.in(0).elements())};
}

void gradient_embedding(GradContext& g) {
  if (g.needs(0)) g.set(0, g.apply("embedding_backward", {g.dout(), g.in(1)}, {{"rows", g.in_type(0).dim(0)}}));
}

// --- gather ---

// `whole` with dimension `axis` replaced by those of the indices.
Shape gathered_shape(const Shape& whole, int axis, const Shape& indices) {
  Shape shape(whole.begin(), whole.begin() + axis);
  shape.insert(shape.end(), indices.begin(), indices.end());
  shape.insert(shape.end(), whole.begin() + axis + 1, whole.end());
  return shape;
}

std::vector<TensorType> infer_gather(const OpContext& context) {
  require_indices(context, 1, "the indices");
  const int axis = context.axis(context.attrs<GatherAttrs>().axis);
  return {{context.in(0).dtype, gathered_shape(context.in(0).shape, axis, context.in(1).shape)}};
}

std::vector<TensorType> infer_gather_backward(const OpContext& context) {
  require_compute_type(context, 0, "dy");
  require_indices(context, 1, "the indices");
  const auto& attrs = context.attrs<GatherBackwardAttrs>();
  if (attrs.size < 0) context.fail(fmt::format("size is {}, expected at least 0", attrs.size));
  const TensorType& dy = context.in(0);
  const Shape& indices = context.in(1).shape;
  const int rank = dy.rank() - context.in(1).rank() + 1;  // of the forward input
  if (rank < 1 || attrs.axis < -rank || attrs.axis >= rank) {
    context.fail(fmt::format("axis {} is outside of the forward input's rank {}", attrs.axis, rank));
  }
  const auto axis = static_cast<int>(attrs.axis < 0 ? attrs.axis + rank : attrs.axis);
  Shape whole(dy.shape.begin(), dy.shape.begin() + axis);
  whole.push_back(attrs.size);
  whole.insert(whole.end(), dy.shape.begin() + axis + context.in(1).rank(), dy.shape.end());
  require_type(context, 0, "dy", {dy.dtype, gathered_shape(whole, axis, indices)});
  return {{dy.dtype, whole}};
}

void gradient_gather(GradContext& g) {
  if (!g.needs(0)) return;
  const std::int64_t given = g.attrs<GatherAttrs>().axis;
  const std::int64_t axis = given < 0 ? given + g.in_type(0).rank() : given;
  const std::int64_t size = g.in_type(0).dim(static_cast<int>(axis));
  g.set(0, g.apply("gather_backward", {g.dout(), g.in(1)}, {{"axis", axis}, {"size", size}}));
}

// --- gather_elements, scatter_elements ---

// The indices lie over x: along `axis` they are free, along the others at most as many as x has.
void require_lines(const OpContext& context, int axis) {
  require_indices(context, 1, "the indices");
  const Shape& x = context.in(0).shape;
  const Shape& indices = context.in(1).shape;
  bool fits = x.size() == indices.size();
  for (std::size_t d = 0; fits && d < x.size(); ++d) fits = d == static_cast<std::size_t>(axis) || indices[d] <= x[d];
  if (!fits) {
    context.fail(fmt::format("indices of shape {} do not lie over {}", to_string(indices), to_string(x)),
                 fmt::format("the rank must be equal, and each size at most that of x, except along axis {}", axis));
  }
}

std::vector<TensorType> infer_gather_elements(const OpContext& context) {
  require_lines(context, context.axis(context.attrs<GatherAttrs>().axis));
  return {{context.in(0).dtype, context.in(1).shape}};
}

void require_reducible(const OpContext& context, ScatterReduction reduction) {
  const DType type = context.in(0).dtype;
  if (reduction == ScatterReduction::none || is_compute_type(type) || type == DType::i32 || type == DType::i64) {
    return;
  }
  context.fail(fmt::format("x is {}, expected f32, bf16, f16, i32 or i64", dtype_name(type)),
               "reduction none takes every dtype");
}

std::vector<TensorType> infer_scatter_elements(const OpContext& context) {
  const auto& attrs = context.attrs<ScatterElementsAttrs>();
  require_lines(context, context.axis(attrs.axis));
  require_reducible(context, attrs.reduction);
  require_type(context, 2, "the updates", {context.in(0).dtype, context.in(1).shape});
  return {context.in(0)};
}

// --- gather_nd, scatter_nd ---

// The shape of what the indices (.., K) take out of x: their own without K, then what K indices leave of x.
Shape nd_shape(const OpContext& context, std::int64_t batch_dims) {
  require_indices(context, 1, "the indices");
  const TensorType& x = context.in(0);
  const TensorType& indices = context.in(1);
  if (indices.rank() < 1) context.fail("the indices are a scalar, expected (.., K)");
  if (batch_dims < 0 || batch_dims >= indices.rank() || batch_dims > x.rank()) {
    context.fail(fmt::format("batch_dims {} does not fit ranks {} and {}", batch_dims, x.rank(), indices.rank()));
  }
  const auto batch = static_cast<std::size_t>(batch_dims);
  for (std::size_t d = 0; d < batch; ++d) {
    if (x.shape[d] != indices.shape[d]) {
      context.fail(fmt::format("batch dimension {} is {} and {}", d, x.shape[d], indices.shape[d]));
    }
  }
  const std::int64_t depth = indices.dim(-1);
  if (depth < 1 || depth > x.rank() - batch_dims) {
    context.fail(fmt::format("the indices' last dimension is {}, expected 1 to {}: dimensions of x to index", depth,
                             x.rank() - batch_dims));
  }
  Shape shape(indices.shape.begin(), indices.shape.end() - 1);
  shape.insert(shape.end(), x.shape.begin() + static_cast<std::ptrdiff_t>(batch_dims + depth), x.shape.end());
  return shape;
}

std::vector<TensorType> infer_gather_nd(const OpContext& context) {
  return {{context.in(0).dtype, nd_shape(context, context.attrs<GatherNdAttrs>().batch_dims)}};
}

std::vector<TensorType> infer_scatter_nd(const OpContext& context) {
  const auto& attrs = context.attrs<ScatterNdAttrs>();
  const Shape shape = nd_shape(context, attrs.batch_dims);
  require_reducible(context, attrs.reduction);
  require_type(context, 2, "the updates", {context.in(0).dtype, shape});
  return {context.in(0)};
}

// --- gradients of the gathers and scatters that invert each other ---

const char* reduction_name(ScatterReduction reduction) {
  constexpr const char* kNames[] = {"none", "add", "mul", "max", "min"};
  return kNames[static_cast<int>(reduction)];
}

// A scatter node's way of addressing: both directions.
class Addressing {
 public:
  // `place`: "axis" or "batch_dims", with its value.
  Addressing(GradContext& g, std::string_view kind, std::pair<std::string, AttrValue> place)
      : g_(g), gather_("gather_" + std::string(kind)), scatter_("scatter_" + std::string(kind)), place_(place) {}

  ValueId gather(ValueId x) { return g_.apply(gather_, {x, g_.in(1)}, {place_, {"zero_outside", true}}); }
  ValueId scatter(ValueId x, ValueId updates, ScatterReduction reduction) {
    return g_.apply(scatter_, {x, g_.in(1), updates}, {place_, {"reduction", std::string(reduction_name(reduction))}});
  }

 private:
  GradContext& g_;
  std::string gather_;
  std::string scatter_;
  std::pair<std::string, AttrValue> place_;
};

void gradient_of_gather(GradContext& g, Addressing addressing) {
  if (!g.needs(0)) return;
  g.set(0, addressing.scatter(full_of(g, g.in_type(0), 0), g.dout(), ScatterReduction::add));
}

void gradient_gather_elements(GradContext& g) {
  gradient_of_gather(g, {g, "elements", {"axis", g.attrs<GatherAttrs>().axis}});
}
void gradient_gather_nd(GradContext& g) {
  gradient_of_gather(g, {g, "nd", {"batch_dims", g.attrs<GatherNdAttrs>().batch_dims}});
}

// The product's derivative by one factor is the product of all others: right where factors are 0, because zeros are
// counted and left out of the product.
void gradient_scatter_mul(GradContext& g, Addressing& addressing) {
  const ValueId zero = full_of(g, {DType::f32, {}}, 0);
  const ValueId one = full_of(g, {DType::f32, {}}, 1);
  ValueId is_zero[3], others[3];
  for (const int i : {0, 2}) {
    const ValueId factor = cast_to(g, g.in(i), DType::f32);
    const ValueId equal = g.apply("equal", {factor, zero});
    is_zero[i] = cast_to(g, equal, DType::f32);
    others[i] = g.apply("where", {equal, one, factor});
  }
  const ValueId product = addressing.scatter(others[0], others[2], ScatterReduction::mul);
  const ValueId zeros = addressing.scatter(is_zero[0], is_zero[2], ScatterReduction::add);
  const ValueId dout = cast_to(g, g.dout(), DType::f32);
  for (const int i : {0, 2}) {
    if (!g.needs(i)) continue;
    const auto here = [&](ValueId v) { return i == 0 ? v : addressing.gather(v); };
    const ValueId alone = g.apply("equal", {here(zeros), is_zero[i]});
    const ValueId rest = g.apply("where", {alone, g.apply("div", {here(product), others[i]}), zero});
    g.set(i, cast_to(g, g.apply("mul", {here(dout), rest}), g.in_type(i).dtype));
  }
}

// Shared equally among those that are equal to the extreme one.
void gradient_scatter_extreme(GradContext& g, Addressing& addressing) {
  const ValueId y = cast_to(g, g.out(), DType::f32);
  const auto chosen = [&](int input, ValueId extreme) {
    return cast_to(g, g.apply("equal", {cast_to(g, g.in(input), DType::f32), extreme}), DType::f32);
  };
  const ValueId mine = chosen(0, y);
  const ValueId updates = chosen(2, addressing.gather(y));
  const ValueId count = addressing.scatter(mine, updates, ScatterReduction::add);
  const ValueId share = g.apply("div", {cast_to(g, g.dout(), DType::f32), count});
  if (g.needs(0)) g.set(0, cast_to(g, g.apply("mul", {mine, share}), g.in_type(0).dtype));
  if (g.needs(2)) {
    g.set(2, cast_to(g, g.apply("mul", {updates, addressing.gather(share)}), g.in_type(2).dtype));
  }
}

void gradient_of_scatter(GradContext& g, ScatterReduction reduction, Addressing addressing) {
  switch (reduction) {
    case ScatterReduction::none:
      if (g.needs(0)) g.set(0, addressing.scatter(g.dout(), full_of(g, g.in_type(2), 0), ScatterReduction::none));
      if (g.needs(2)) g.set(2, addressing.gather(g.dout()));
      return;
    case ScatterReduction::add:
      if (g.needs(0)) g.set(0, g.dout());
      if (g.needs(2)) g.set(2, addressing.gather(g.dout()));
      return;
    case ScatterReduction::mul:
      return gradient_scatter_mul(g, addressing);
    case ScatterReduction::max:
    case ScatterReduction::min:
      return gradient_scatter_extreme(g, addressing);
  }
}

void gradient_scatter_elements(GradContext& g) {
  const auto& attrs = g.attrs<ScatterElementsAttrs>();
  gradient_of_scatter(g, attrs.reduction, {g, "elements", {"axis", attrs.axis}});
}
void gradient_scatter_nd(GradContext& g) {
  const auto& attrs = g.attrs<ScatterNdAttrs>();
  gradient_of_scatter(g, attrs.reduction, {g, "nd", {"batch_dims", attrs.batch_dims}});
}

// --- one_hot, non_zero ---

std::vector<TensorType> infer_one_hot(const OpContext& context) {
  require_indices(context, 0, "the indices");
  const auto& attrs = context.attrs<OneHotAttrs>();
  if (attrs.depth < 1) context.fail(fmt::format("depth is {}, expected at least 1", attrs.depth));
  require_representable(context, attrs.on_value, attrs.dtype);
  require_representable(context, attrs.off_value, attrs.dtype);
  Shape shape = context.in(0).shape;
  const auto rank = static_cast<std::int64_t>(shape.size()) + 1;
  if (attrs.axis < -rank || attrs.axis >= rank) {
    context.fail(fmt::format("axis {} is outside of the result's rank {}", attrs.axis, rank));
  }
  shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(attrs.axis < 0 ? attrs.axis + rank : attrs.axis),
               attrs.depth);
  return {{attrs.dtype, shape}};
}

std::vector<TensorType> infer_non_zero(const OpContext& context) {
  const TensorType& x = context.in(0);
  return {{DType::i64, {x.rank(), x.elements()}}, {DType::i64, {}}};
}

OpDef scatter(std::string name, AttrSchema attrs, decltype(OpDef::infer) infer, void (*gradient)(GradContext&)) {
  return {.name = std::move(name),
          .min_inputs = 3,
          .max_inputs = 3,
          .attrs = std::move(attrs),
          .infer = infer,
          .gradient = gradient,
          .cost = cost_sums,
          .in_place = {{0, 0}}};
}

AttrSchema gather_attributes() {
  return Attributes<GatherAttrs>()
      .integer("axis", &GatherAttrs::axis, 0)
      .flag("zero_outside", &GatherAttrs::zero_outside, false);
}

const std::vector<std::string> kReductions = {"none", "add", "mul", "max", "min"};

std::vector<OpDef> scatter_ops() {
  return {
      // (x, indices, updates) -> x with its elements at the indices replaced by, or joined with, the updates, in
      // their order: with reduction none the last of several updates of one element stays, and the gradient is that
      // of indices which do not repeat, as ONNX asks for.
      scatter("scatter_elements",
              Attributes<ScatterElementsAttrs>()
                  .integer("axis", &ScatterElementsAttrs::axis, 0)
                  .choice("reduction", &ScatterElementsAttrs::reduction, kReductions),
              infer_scatter_elements, gradient_scatter_elements),
      scatter("scatter_nd",
              Attributes<ScatterNdAttrs>()
                  .choice("reduction", &ScatterNdAttrs::reduction, kReductions)
                  .integer("batch_dims", &ScatterNdAttrs::batch_dims, 0),
              infer_scatter_nd, gradient_scatter_nd),
  };
}

}  // namespace

std::vector<OpDef> indexing_ops() {
  std::vector<OpDef> ops = {
      // (table (V, D), ids) -> (ids.., D).
      {.name = "embedding",
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_embedding,
       .gradient = gradient_embedding,
       .cost = cost_gather},
      // (dy (ids.., D), ids) -> (rows, D): the sum of dy over the places of each id.
      {.name = "embedding_backward",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<EmbeddingBackwardAttrs>().integer("rows", &EmbeddingBackwardAttrs::rows, 0),
       .infer = infer_embedding_backward,
       .cost = cost_sums},
      {.name = "gather",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = gather_attributes(),
       .infer = infer_gather,
       .gradient = gradient_gather,
       .cost = cost_gather},
      // (dy, indices) -> the sum of dy over the places of each index.
      {.name = "gather_backward",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<GatherBackwardAttrs>()
                    .integer("axis", &GatherBackwardAttrs::axis, 0)
                    .integer("size", &GatherBackwardAttrs::size, 0),
       .infer = infer_gather_backward,
       .cost = cost_sums},
      {.name = "gather_elements",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = gather_attributes(),
       .infer = infer_gather_elements,
       .gradient = gradient_gather_elements,
       .cost = cost_gather},
      {.name = "gather_nd",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<GatherNdAttrs>()
                    .integer("batch_dims", &GatherNdAttrs::batch_dims, 0)
                    .flag("zero_outside", &GatherNdAttrs::zero_outside, false),
       .infer = infer_gather_nd,
       .gradient = gradient_gather_nd,
       .cost = cost_gather},
      // Indices -> a new dimension `axis` of size `depth`, with on_value at the index.
      {.name = "one_hot",
       .attrs = Attributes<OneHotAttrs>()
                    .integer("depth", &OneHotAttrs::depth, 0)
                    .integer("axis", &OneHotAttrs::axis, -1)
                    .number("on_value", &OneHotAttrs::on_value, 1.0)
                    .number("off_value", &OneHotAttrs::off_value, 0.0)
                    .choice("dtype", &OneHotAttrs::dtype, dtype_choices()),
       .infer = infer_one_hot,
       .cost = moves_only},
      // x -> indices i64 (rank, elements), count i64: column i holds the index of the i-th element that is not 0, in
      // row-major order, for i < count. The other columns hold x's shape, which is outside of x, so gather_nd and
      // scatter_nd pass over them.
      {.name = "non_zero", .infer = infer_non_zero, .cost = moves_only},
  };
  for (OpDef& op : scatter_ops()) ops.push_back(std::move(op));
  return ops;
}

}  // namespace trivet
