// Attributes of the optimizer steps.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// How new bf16 parameters are rounded: to the nearest, or to one of the two neighbours at random, so that updates
// smaller than half of the last bit are kept on average. Draws are keyed by seed, op, the step and the element.
struct ParameterRounding {
  bool stochastic_rounding = false;
  std::int64_t seed = 0;
  std::int64_t op = 0;  // another number for each parameter
};

struct SgdAttrs : ParameterRounding {
  double momentum = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

struct AdamWAttrs : ParameterRounding {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

struct LionAttrs : ParameterRounding {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0;
};

struct AdafactorAttrs {
  double decay_rate = 0.8;  // the second moments keep 1 - step^-decay_rate
  double epsilon = 1e-30;   // added to squared gradients
  double clip_threshold = 1;
  double weight_decay = 0;
};

struct AverageAttrs {
  double decay = 0.999;
};

struct ClipScaleAttrs {
  double max_norm = 1;
};

struct LossScaleAttrs {
  double max_norm = 0;           // 0: gradients are not clipped
  std::int64_t interval = 2000;  // good steps after which the scale doubles
};

inline constexpr double kLeastLossScale = 1;
inline constexpr double kMostLossScale = 1 << 24;

}  // namespace trivet::kernels
