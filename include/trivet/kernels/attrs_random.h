// Attributes of the random ops. Element e of sample s at step t depends on
//   v = philox(mix_key(mix_key(seed, op), t), s, e / 4).v        (kernels/math/philox.h)
// and so neither on the batch that a sample is in nor on the device.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

// Kept if v[e % 4] < max(1, round((1 - rate) * 2^32)).
struct DropoutAttrs {
  double rate = 0.5;      // probability to drop, in [0, 1)
  std::int64_t seed = 0;  // of the run
  std::int64_t op = 0;    // stable number of the layer, kept by passes that copy the node
};

// What random_uniform and random_normal draw: a tensor of `shape`, whose first dimension is the batch.
struct DrawAttrs {
  IntList shape;
  DType dtype = DType::f32;  // or bf16
  std::int64_t seed = 0;
  std::int64_t op = 0;
};

// low + (high - low) * u with u = floor(v[e % 4] / 2^8) / 2^24 in [0, 1). The sum may be rounded up to high.
struct RandomUniformAttrs : DrawAttrs {
  double low = 0;
  double high = 1;
};

// mean + scale * r * cos(a) for even e, mean + scale * r * sin(a) for odd e, where, with the words p = v[e % 4] of the
// even and q of the odd element of a pair,
//   r = sqrt(-2 log((floor(p / 2^8) + 1) / 2^24)),  a = 2 pi floor(q / 2^8) / 2^24.
// Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958).
struct RandomNormalAttrs : DrawAttrs {
  double mean = 0;
  double scale = 1;  // standard deviation
};

}  // namespace trivet::kernels
