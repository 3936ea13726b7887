// Attributes of the optimizer steps.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct SgdAttrs {
  double momentum = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

struct AdamWAttrs {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

struct ClipScaleAttrs {
  double max_norm = 1;
};

}  // namespace trivet::kernels
