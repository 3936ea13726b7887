// Attributes of the normalization ops.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct BatchNormAttrs {
  double epsilon = 1e-5;  // added to the variance
};

struct BatchNormTrainAttrs {
  double epsilon = 1e-5;
  double momentum = 0.1;  // weight of this batch in the running mean and variance
};

struct LayerNormAttrs {
  double epsilon = 1e-5;
};

struct SoftmaxAttrs {
  std::int64_t axis = -1;  // negative counts from the end
};

}  // namespace trivet::kernels
