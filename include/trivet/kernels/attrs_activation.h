// Attributes of the activation functions, named and meant as those of ONNX's operators.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// none: x * Phi(x), with the normal distribution function Phi. tanh: the approximation
// x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2. Both from Hendrycks and Gimpel, "Gaussian Error Linear Units".
enum class GeluApproximation : std::int32_t { none, tanh };

struct GeluAttrs {
  GeluApproximation approximate = GeluApproximation::none;
};

// y = max(0, min(1, alpha * x + beta)).
struct HardSigmoidAttrs {
  double alpha = 0.2;
  double beta = 0.5;
};

// y = x for x >= 0, alpha * x otherwise.
struct LeakyReluAttrs {
  double alpha = 0.01;
};

// y = x for x > 0, alpha * (e^x - 1) otherwise. Clevert et al., "Fast and Accurate Deep Network Learning by
// Exponential Linear Units" (2016).
struct EluAttrs {
  double alpha = 1;
};

// y = gamma * elu(x, alpha). Klambauer et al., "Self-Normalizing Neural Networks" (2017).
struct SeluAttrs {
  double alpha = 1.67326319217681884765625;
  double gamma = 1.05070102214813232421875;
};

// y = x for x > 0, alpha * (e^(x / alpha) - 1) otherwise; alpha > 0. Barron, "Continuously Differentiable Exponential
// Linear Units" (2017).
struct CeluAttrs {
  double alpha = 1;
};

// y = x for x > alpha, 0 otherwise; NaN stays NaN.
struct ThresholdedReluAttrs {
  double alpha = 1;
};

}  // namespace trivet::kernels
