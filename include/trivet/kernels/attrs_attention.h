// Attributes of attention and of rotary position embedding.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct AttentionAttrs {
  bool is_causal = false;  // query t sees keys 0 ... t
  double scale = 0;        // of the scores; 0: 1 / sqrt(D)
};

struct RotaryEmbeddingAttrs {
  bool interleaved = false;               // pairs are neighbours; otherwise element i and i + half
  std::int64_t rotary_embedding_dim = 0;  // the first so many elements of a head are turned; 0: all
  double base = 10000;                    // pair i of n turns by base^(-i / n) for each position
};

}  // namespace trivet::kernels
