// Attributes of the element-wise ops.
#pragma once

#include <limits>

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// y = max(min_value, min(x, max_value)); NaN stays NaN.
struct ClampAttrs {
  double min_value = -std::numeric_limits<double>::infinity();
  double max_value = std::numeric_limits<double>::infinity();
};

// y = scale * x + shift.
struct AffineAttrs {
  double scale = 1;
  double shift = 0;
};

// none: x * Phi(x), with the normal distribution function Phi. tanh: the approximation
// x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2. Both from Hendrycks and Gimpel, "Gaussian Error Linear Units".
enum class GeluApproximation : std::int32_t { none, tanh };

struct GeluAttrs {
  GeluApproximation approximate = GeluApproximation::none;
};

// To an integer dtype: fractions are cut off, values outside of its range become its nearest end, NaN becomes 0.
// To bool: everything but 0 is true, NaN too.
struct CastAttrs {
  DType to = DType::f32;
};

}  // namespace trivet::kernels
