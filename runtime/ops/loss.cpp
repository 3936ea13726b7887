#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_loss.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::CrossEntropyAttrs;
using kernels::TopKAttrs;

// Checks logits f32 (N, C) and labels i32 or i64 (N); gives the type f32 (N) of the loss.
TensorType check_rows(const OpContext& context) {
  require_f32(context, 0, "logits");
  const TensorType& logits = context.in(0);
  const TensorType& labels = context.in(1);
  if (logits.rank() != 2) context.fail(fmt::format("logits have rank {}, expected 2: (N, C)", logits.rank()));
  context.require(logits.dim(1) > 0, "logits have no classes");
  if (labels.dtype != DType::i32 && labels.dtype != DType::i64) {
    context.fail(fmt::format("labels are {}, expected i32 or i64", dtype_name(labels.dtype)));
  }
  if (labels.shape != Shape{logits.dim(0)}) {
    context.fail(
        fmt::format("labels have shape {}, expected {}", to_string(labels.shape), to_string(Shape{logits.dim(0)})));
  }
  return {DType::f32, labels.shape};
}

TensorType check_cross_entropy(const OpContext& context) {
  const double smoothing = context.attrs<CrossEntropyAttrs>().label_smoothing;
  if (!(smoothing >= 0 && smoothing < 1)) {
    context.fail(fmt::format("attribute 'label_smoothing' is {}, expected at least 0 and less than 1", smoothing));
  }
  return check_rows(context);
}

std::vector<TensorType> infer_cross_entropy(const OpContext& context) { return {check_cross_entropy(context)}; }

std::vector<TensorType> infer_cross_entropy_backward(const OpContext& context) {
  require_type(context, 2, "dloss", check_cross_entropy(context));
  return {context.in(0)};
}

std::vector<TensorType> infer_softmax_cross_entropy(const OpContext& context) {
  const TensorType loss = check_cross_entropy(context);
  require_type(context, 2, "dloss", loss);
  return {loss, context.in(0)};
}

std::vector<TensorType> infer_top_k(const OpContext& context) {
  check_rows(context);
  if (context.attrs<TopKAttrs>().k < 1) {
    context.fail(fmt::format("attribute 'k' is {}, expected at least 1", context.attrs<TopKAttrs>().k));
  }
  return {{DType::f32, {}}};
}

// Operations per logit, counted from the formulas (an exponential counts as one).
template <int kPerElement>
Cost logit_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

void cross_entropy_gradient(GradContext& context) {
  context.set(
      0, context.apply("cross_entropy_backward", {context.in(0), context.in(1), context.dout()}, context.attrs_list()));
}

AttrSchema cross_entropy_attributes() {
  return Attributes<CrossEntropyAttrs>()
      .integer("ignore_index", &CrossEntropyAttrs::ignore_index, -100)
      .number("label_smoothing", &CrossEntropyAttrs::label_smoothing, 0);
}

}  // namespace

// Labels are checked where data enters: one outside [0, C) that is not ignore_index gives NaN in its row.
std::vector<OpDef> loss_ops() {
  return {
      // (logits, labels) -> loss of each row, not yet averaged.
      {.name = "cross_entropy",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = cross_entropy_attributes(),
       .infer = infer_cross_entropy,
       .gradient = cross_entropy_gradient,
       .cost = logit_cost<4>},
      // (logits, labels, dloss) -> dlogits = (softmax(logits) - target) * dloss, row by row.
      {.name = "cross_entropy_backward",
       .min_inputs = 3,
       .max_inputs = 3,
       .attrs = cross_entropy_attributes(),
       .infer = infer_cross_entropy_backward,
       .cost = logit_cost<6>,
       .in_place = {{0, 0}}},
      // (logits, labels, dloss) -> (loss, dlogits): both of the above in one reading of the logits.
      {.name = "softmax_cross_entropy",
       .min_inputs = 3,
       .max_inputs = 3,
       .attrs = cross_entropy_attributes(),
       .infer = infer_softmax_cross_entropy,
       .cost = logit_cost<6>,
       .in_place = {{1, 0}}},
      // (logits, labels) -> how many rows have their label among the k largest logits. Among equal logits the one of
      // lower index ranks first. Rows with NaN count as wrong. Exact up to 2^24 rows.
      {.name = "top_k_correct",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<TopKAttrs>().integer("k", &TopKAttrs::k, 1),
       .infer = infer_top_k,
       .cost = logit_cost<2>},
  };
}

}  // namespace trivet
