#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_normalization.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::SoftmaxAttrs;

// x: f32 or bf16; y has the same.
std::vector<TensorType> infer_softmax(const OpContext& context) {
  require_compute_type(context, 0, "x");
  context.axis(context.attrs<SoftmaxAttrs>().axis);
  return {context.in(0)};
}

// dy and y: f32 or bf16, the same.
std::vector<TensorType> infer_softmax_backward(const OpContext& context) {
  require_compute_type(context, 1, "y");
  require_type(context, 0, "dy", context.in(1));
  context.axis(context.attrs<SoftmaxAttrs>().axis);
  return {context.in(1)};
}

// Operations per element of the first input, counted from the formulas (an exponential counts as one).
template <int kPerElement>
Cost element_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

void softmax_gradient(GradContext& context) {
  context.set(0, context.apply("softmax_backward", {context.dout(), context.out()}, context.attrs_list()));
}

void log_softmax_gradient(GradContext& context) {
  context.set(0, context.apply("log_softmax_backward", {context.dout(), context.out()}, context.attrs_list()));
}

AttrSchema softmax_attributes() { return Attributes<SoftmaxAttrs>().integer("axis", &SoftmaxAttrs::axis, -1); }

OpDef softmax_op(const char* name, void (*gradient)(GradContext&)) {
  return {.name = name,
          .attrs = softmax_attributes(),
          .infer = infer_softmax,
          .gradient = gradient,
          .cost = element_cost<5>,
          .in_place = {{0, 0}}};
}

OpDef softmax_backward_op(const char* name) {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .attrs = softmax_attributes(),
          .infer = infer_softmax_backward,
          .cost = element_cost<4>,
          .in_place = {{0, 0}, {0, 1}}};
}

}  // namespace

// A row that holds NaN or +inf, or -inf only, gives NaN.
std::vector<OpDef> softmax_ops() {
  return {
      softmax_op("softmax", softmax_gradient),
      softmax_backward_op("softmax_backward"),
      softmax_op("log_softmax", log_softmax_gradient),
      softmax_backward_op("log_softmax_backward"),
  };
}

}  // namespace trivet
