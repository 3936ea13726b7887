#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/base/error.h"
#include "trivet/kernels/attrs_recurrent.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::Direction;
using kernels::GruAttrs;
using kernels::GruBackwardAttrs;
using kernels::LstmAttrs;
using kernels::LstmBackwardAttrs;

// Sizes of a layer: batch n, steps t, input features f, hidden units h, directions d; all values have the dtype of x.
struct Sizes {
  DType dtype;
  std::int64_t n, t, f, h, d;

  TensorType sequence(std::int64_t width) const { return {dtype, {n, t, d, width}}; }
  TensorType last() const { return {dtype, {n, d, h}}; }
};

std::int64_t directions(Direction direction) { return direction == Direction::bidirectional ? 2 : 1; }

void require_rank(const OpContext& context, int input, const char* name, int rank, const char* layout) {
  if (context.in(input).rank() != rank) {
    context.fail(fmt::format("{} has rank {}, expected {}: {}", name, context.in(input).rank(), rank, layout));
  }
}

void require_optional(const OpContext& context, int input, const char* name, const TensorType& type) {
  if (context.has(input)) require_type(context, input, name, type);
}

// Checks (x, w, r) of a layer with `gates` gates.
Sizes checked_sizes(const OpContext& context, Direction direction, std::int64_t gates) {
  require_compute_type(context, 0, "x");
  require_rank(context, 0, "x", 3, "(N, T, F)");
  require_rank(context, 2, "r", 3, "(directions, gates * H, H)");
  const TensorType& x = context.in(0);
  const Sizes s{x.dtype, x.dim(0), x.dim(1), x.dim(2), context.in(2).dim(2), directions(direction)};
  context.require(x.elements() > 0 && s.h > 0, "x and r must have elements");
  require_type(context, 1, "w", {x.dtype, {s.d, gates * s.h, s.f}});
  require_type(context, 2, "r", {x.dtype, {s.d, gates * s.h, s.h}});
  return s;
}

// And ([bias], [sequence_lens], [initial_h], [initial_c]).
Sizes checked_layer(const OpContext& context, Direction direction, std::int64_t gates) {
  const Sizes s = checked_sizes(context, direction, gates);
  require_optional(context, 3, "bias", {s.dtype, {s.d, 2 * gates * s.h}});
  require_optional(context, 4, "sequence_lens", {DType::i32, {s.n}});
  require_optional(context, 5, "initial_h", s.last());
  require_optional(context, 6, "initial_c", s.last());
  return s;
}

std::vector<TensorType> infer_lstm(const OpContext& context) {
  const auto& attrs = context.attrs<LstmAttrs>();
  const Sizes s = checked_layer(context, attrs.direction, 4);
  std::vector<TensorType> out = {s.sequence(s.h), s.last(), s.last()};
  if (attrs.training) {
    out.push_back(s.sequence(4 * s.h));
    out.push_back({DType::f32, s.sequence(s.h).shape});
  }
  return out;
}

std::int64_t saved_gates(const GruAttrs& attrs) { return attrs.linear_before_reset ? 4 : 3; }

std::vector<TensorType> infer_gru(const OpContext& context) {
  const auto& attrs = context.attrs<GruAttrs>();
  const Sizes s = checked_layer(context, attrs.direction, 3);
  std::vector<TensorType> out = {s.sequence(s.h), s.last()};
  if (attrs.training) out.push_back(s.sequence(saved_gates(attrs) * s.h));
  return out;
}

std::vector<TensorType> weight_gradients(const OpContext& context, const Sizes& s, std::int64_t gates) {
  return {context.in(1), context.in(2), {s.dtype, {s.d, 2 * gates * s.h}}};
}

std::vector<TensorType> infer_lstm_backward(const OpContext& context) {
  const auto& attrs = context.attrs<LstmBackwardAttrs>();
  const Sizes s = checked_sizes(context, attrs.direction, 4);
  require_type(context, 3, "y", s.sequence(s.h));
  require_type(context, 4, "gates", s.sequence(4 * s.h));
  require_type(context, 5, "cells", {DType::f32, s.sequence(s.h).shape});
  require_optional(context, 6, "sequence_lens", {DType::i32, {s.n}});
  require_optional(context, 7, "initial_h", s.last());
  require_optional(context, 8, "initial_c", s.last());
  require_optional(context, 9, "dy", s.sequence(s.h));
  require_optional(context, 10, "dy_h", s.last());
  require_optional(context, 11, "dy_c", s.last());
  std::vector<TensorType> out = weight_gradients(context, s, 4);
  out.insert(out.end(), {s.last(), s.last()});
  if (attrs.input_gradient) out.push_back(context.in(0));
  return out;
}

std::vector<TensorType> infer_gru_backward(const OpContext& context) {
  const auto& attrs = context.attrs<GruBackwardAttrs>();
  const Sizes s = checked_sizes(context, attrs.direction, 3);
  require_type(context, 3, "y", s.sequence(s.h));
  require_type(context, 4, "gates", s.sequence((attrs.linear_before_reset ? 4 : 3) * s.h));
  require_optional(context, 5, "sequence_lens", {DType::i32, {s.n}});
  require_optional(context, 6, "initial_h", s.last());
  require_optional(context, 7, "dy", s.sequence(s.h));
  require_optional(context, 8, "dy_h", s.last());
  std::vector<TensorType> out = weight_gradients(context, s, 3);
  out.push_back(s.last());
  if (attrs.input_gradient) out.push_back(context.in(0));
  return out;
}

// Forward, 2 FLOPs for each weight and step, and about 30 for each unit's gates; backward, for r twice that and for w
// as much as gradients are wanted.
template <int kGates>
Cost forward_cost(const OpContext& context, std::span<const TensorType> out) {
  const double units = static_cast<double>(out[0].elements());
  const double depth = static_cast<double>(out[0].dim(3) + context.in(0).dim(2));
  return {.flops = units * (2 * kGates * depth + 30), .matrix = true};
}

template <int kGates, class A>
Cost backward_cost(const OpContext& context, std::span<const TensorType>) {
  const double units = static_cast<double>(context.in(3).elements());
  const double products = context.attrs<A>().input_gradient ? 2 : 1;
  const double depth =
      static_cast<double>(2 * context.in(3).dim(3)) + products * static_cast<double>(context.in(0).dim(2));
  return {.flops = units * (2 * kGates * depth + 40), .matrix = true};
}

void refuse_gradient(const GradContext& context, const char* op, int first_saved, std::size_t outputs) {
  if (outputs == static_cast<std::size_t>(first_saved)) {
    throw Error(ErrorCode::graph, fmt::format("{}: there is no gradient with training = false", op),
                "build the graph with training = true");
  }
  for (std::size_t i = static_cast<std::size_t>(first_saved); i < outputs; ++i) {
    if (context.dout(static_cast<int>(i)) != kNoValue) {
      throw Error(ErrorCode::graph, fmt::format("{}: output {} has no gradient, it is kept for the backward op", op, i),
                  "use y, y_h or y_c in the loss");
    }
  }
}

// Gives what the backward op returned, in the order (dw, dr, dbias, dinitial ..., [dx]), to the inputs (x, w, r, bias,
// sequence_lens, initial ...).
void set_gradients(GradContext& context, const std::vector<ValueId>& d, int initials) {
  const auto set = [&](int input, std::size_t i) {
    if (context.has(input) && context.needs(input)) context.set(input, d[i]);
  };
  for (int i = 0; i < 3; ++i) set(1 + i, static_cast<std::size_t>(i));
  for (int i = 0; i < initials; ++i) set(5 + i, static_cast<std::size_t>(3 + i));
  set(0, static_cast<std::size_t>(3 + initials));
}

void lstm_gradient(GradContext& context) {
  const auto attrs = context.attrs<LstmAttrs>();
  refuse_gradient(context, "lstm", 3, attrs.training ? 5 : 3);
  const std::vector<ValueId> d = context.apply_all(
      "lstm_backward",
      {context.in(0), context.in(1), context.in(2), context.out(0), context.out(3), context.out(4), context.in(4),
       context.in(5), context.in(6), context.dout(0), context.dout(1), context.dout(2)},
      {context.attrs_list()[0], {"input_gradient", context.needs(0)}});
  set_gradients(context, d, 2);
}

void gru_gradient(GradContext& context) {
  const auto attrs = context.attrs<GruAttrs>();
  refuse_gradient(context, "gru", 2, attrs.training ? 3 : 2);
  const std::vector<ValueId> d =
      context.apply_all("gru_backward",
                        {context.in(0), context.in(1), context.in(2), context.out(0), context.out(2), context.in(4),
                         context.in(5), context.dout(0), context.dout(1)},
                        {context.attrs_list()[0],
                         {"linear_before_reset", attrs.linear_before_reset},
                         {"input_gradient", context.needs(0)}});
  set_gradients(context, d, 1);
}

const std::vector<std::string> kDirections = {"forward", "reverse", "bidirectional"};

AttrSchema lstm_attributes() {
  return Attributes<LstmAttrs>()
      .choice("direction", &LstmAttrs::direction, kDirections)
      .flag("training", &LstmAttrs::training, true);
}

AttrSchema gru_attributes() {
  return Attributes<GruAttrs>()
      .choice("direction", &GruAttrs::direction, kDirections)
      .flag("training", &GruAttrs::training, true)
      .flag("linear_before_reset", &GruAttrs::linear_before_reset, false);
}

}  // namespace

// ONNX's LSTM and GRU with its layout = 1 (batch first), its default activations and no peepholes. D is 2 for
// bidirectional layers and 1 otherwise; sequences are (N, T, D, H), last states (N, D, H). Values are all f32 or all
// bf16; sums are f32. Steps at or after a sample's sequence_lens are not taken: y is 0 there, and a reverse direction
// begins at the sample's last step.
std::vector<OpDef> recurrent_ops() {
  return {
      // (x (N, T, F), w (D, 4H, F), r (D, 4H, H), [bias (D, 8H)], [sequence_lens i32 (N)], [initial_h], [initial_c]) ->
      // (y, y_h, y_c) and, in training, (gates (N, T, D, 4H), cells f32). Gates in the order i, o, f, c; bias is that
      // of w, then that of r. Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000):
      // c' = f c + i g, h' = o tanh(c').
      {.name = "lstm",
       .min_inputs = 3,
       .max_inputs = 7,
       .attrs = lstm_attributes(),
       .infer = infer_lstm,
       .gradient = lstm_gradient,
       .cost = forward_cost<4>},
      // (x, w, r, y, gates, cells, [sequence_lens], [initial_h], [initial_c], [dy], [dy_h], [dy_c]) -> (dw, dr, dbias,
      // dinitial_h, dinitial_c) and, with input_gradient, dx.
      {.name = "lstm_backward",
       .min_inputs = 6,
       .max_inputs = 12,
       .attrs = Attributes<LstmBackwardAttrs>()
                    .choice("direction", &LstmBackwardAttrs::direction, kDirections)
                    .flag("input_gradient", &LstmBackwardAttrs::input_gradient, true),
       .infer = infer_lstm_backward,
       .cost = backward_cost<4, LstmBackwardAttrs>},
      // (x, w (D, 3H, F), r (D, 3H, H), [bias (D, 6H)], [sequence_lens], [initial_h]) -> (y, y_h) and, in training,
      // gates: z, r, h and with linear_before_reset the candidate's recurrent sum. Cho et al., "Learning Phrase
      // Representations" (2014); h' = (1 - z) n + z h as in ONNX.
      {.name = "gru",
       .min_inputs = 3,
       .max_inputs = 6,
       .attrs = gru_attributes(),
       .infer = infer_gru,
       .gradient = gru_gradient,
       .cost = forward_cost<3>},
      // (x, w, r, y, gates, [sequence_lens], [initial_h], [dy], [dy_h]) -> (dw, dr, dbias, dinitial_h) and, with
      // input_gradient, dx.
      {.name = "gru_backward",
       .min_inputs = 5,
       .max_inputs = 9,
       .attrs = Attributes<GruBackwardAttrs>()
                    .choice("direction", &GruBackwardAttrs::direction, kDirections)
                    .flag("linear_before_reset", &GruBackwardAttrs::linear_before_reset, false)
                    .flag("input_gradient", &GruBackwardAttrs::input_gradient, true),
       .infer = infer_gru_backward,
       .cost = backward_cost<3, GruBackwardAttrs>},
  };
}

}  // namespace trivet
