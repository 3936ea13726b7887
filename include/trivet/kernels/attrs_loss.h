// Attributes of the loss ops.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// Source: Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7, for label smoothing: the target
// is (1 - label_smoothing) * onehot(label) + label_smoothing / C.
struct CrossEntropyAttrs {
  std::int64_t ignore_index = -100;  // rows with this label have loss 0 and gradient 0
  double label_smoothing = 0;        // in [0, 1)
};

struct TopKCorrectAttrs {
  std::int64_t k = 1;
};

// Source: Huber, "Robust estimation of a location parameter" (1964): d^2 / 2 for |d| <= delta, and beyond it
// delta * (|d| - delta / 2).
struct HuberLossAttrs {
  double delta = 1;
};

}  // namespace trivet::kernels
