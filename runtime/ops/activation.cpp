// Activation functions. Those of training loops have a backward op with inputs (dy, saved), where saved is the forward
// output y for relu, tanh and sigmoid and the forward input x for the others.
#include "runtime/ops/elementwise_rules.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_activation.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::CeluAttrs;
using kernels::EluAttrs;
using kernels::GeluAttrs;
using kernels::HardSigmoidAttrs;
using kernels::LeakyReluAttrs;
using kernels::SeluAttrs;
using kernels::ThresholdedReluAttrs;

// --- shape rules ---

// e^(x / alpha) must not grow on the side that is bent.
std::vector<TensorType> infer_celu(const OpContext& context) {
  const double alpha = context.attrs<CeluAttrs>().alpha;
  if (!(alpha > 0)) context.fail(fmt::format("attribute 'alpha' is {}, expected more than 0", alpha));
  return infer_float(context);
}

std::vector<TensorType> infer_prelu(const OpContext& context) {
  require_compute_type(context, 0, "x");
  const TensorType &x = context.in(0), &slope = context.in(1);
  if (slope.dtype != x.dtype) {
    context.fail(fmt::format("slope is {}, expected {} as x is", dtype_name(slope.dtype), dtype_name(x.dtype)));
  }
  if (broadcast_shapes(context, x.shape, slope.shape) != x.shape) {
    context.fail(fmt::format("slope {} does not broadcast to x {}", to_string(slope.shape), to_string(x.shape)),
                 "one slope for each channel has the shape of x's last axis");
  }
  return {x};
}

// --- gradients ---

template <const char* kOp>
void saved_output(GradContext& g) {
  g.set(0, g.apply(kOp, {g.dout(), g.out()}));
}
template <const char* kOp>
void saved_input(GradContext& g) {
  g.set(0, g.apply(kOp, {g.dout(), g.in(0)}, g.attrs_list()));
}

constexpr char kReluBackward[] = "relu_backward";
constexpr char kTanhBackward[] = "tanh_backward";
constexpr char kSigmoidBackward[] = "sigmoid_backward";
constexpr char kSiluBackward[] = "silu_backward";
constexpr char kGeluBackward[] = "gelu_backward";
constexpr char kSoftplusBackward[] = "softplus_backward";
constexpr char kLeakyReluBackward[] = "leaky_relu_backward";
constexpr char kEluBackward[] = "elu_backward";
constexpr char kMishBackward[] = "mish_backward";
constexpr char kHardSwishBackward[] = "hard_swish_backward";

// alpha strictly between the limits, 0 at them and outside.
void gradient_hard_sigmoid(GradContext& g) {
  const ValueId none = constant_like_dout(g, 0);
  const ValueId inside = g.apply(
      "logical_and", {g.apply("greater", {g.out(), none}), g.apply("less", {g.out(), constant_like_dout(g, 1)})});
  g.set(0, g.apply("where", {inside, scaled(g, g.dout(), g.attrs<HardSigmoidAttrs>().alpha), none}));
}

// 1 / (1 + |x|)^2
void gradient_softsign(GradContext& g) {
  const ValueId inverse = g.apply("reciprocal", {scaled(g, g.apply("abs", {g.in(0)}), 1, 1)});
  g.set(0, g.apply("mul", {g.dout(), g.apply("square", {inverse})}));
}

void gradient_selu(GradContext& g) {
  const auto& attrs = g.attrs<SeluAttrs>();
  const ValueId dx = g.apply("elu_backward", {g.dout(), g.in(0)}, {{"alpha", attrs.alpha}});
  g.set(0, scaled(g, dx, attrs.gamma));
}

// celu(x) = alpha elu(x / alpha)
void gradient_celu(GradContext& g) {
  const ValueId stretched = scaled(g, g.in(0), 1 / g.attrs<CeluAttrs>().alpha);
  g.set(0, g.apply("elu_backward", {g.dout(), stretched}, {{"alpha", 1.0}}));
}

void gradient_prelu(GradContext& g) {
  const ValueId none = constant_like_dout(g, 0);
  const ValueId negative = g.apply("less", {g.in(0), none});
  if (g.needs(0)) g.set(0, g.apply("where", {negative, g.apply("mul", {g.dout(), g.in(1)}), g.dout()}));
  if (g.needs(1)) {
    set_broadcast(g, 1, g.apply("where", {negative, g.apply("mul", {g.dout(), g.in(0)}), none}));
  }
}

void gradient_thresholded_relu(GradContext& g) {
  const ValueId limit = constant_like_dout(g, g.attrs<ThresholdedReluAttrs>().alpha);
  const ValueId passes = g.apply("greater", {g.in(0), limit});
  g.set(0, g.apply("where", {passes, g.dout(), constant_like_dout(g, 0)}));
}

// --- declarations ---

AttrSchema gelu_attributes() {
  return Attributes<GeluAttrs>().choice("approximate", &GeluAttrs::approximate, {"none", "tanh"});
}
AttrSchema leaky_relu_attributes() {
  return Attributes<LeakyReluAttrs>().number("alpha", &LeakyReluAttrs::alpha, LeakyReluAttrs{}.alpha);
}
AttrSchema elu_attributes() { return Attributes<EluAttrs>().number("alpha", &EluAttrs::alpha, EluAttrs{}.alpha); }

OpDef hard_sigmoid_op() {
  return with(Attributes<HardSigmoidAttrs>()
                  .number("alpha", &HardSigmoidAttrs::alpha, HardSigmoidAttrs{}.alpha)
                  .number("beta", &HardSigmoidAttrs::beta, HardSigmoidAttrs{}.beta),
              unary("hard_sigmoid", gradient_hard_sigmoid, per_element<4 * kSimple>));
}

OpDef selu_op() {
  return with(Attributes<SeluAttrs>()
                  .number("alpha", &SeluAttrs::alpha, SeluAttrs{}.alpha)
                  .number("gamma", &SeluAttrs::gamma, SeluAttrs{}.gamma),
              unary("selu", gradient_selu, per_element<kExp + 3 * kSimple>));
}

OpDef celu_op() {
  OpDef op = unary("celu", gradient_celu, per_element<kExp + 3 * kSimple>);
  op.infer = infer_celu;
  op.attrs = Attributes<CeluAttrs>().number("alpha", &CeluAttrs::alpha, CeluAttrs{}.alpha);
  return op;
}

OpDef thresholded_relu_op() {
  return with(
      Attributes<ThresholdedReluAttrs>().number("alpha", &ThresholdedReluAttrs::alpha, ThresholdedReluAttrs{}.alpha),
      unary("thresholded_relu", gradient_thresholded_relu));
}

}  // namespace

std::vector<OpDef> activation_ops() {
  return {
      unary("relu", saved_output<kReluBackward>),
      unary("tanh", saved_output<kTanhBackward>, per_element<kExp + 4 * kSimple>),
      unary("sigmoid", saved_output<kSigmoidBackward>, per_element<kExp + 3 * kSimple>),
      unary("silu", saved_input<kSiluBackward>, per_element<kExp + 4 * kSimple>),
      with(gelu_attributes(), unary("gelu", saved_input<kGeluBackward>, per_element<kErf + 11 * kSimple>)),
      hard_sigmoid_op(),
      unary("softplus", saved_input<kSoftplusBackward>, per_element<kExp + kLog + 6 * kSimple>),
      unary("softsign", gradient_softsign, per_element<3 * kSimple>),
      with(leaky_relu_attributes(), unary("leaky_relu", saved_input<kLeakyReluBackward>)),
      with(elu_attributes(), unary("elu", saved_input<kEluBackward>, per_element<kExp + 2 * kSimple>)),
      selu_op(),
      celu_op(),
      binary("prelu", infer_prelu, gradient_prelu),
      unary("mish", saved_input<kMishBackward>, per_element<kExp + 5 * kSimple>),
      unary("hard_swish", saved_input<kHardSwishBackward>, per_element<5 * kSimple>),
      thresholded_relu_op(),
      backward("relu_backward", per_element<kSimple>),
      backward("tanh_backward", per_element<3 * kSimple>),
      backward("sigmoid_backward", per_element<3 * kSimple>),
      backward("silu_backward", per_element<kExp + 8 * kSimple>),
      with(gelu_attributes(), backward("gelu_backward", per_element<kErf + kExp + 15 * kSimple>)),
      backward("softplus_backward", per_element<kExp + 4 * kSimple>),
      with(leaky_relu_attributes(), backward("leaky_relu_backward", per_element<kSimple>)),
      with(elu_attributes(), backward("elu_backward", per_element<kExp + 2 * kSimple>)),
      backward("mish_backward", per_element<kExp + 11 * kSimple>),
      backward("hard_swish_backward", per_element<4 * kSimple>),
  };
}

}  // namespace trivet
