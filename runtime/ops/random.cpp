#include <fmt/format.h>

#include <cmath>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_random.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::DrawAttrs;
using kernels::DropoutAttrs;
using kernels::RandomNormalAttrs;
using kernels::RandomUniformAttrs;

std::vector<TensorType> infer_dropout(const OpContext& context) {
  require_compute_type(context, 0, "x");
  context.require(context.in(0).rank() >= 1, "x is a scalar, expected a first axis of samples");
  require_type(context, 1, "step", {DType::i64, {}});
  require_type(context, 2, "sample", {DType::i64, {context.in(0).dim(0)}});
  const double rate = context.attrs<DropoutAttrs>().rate;
  if (!(rate >= 0 && rate < 1)) {
    context.fail(fmt::format("attribute 'rate' is {}, expected at least 0 and less than 1", rate));
  }
  return {context.in(0)};
}

// Only the multiplication counts as floating point; the draws are integer work.
Cost dropout_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.in(0).elements())};
}

// The mask is drawn again instead of being saved.
void dropout_gradient(GradContext& context) {
  context.set(0,
              context.apply("dropout_backward", {context.dout(), context.in(1), context.in(2)}, context.attrs_list()));
}

OpDef dropout_op(const char* name, void (*gradient)(GradContext&)) {
  return {.name = name,
          .min_inputs = 3,
          .max_inputs = 3,
          .attrs = Attributes<DropoutAttrs>()
                       .number("rate", &DropoutAttrs::rate, 0.5)
                       .integer("seed", &DropoutAttrs::seed, 0)
                       .integer("op", &DropoutAttrs::op, 0),
          .infer = infer_dropout,
          .gradient = gradient,
          .cost = dropout_cost,
          .in_place = {{0, 0}}};
}

// --- random tensors ---

void require_finite(const OpContext& context, const char* name, double value) {
  if (!std::isfinite(value)) context.fail(fmt::format("attribute '{}' is {}, expected a finite number", name, value));
}

std::vector<TensorType> infer_draw(const OpContext& context, const DrawAttrs& attrs) {
  const TensorType type{attrs.dtype, Shape(attrs.shape.v, attrs.shape.v + attrs.shape.n)};
  if (type.dtype != DType::f32 && type.dtype != DType::bf16) {
    context.fail(fmt::format("attribute 'dtype' is {}, expected f32 or bf16", dtype_name(type.dtype)));
  }
  context.require(type.rank() >= 1 && type.rank() <= kMaxRank,
                  fmt::format("attribute 'shape' has {} sizes, expected 1 to {}", type.rank(), kMaxRank));
  for (const std::int64_t size : type.shape) {
    if (size < 0) context.fail(fmt::format("attribute 'shape' has a size of {}, expected at least 0", size));
  }
  require_type(context, 0, "step", {DType::i64, {}});
  if (context.has(1)) require_type(context, 1, "sample", {DType::i64, {type.dim(0)}});
  return {type};
}

std::vector<TensorType> infer_random_uniform(const OpContext& context) {
  const auto& attrs = context.attrs<RandomUniformAttrs>();
  require_finite(context, "low", attrs.low);
  require_finite(context, "high", attrs.high);
  if (attrs.low > attrs.high) {
    context.fail(fmt::format("low is {}, high is {}, expected low <= high", attrs.low, attrs.high));
  }
  return infer_draw(context, attrs);
}

std::vector<TensorType> infer_random_normal(const OpContext& context) {
  const auto& attrs = context.attrs<RandomNormalAttrs>();
  require_finite(context, "mean", attrs.mean);
  require_finite(context, "scale", attrs.scale);
  if (attrs.scale < 0) context.fail(fmt::format("attribute 'scale' is {}, expected at least 0", attrs.scale));
  return infer_draw(context, attrs);
}

template <int kFlops>
Cost draw_cost(const OpContext&, std::span<const TensorType> out) {
  return {.flops = kFlops * static_cast<double>(out[0].elements())};
}

// The attributes that both have, named and meant as ONNX's, but for op.
template <class S>
Attributes<S> draw_attributes() {
  return Attributes<S>()
      .integers("shape", &S::shape, {}, true)
      .template choice<DType>("dtype", &S::dtype, dtype_choices())
      .integer("seed", &S::seed, 0)
      .integer("op", &S::op, 0);
}

OpDef random_uniform_op() {
  return {.name = "random_uniform",
          .min_inputs = 1,
          .max_inputs = 2,
          .attrs = draw_attributes<RandomUniformAttrs>()
                       .number("low", &RandomUniformAttrs::low, 0.0)
                       .number("high", &RandomUniformAttrs::high, 1.0),
          .infer = infer_random_uniform,
          .cost = draw_cost<2>};
}

OpDef random_normal_op() {
  return {.name = "random_normal",
          .min_inputs = 1,
          .max_inputs = 2,
          .attrs = draw_attributes<RandomNormalAttrs>()
                       .number("mean", &RandomNormalAttrs::mean, 0.0)
                       .number("scale", &RandomNormalAttrs::scale, 1.0),
          .infer = infer_random_normal,
          .cost = draw_cost<32>};
}

}  // namespace

// dropout: (x (B, ...), step, sample (B)) -> y, x and y f32 or bf16. Kept elements are scaled by 1 / (1 - rate),
// dropped ones are 0 even where x is not finite. Srivastava et al., "Dropout" (2014), section 10, in its inverted form.
// random_uniform, random_normal: (step, [sample (B)]) -> y of attribute `shape` (B, ...). Without samples, row i is
// sample i.
std::vector<OpDef> random_ops() {
  return {dropout_op("dropout", dropout_gradient), dropout_op("dropout_backward", nullptr), random_uniform_op(),
          random_normal_op()};
}

}  // namespace trivet
