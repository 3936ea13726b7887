// Activation functions and their backward ops.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/map.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_activation.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// Beyond these x, the distribution functions in gelu and silu are 0 or 1 in float32; it makes them right at infinities,
// where their formulas say infinity times zero.
constexpr float kSaturated = 128.0f;

// From below only: at plus infinity x times 1 is right.
template <float (*F)(float)>
TRIVET_INLINE float saturated(float x) {
  return F(x < -kSaturated ? -kSaturated : x);
}

template <float (*F)(float)>
TRIVET_INLINE float saturated_both(float x) {
  return F(clamp_f32(x, -kSaturated, kSaturated));
}

template <float (*F)(float)>
void run_unary(const KernelArgs& args) {
  map_float(args, [](float x) { return F(x); });
}

// dx = dy times the derivative.
template <float (*F)(float)>
void run_backward(const KernelArgs& args) {
  map_backward(args, [](float dy, float saved) { return dy * F(saved); });
}

// --- without attributes ---

TRIVET_INLINE float relu(float x) { return x <= 0.0f ? 0.0f : x; }

TRIVET_INLINE float silu(float x) { return x * sigmoid_f32(x); }
TRIVET_INLINE float silu_derivative(float x) {
  const float s = sigmoid_f32(x);
  return s + x * (s * (1.0f - s));
}

TRIVET_INLINE float tanh_derivative(float y) { return 1.0f - y * y; }
TRIVET_INLINE float sigmoid_derivative(float y) { return y * (1.0f - y); }

// At infinity 1, which the quotient of infinities is not.
TRIVET_INLINE float softsign(float x) {
  const float magnitude = abs_f32(x);
  return copysign_f32(magnitude == detail::kInfinity ? 1.0f : magnitude / (1.0f + magnitude), x);
}

// With e = e^x, tanh(log(1 + e)) = n / (n + 2) where n = e (e + 2). From 20 on it is 1.
struct MishParts {
  float exp;
  float n;
};
TRIVET_INLINE MishParts mish_parts(float x) {
  const float e = exp_f32(x > 20.0f ? 20.0f : x);
  return {e, e * (e + 2.0f)};
}
TRIVET_INLINE float mish(float x) {
  const MishParts p = mish_parts(x);
  return x * (p.n / (p.n + 2.0f));
}
TRIVET_INLINE float mish_derivative(float x) {
  const MishParts p = mish_parts(x);
  const float inverse = 1.0f / (p.n + 2.0f);
  return p.n * inverse + (4.0f * x * inverse) * (p.exp * (1.0f + p.exp) * inverse);
}

TRIVET_INLINE float hard_swish(float x) { return x * clamp_f32(x * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f); }

// Chosen, not multiplied: 0 times an infinite dy would be NaN.
void run_relu_backward(const KernelArgs& args) {
  map_backward(args, [](float dy, float y) { return y <= 0.0f ? 0.0f : dy; });
}
void run_hard_swish_backward(const KernelArgs& args) {
  map_backward(args, [](float dy, float x) {
    const float inside = x >= 3.0f ? dy : dy * (x * (1.0f / 3.0f) + 0.5f);
    return x <= -3.0f ? 0.0f : inside;
  });
}

// --- gelu ---

TRIVET_INLINE float gelu(float x) { return x * normal_cdf_f32(x); }
TRIVET_INLINE float gelu_derivative(float x) { return normal_cdf_f32(x) + x * normal_density_f32(x); }

// (1 + tanh(u)) / 2 is sigmoid(2 u), which keeps its relative accuracy for negative x.
constexpr float kGeluScale = 1.59576912160573071f;  // 2 sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;
TRIVET_INLINE float gelu_tanh(float x) { return x * sigmoid_f32(kGeluScale * (x + kGeluCubic * x * x * x)); }
TRIVET_INLINE float gelu_tanh_derivative(float x) {
  const float s = sigmoid_f32(kGeluScale * (x + kGeluCubic * x * x * x));
  return s + x * (s * (1.0f - s)) * (kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x));
}

void run_gelu(const KernelArgs& args) {
  if (args.attributes<GeluAttrs>().approximate == GeluApproximation::tanh) {
    run_unary<saturated<gelu_tanh>>(args);
  } else {
    run_unary<saturated<gelu>>(args);
  }
}

void run_gelu_backward(const KernelArgs& args) {
  if (args.attributes<GeluAttrs>().approximate == GeluApproximation::tanh) {
    run_backward<saturated_both<gelu_tanh_derivative>>(args);
  } else {
    run_backward<saturated_both<gelu_derivative>>(args);
  }
}

// --- with attributes ---

void run_hard_sigmoid(const KernelArgs& args) {
  const auto alpha = static_cast<float>(args.attributes<HardSigmoidAttrs>().alpha);
  const auto beta = static_cast<float>(args.attributes<HardSigmoidAttrs>().beta);
  map_float(args, [=](float x) { return clamp_f32(alpha * x + beta, 0.0f, 1.0f); });
}

void run_leaky_relu(const KernelArgs& args) {
  const auto alpha = static_cast<float>(args.attributes<LeakyReluAttrs>().alpha);
  map_float(args, [=](float x) { return x < 0.0f ? alpha * x : x; });
}
void run_leaky_relu_backward(const KernelArgs& args) {
  const auto alpha = static_cast<float>(args.attributes<LeakyReluAttrs>().alpha);
  map_backward(args, [=](float dy, float x) { return x < 0.0f ? alpha * dy : dy; });
}

// y = gain * (x > 0 ? x : alpha (e^(x / width) - 1)): elu, selu and celu.
void run_exponential_unit(const KernelArgs& args, float gain, float alpha, float inverse_width) {
  map_float(args, [=](float x) {
    const float bent = alpha * expm1_f32(x > 0.0f ? 0.0f : x * inverse_width);
    return gain * (x > 0.0f ? x : bent);
  });
}
void run_elu(const KernelArgs& args) {
  run_exponential_unit(args, 1.0f, static_cast<float>(args.attributes<EluAttrs>().alpha), 1.0f);
}
void run_selu(const KernelArgs& args) {
  const auto& attrs = args.attributes<SeluAttrs>();
  run_exponential_unit(args, static_cast<float>(attrs.gamma), static_cast<float>(attrs.alpha), 1.0f);
}
void run_celu(const KernelArgs& args) {
  const double alpha = args.attributes<CeluAttrs>().alpha;
  run_exponential_unit(args, 1.0f, static_cast<float>(alpha), static_cast<float>(1 / alpha));
}
void run_elu_backward(const KernelArgs& args) {
  const auto alpha = static_cast<float>(args.attributes<EluAttrs>().alpha);
  map_backward(args, [=](float dy, float x) {
    const float bent = dy * (alpha * exp_f32(x));
    return x > 0.0f ? dy : bent;
  });
}

// NaN is not below alpha, so it stays.
void run_thresholded_relu(const KernelArgs& args) {
  const auto alpha = static_cast<float>(args.attributes<ThresholdedReluAttrs>().alpha);
  map_float(args, [=](float x) { return x <= alpha ? 0.0f : x; });
}

// (x, slope) with broadcasting.
void run_prelu(const KernelArgs& args) {
  map_float_binary(args, [](float x, float slope) { return x < 0.0f ? slope * x : x; });
}

constexpr KernelEntry kTable[] = {
    {"tanh", one_compute_type, run_unary<tanh_f32>},
    {"sigmoid", one_compute_type, run_unary<sigmoid_f32>},
    {"relu", one_compute_type, run_unary<relu>},
    {"gelu", one_compute_type, run_gelu},
    {"silu", one_compute_type, run_unary<saturated<silu>>},
    {"hard_sigmoid", one_compute_type, run_hard_sigmoid},
    {"softplus", one_compute_type, run_unary<softplus_f32>},
    {"softsign", one_compute_type, run_unary<softsign>},
    {"leaky_relu", one_compute_type, run_leaky_relu},
    {"elu", one_compute_type, run_elu},
    {"selu", one_compute_type, run_selu},
    {"celu", one_compute_type, run_celu},
    {"prelu", one_compute_type, run_prelu},
    {"mish", one_compute_type, run_unary<saturated<mish>>},
    {"hard_swish", one_compute_type, run_unary<saturated<hard_swish>>},
    {"thresholded_relu", one_compute_type, run_thresholded_relu},
    {"relu_backward", one_compute_type, run_relu_backward},
    {"tanh_backward", one_compute_type, run_backward<tanh_derivative>},
    {"sigmoid_backward", one_compute_type, run_backward<sigmoid_derivative>},
    {"silu_backward", one_compute_type, run_backward<saturated_both<silu_derivative>>},
    {"gelu_backward", one_compute_type, run_gelu_backward},
    {"softplus_backward", one_compute_type, run_backward<sigmoid_f32>},
    {"leaky_relu_backward", one_compute_type, run_leaky_relu_backward},
    {"elu_backward", one_compute_type, run_elu_backward},
    {"mish_backward", one_compute_type, run_backward<saturated_both<mish_derivative>>},
    {"hard_swish_backward", one_compute_type, run_hard_swish_backward},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> activation_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
