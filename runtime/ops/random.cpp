#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_random.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::DropoutAttrs;

std::vector<TensorType> infer_dropout(const OpContext& context) {
  require_f32(context, 0, "x");
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

}  // namespace

// Both: (x (B, ...), step, sample (B)) -> y. Kept elements are scaled by 1 / (1 - rate), dropped ones are 0 even where
// x is not finite. Srivastava et al., "Dropout" (2014), section 10, in its inverted form.
std::vector<OpDef> random_ops() {
  return {dropout_op("dropout", dropout_gradient), dropout_op("dropout_backward", nullptr)};
}

}  // namespace trivet
