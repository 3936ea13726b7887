// Attributes of the random ops.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// Element e of sample s at step t is kept if
//   philox(mix_key(mix_key(seed, op), t), s, e / 4).v[e % 4] < max(1, round((1 - rate) * 2^32))
// (kernels/math/philox.h), so a mask depends neither on the batch that a sample is in nor on the device.
struct DropoutAttrs {
  double rate = 0.5;      // probability to drop, in [0, 1)
  std::int64_t seed = 0;  // of the run
  std::int64_t op = 0;    // stable number of the layer, kept by passes that copy the node
};

}  // namespace trivet::kernels
