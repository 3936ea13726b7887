// Losses of classification: rows of logits against labels or probabilities.
#include "runtime/ops/loss.h"

#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/base/error.h"
#include "trivet/kernels/attrs_loss.h"

namespace trivet {

void refuse_gradient(const GradContext& context, int input, const char* op, const char* name) {
  if (context.has(input) && context.needs(input)) {
    throw Error(ErrorCode::graph, fmt::format("{}: there is no gradient with respect to {}", op, name),
                "only the predictions may depend on what is differentiated by");
  }
}

namespace {

using kernels::CrossEntropyAttrs;
using kernels::TopKCorrectAttrs;

// Checks logits f32 or bf16 (N, C); gives the type f32 (N) of the loss.
TensorType check_logits(const OpContext& context) {
  require_compute_type(context, 0, "logits");
  const TensorType& logits = context.in(0);
  if (logits.rank() != 2) context.fail(fmt::format("logits have rank {}, expected 2: (N, C)", logits.rank()));
  context.require(logits.dim(1) > 0, "logits have no classes");
  return {DType::f32, {logits.dim(0)}};
}

// The same, and labels i32 or i64 (N).
TensorType check_labelled(const OpContext& context) {
  const TensorType loss = check_logits(context);
  const TensorType& labels = context.in(1);
  if (labels.dtype != DType::i32 && labels.dtype != DType::i64) {
    context.fail(fmt::format("labels are {}, expected i32 or i64", dtype_name(labels.dtype)));
  }
  if (labels.shape != loss.shape) {
    context.fail(fmt::format("labels have shape {}, expected {}", to_string(labels.shape), to_string(loss.shape)));
  }
  return loss;
}

TensorType check_cross_entropy(const OpContext& context, int weights) {
  const double smoothing = context.attrs<CrossEntropyAttrs>().label_smoothing;
  if (!(smoothing >= 0 && smoothing < 1)) {
    context.fail(fmt::format("attribute 'label_smoothing' is {}, expected at least 0 and less than 1", smoothing));
  }
  const TensorType loss = check_labelled(context);
  if (context.has(weights)) require_type(context, weights, "weights", {DType::f32, {context.in(0).dim(1)}});
  return loss;
}

std::vector<TensorType> infer_cross_entropy(const OpContext& context) { return {check_cross_entropy(context, 2)}; }

// The gradient has the logits' type; dloss is f32.
std::vector<TensorType> infer_cross_entropy_backward(const OpContext& context) {
  require_type(context, 2, "dloss", check_cross_entropy(context, 3));
  return {context.in(0)};
}

std::vector<TensorType> infer_softmax_cross_entropy(const OpContext& context) {
  const TensorType loss = check_cross_entropy(context, 3);
  require_type(context, 2, "dloss", loss);
  return {loss, context.in(0)};
}

// logits: f32 or bf16; targets f32.
TensorType check_soft(const OpContext& context) {
  const TensorType loss = check_logits(context);
  require_type(context, 1, "targets", {DType::f32, context.in(0).shape});
  return loss;
}

std::vector<TensorType> infer_soft_cross_entropy(const OpContext& context) { return {check_soft(context)}; }

std::vector<TensorType> infer_soft_cross_entropy_backward(const OpContext& context) {
  require_type(context, 2, "dloss", check_soft(context));
  return {context.in(0)};
}

std::vector<TensorType> infer_top_k(const OpContext& context) {
  check_labelled(context);
  if (context.attrs<TopKCorrectAttrs>().k < 1) {
    context.fail(fmt::format("attribute 'k' is {}, expected at least 1", context.attrs<TopKCorrectAttrs>().k));
  }
  return {{DType::f32, {}}};
}

// Operations per logit, counted from the formulas (an exponential counts as one).
template <int kPerElement>
Cost logit_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = kPerElement * static_cast<double>(context.in(0).elements())};
}

// With class weights the loss is computed a second time beside the gradient: a kernel of its own would save little.
void cross_entropy_gradient(GradContext& context) {
  refuse_gradient(context, 2, "cross_entropy", "the class weights");
  if (!context.needs(0)) return;
  const std::vector<ValueId> inputs = {context.in(0), context.in(1), context.dout()};
  if (context.has(2)) {
    context.set(0, context.apply_all("softmax_cross_entropy", {inputs[0], inputs[1], inputs[2], context.in(2)},
                                     context.attrs_list())[1]);
  } else {
    context.set(0, context.apply("cross_entropy_backward", inputs, context.attrs_list()));
  }
}

void soft_cross_entropy_gradient(GradContext& context) {
  refuse_gradient(context, 1, "soft_cross_entropy", "the targets");
  if (!context.needs(0)) return;
  context.set(0, context.apply("soft_cross_entropy_backward", {context.in(0), context.in(1), context.dout()}));
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
      // (logits, labels, weights?) -> loss of each row, not yet averaged: -sum of weights * target * log
      // softmax(logits)
      // with one weight for each class. A weighted mean divides by the sum of the labels' weights. ONNX
      // SoftmaxCrossEntropyLoss without reduction.
      {.name = "cross_entropy",
       .min_inputs = 2,
       .max_inputs = 3,
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
      // (logits, labels, dloss, weights?) -> (loss, dlogits): both of the above in one reading of the logits.
      {.name = "softmax_cross_entropy",
       .min_inputs = 3,
       .max_inputs = 4,
       .attrs = cross_entropy_attributes(),
       .infer = infer_softmax_cross_entropy,
       .cost = logit_cost<6>,
       .in_place = {{1, 0}}},
      // (logits, targets) -> loss of each row: -sum of targets * log softmax(logits). Targets need not sum to 1; where
      // one is 0, its logit may be -inf.
      {.name = "soft_cross_entropy",
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_soft_cross_entropy,
       .gradient = soft_cross_entropy_gradient,
       .cost = logit_cost<6>},
      // (logits, targets, dloss) -> dlogits = (softmax(logits) * sum of targets - targets) * dloss, row by row.
      {.name = "soft_cross_entropy_backward",
       .min_inputs = 3,
       .max_inputs = 3,
       .infer = infer_soft_cross_entropy_backward,
       .cost = logit_cost<7>,
       .in_place = {{0, 0}, {0, 1}}},
      // (logits, labels) -> how many rows have their label among the k largest logits. Among equal logits the one of
      // lower index ranks first. Rows with NaN count as wrong. Exact up to 2^24 rows.
      {.name = "top_k_correct",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<TopKCorrectAttrs>().integer("k", &TopKCorrectAttrs::k, 1),
       .infer = infer_top_k,
       .cost = logit_cost<2>},
  };
}

}  // namespace trivet
