// Activation functions and their backward ops.
#include "kernels/cuda/families.h"
#include "kernels/cuda/map.cuh"
#include "trivet/kernels/attrs_activation.h"

namespace trivet::kernels::cuda {
namespace {

// ---- parts ----

TRIVET_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
TRIVET_DEVICE float normal_density(float x) { return 0.398942280401432678f * expf(-0.5f * x * x); }

// Beyond these x the distribution functions in gelu, silu and the like are 0 or 1 in float32. It makes them right at
// infinities, where their formulas say infinity times zero. From below only where x times 1 is right above.
TRIVET_DEVICE float bounded_below(float x) { return x < -128.0f ? -128.0f : x; }
TRIVET_DEVICE float bounded(float x) { return limited(x, -128.0f, 128.0f); }

// 2 sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh(u / 2)) / 2 is sigmoid(u), which keeps its accuracy for negative x.
TRIVET_DEVICE float gelu_argument(float x) { return 1.59576912160573071f * (x + 0.044715f * x * x * x); }

// With e = e^x, tanh(log(1 + e)) = n / (n + 2) where n = e (e + 2). From 20 on it is 1.
struct MishParts {
  float e;
  float n;
  TRIVET_DEVICE explicit MishParts(float x) : e(expf(x > 20.0f ? 20.0f : x)), n(e * (e + 2.0f)) {}
};

// ---- forward ----

struct Tanh {
  TRIVET_DEVICE float operator()(float x) const { return tanhf(x); }
};
struct Sigmoid {
  TRIVET_DEVICE float operator()(float x) const { return sigmoid(x); }
};
struct Relu {
  TRIVET_DEVICE float operator()(float x) const { return x <= 0.0f ? 0.0f : x; }
};
struct Gelu {
  TRIVET_DEVICE float operator()(float given) const {
    const float x = bounded_below(given);
    return x * normcdff(x);
  }
};
struct GeluTanh {
  TRIVET_DEVICE float operator()(float given) const {
    const float x = bounded_below(given);
    return x * sigmoid(gelu_argument(x));
  }
};
struct Silu {
  TRIVET_DEVICE float operator()(float given) const {
    const float x = bounded_below(given);
    return x * sigmoid(x);
  }
};
struct Softplus {
  TRIVET_DEVICE float operator()(float x) const { return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x))); }
};
// At infinity 1, which the quotient of infinities is not.
struct Softsign {
  TRIVET_DEVICE float operator()(float x) const {
    const float magnitude = fabsf(x);
    return copysignf(magnitude == infinity() ? 1.0f : magnitude / (1.0f + magnitude), x);
  }
};
struct Mish {
  TRIVET_DEVICE float operator()(float given) const {
    const float x = bounded_below(given);
    const MishParts p(x);
    return x * (p.n / (p.n + 2.0f));
  }
};
struct HardSwish {
  TRIVET_DEVICE float operator()(float given) const {
    const float x = bounded_below(given);
    return x * limited(x * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f);
  }
};
struct HardSigmoid {
  float alpha;
  float beta;
  TRIVET_DEVICE float operator()(float x) const { return limited(alpha * x + beta, 0.0f, 1.0f); }
};
struct LeakyRelu {
  float alpha;
  TRIVET_DEVICE float operator()(float x) const { return x < 0.0f ? alpha * x : x; }
};
// elu, selu and celu.
struct ExponentialUnit {
  float gain;
  float alpha;
  float inverse_width;
  TRIVET_DEVICE float operator()(float x) const { return gain * (x > 0.0f ? x : alpha * expm1f(x * inverse_width)); }
};
// NaN is not below alpha, so it stays.
struct ThresholdedRelu {
  float alpha;
  TRIVET_DEVICE float operator()(float x) const { return x <= alpha ? 0.0f : x; }
};
struct Prelu {
  TRIVET_DEVICE float operator()(float x, float slope) const { return x < 0.0f ? slope * x : x; }
};

// ---- backward: of dy and what the forward op saved ----

// Chosen, not multiplied: 0 times an infinite dy would be NaN.
struct ReluBackward {
  TRIVET_DEVICE float operator()(float dy, float y) const { return y <= 0.0f ? 0.0f : dy; }
};
struct TanhBackward {
  TRIVET_DEVICE float operator()(float dy, float y) const { return dy * (1.0f - y * y); }
};
struct SigmoidBackward {
  TRIVET_DEVICE float operator()(float dy, float y) const { return dy * (y * (1.0f - y)); }
};
struct SiluBackward {
  TRIVET_DEVICE float operator()(float dy, float given) const {
    const float x = bounded(given);
    const float s = sigmoid(x);
    return dy * (s + x * (s * (1.0f - s)));
  }
};
struct GeluBackward {
  TRIVET_DEVICE float operator()(float dy, float given) const {
    const float x = bounded(given);
    return dy * (normcdff(x) + x * normal_density(x));
  }
};
struct GeluTanhBackward {
  TRIVET_DEVICE float operator()(float dy, float given) const {
    const float x = bounded(given);
    const float s = sigmoid(gelu_argument(x));
    return dy * (s + x * (s * (1.0f - s)) * (1.59576912160573071f * (1.0f + 3.0f * 0.044715f * x * x)));
  }
};
struct SoftplusBackward {
  TRIVET_DEVICE float operator()(float dy, float x) const { return dy * sigmoid(x); }
};
struct LeakyReluBackward {
  float alpha;
  TRIVET_DEVICE float operator()(float dy, float x) const { return x < 0.0f ? alpha * dy : dy; }
};
struct EluBackward {
  float alpha;
  TRIVET_DEVICE float operator()(float dy, float x) const { return x > 0.0f ? dy : dy * (alpha * expf(x)); }
};
struct MishBackward {
  TRIVET_DEVICE float operator()(float dy, float given) const {
    const float x = bounded(given);
    const MishParts p(x);
    const float inverse = 1.0f / (p.n + 2.0f);
    return dy * (p.n * inverse + (4.0f * x * inverse) * (p.e * (1.0f + p.e) * inverse));
  }
};
struct HardSwishBackward {
  TRIVET_DEVICE float operator()(float dy, float x) const {
    const float inside = x >= 3.0f ? dy : dy * (x * (1.0f / 3.0f) + 0.5f);
    return x <= -3.0f ? 0.0f : inside;
  }
};

// ---- ops ----

template <class F>
void run_forward(const KernelArgs& args) {
  map_float(args, F{});
}
template <class F>
void run_backward(const KernelArgs& args) {
  map_float_pair(args, F{});
}

template <class Attrs>
float alpha_of(const KernelArgs& args) {
  return static_cast<float>(args.attributes<Attrs>().alpha);
}

void run_gelu(const KernelArgs& args) {
  const bool tanh = args.attributes<GeluAttrs>().approximate == GeluApproximation::tanh;
  tanh ? map_float(args, GeluTanh{}) : map_float(args, Gelu{});
}
void run_gelu_backward(const KernelArgs& args) {
  const bool tanh = args.attributes<GeluAttrs>().approximate == GeluApproximation::tanh;
  tanh ? map_float_pair(args, GeluTanhBackward{}) : map_float_pair(args, GeluBackward{});
}
void run_hard_sigmoid(const KernelArgs& args) {
  const auto& attrs = args.attributes<HardSigmoidAttrs>();
  map_float(args, HardSigmoid{static_cast<float>(attrs.alpha), static_cast<float>(attrs.beta)});
}
void run_leaky_relu(const KernelArgs& args) { map_float(args, LeakyRelu{alpha_of<LeakyReluAttrs>(args)}); }
void run_leaky_relu_backward(const KernelArgs& args) {
  map_float_pair(args, LeakyReluBackward{alpha_of<LeakyReluAttrs>(args)});
}
void run_elu(const KernelArgs& args) { map_float(args, ExponentialUnit{1.0f, alpha_of<EluAttrs>(args), 1.0f}); }
void run_elu_backward(const KernelArgs& args) { map_float_pair(args, EluBackward{alpha_of<EluAttrs>(args)}); }
void run_selu(const KernelArgs& args) {
  const auto gamma = static_cast<float>(args.attributes<SeluAttrs>().gamma);
  map_float(args, ExponentialUnit{gamma, alpha_of<SeluAttrs>(args), 1.0f});
}
void run_celu(const KernelArgs& args) {
  const double alpha = args.attributes<CeluAttrs>().alpha;
  map_float(args, ExponentialUnit{1.0f, static_cast<float>(alpha), static_cast<float>(1 / alpha)});
}
void run_thresholded_relu(const KernelArgs& args) {
  map_float(args, ThresholdedRelu{alpha_of<ThresholdedReluAttrs>(args)});
}
void run_prelu(const KernelArgs& args) { map_float_broadcast(args, Prelu{}); }

constexpr KernelEntry kTable[] = {
    {"tanh", one_compute_type, run_forward<Tanh>},
    {"sigmoid", one_compute_type, run_forward<Sigmoid>},
    {"relu", one_compute_type, run_forward<Relu>},
    {"gelu", one_compute_type, run_gelu},
    {"silu", one_compute_type, run_forward<Silu>},
    {"hard_sigmoid", one_compute_type, run_hard_sigmoid},
    {"softplus", one_compute_type, run_forward<Softplus>},
    {"softsign", one_compute_type, run_forward<Softsign>},
    {"leaky_relu", one_compute_type, run_leaky_relu},
    {"elu", one_compute_type, run_elu},
    {"selu", one_compute_type, run_selu},
    {"celu", one_compute_type, run_celu},
    {"prelu", one_compute_type, run_prelu},
    {"mish", one_compute_type, run_forward<Mish>},
    {"hard_swish", one_compute_type, run_forward<HardSwish>},
    {"thresholded_relu", one_compute_type, run_thresholded_relu},
    {"relu_backward", one_compute_type, run_backward<ReluBackward>},
    {"tanh_backward", one_compute_type, run_backward<TanhBackward>},
    {"sigmoid_backward", one_compute_type, run_backward<SigmoidBackward>},
    {"silu_backward", one_compute_type, run_backward<SiluBackward>},
    {"gelu_backward", one_compute_type, run_gelu_backward},
    {"softplus_backward", one_compute_type, run_backward<SoftplusBackward>},
    {"leaky_relu_backward", one_compute_type, run_leaky_relu_backward},
    {"elu_backward", one_compute_type, run_elu_backward},
    {"mish_backward", one_compute_type, run_backward<MishBackward>},
    {"hard_swish_backward", one_compute_type, run_backward<HardSwishBackward>},
};

}  // namespace

std::span<const KernelEntry> activation_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
