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

// fmod: the remainder has the sign of a, as in C. Otherwise that of b, as in Python, for integers only. An integer
// remainder by 0 is 0.
struct ModAttrs {
  bool fmod = false;
};

struct IsInfAttrs {
  bool detect_negative = true;
  bool detect_positive = true;
};

// To an integer dtype: fractions are cut off, values outside of its range become its nearest end, NaN becomes 0.
// To bool: everything but 0 is true, NaN too.
struct CastAttrs {
  DType to = DType::f32;
};

}  // namespace trivet::kernels
