// Attributes of the normalization ops. `epsilon` is added to the variance, or to the mean square.
#pragma once

#include "trivet/kernels/attrs_matrix.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels {

// `activation` is applied to the result, after the residual is added to it.
struct BatchNormAttrs {
  double epsilon = 1e-5;
  Activation activation = Activation::none;
};

struct BatchNormTrainAttrs {
  double epsilon = 1e-5;
  double momentum = 0.1;  // weight of this batch in the running mean and variance
  Activation activation = Activation::none;
};

struct BatchNormBackwardAttrs {
  Activation activation = Activation::none;
  bool residual = false;  // also give the residual's gradient, which differs from dy if there is an activation
};

// Normalizes over the axes from `axis` on, as ONNX LayerNormalization and RMSNormalization do; negative counts from the
// end.
struct LayerNormAttrs {
  std::int64_t axis = -1;
  double epsilon = 1e-5;
};

struct LayerNormBackwardAttrs {
  std::int64_t axis = -1;
};

struct GroupNormAttrs {
  std::int64_t num_groups = 1;  // divides the number of channels
  double epsilon = 1e-5;
};

struct GroupNormBackwardAttrs {
  std::int64_t num_groups = 1;
};

struct InstanceNormAttrs {
  double epsilon = 1e-5;
};

struct SoftmaxAttrs {
  std::int64_t axis = -1;  // negative counts from the end
};

}  // namespace trivet::kernels
