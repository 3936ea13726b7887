// Dropout and random tensors by counter-based draws (kernels/math/philox.h): the same as on the CPU. Bound: dropout
// reads x and writes y; the ten rounds of a counter make four elements, about as long as memory takes for them in f32.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/trigonometry.cuh"
#include "kernels/math/philox.h"

namespace trivet::kernels::cuda {

// Element e of sample s takes word e % 4 of counter e / 4.
struct Draws {
  std::uint64_t layer;  // key of seed and op
  const std::int64_t* step;
  const std::int64_t* samples;  // null: 0, 1, ...
  std::int64_t batch;
  std::int64_t size;   // elements of a sample
  std::int64_t parts;  // packs of a sample

  TRIVET_DEVICE std::uint64_t key() const { return math::mix_key(layer, static_cast<std::uint64_t>(*step)); }
};

inline constexpr int kDrawn = 8;  // elements of a thread

// The words of kDrawn elements from `first`, a multiple of kDrawn, on.
TRIVET_DEVICE void draw(const Draws& draws, std::uint64_t key, std::int64_t sample, std::int64_t first,
                        std::uint32_t (&words)[kDrawn]) {
  const auto s = static_cast<std::uint64_t>(draws.samples != nullptr ? draws.samples[sample] : sample);
  TRIVET_UNROLL
  for (int k = 0; k < kDrawn; k += 4) {
    const math::Philox4 r = math::philox(key, s, static_cast<std::uint64_t>((first + k) / 4));
    TRIVET_UNROLL
    for (int j = 0; j < 4; ++j) words[k + j] = r.v[j];
  }
}

// Kept elements are scaled, others become 0. y may be x.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    dropout_kernel(const T* x, T* y, Draws draws, std::uint32_t last_kept, float scale, bool packed) {
  const std::uint64_t key = draws.key();
  for (std::int64_t i = global_thread(); i < draws.batch * draws.parts; i += global_threads()) {
    const Quotient at = divide(i, draws.parts);
    const std::int64_t first = at.rest * kDrawn;
    const std::int64_t begin = at.quotient * draws.size + first;
    std::uint32_t words[kDrawn];
    draw(draws, key, at.quotient, first, words);
    if (packed) {
      float v[kDrawn];
      load_floats(x + begin, v);
      TRIVET_UNROLL
      for (int k = 0; k < kDrawn; ++k) v[k] = words[k] <= last_kept ? v[k] * scale : 0.0f;
      store_floats(y + begin, v);
    } else {
      TRIVET_UNROLL
      for (int k = 0; k < kDrawn; ++k) {
        if (first + k < draws.size)
          y[begin + k] = narrow<T>(words[k] <= last_kept ? widen(x[begin + k]) * scale : 0.0f);
      }
    }
  }
}

// Uniform: a + b u. Normal: a + b z by Box and Muller, with the pairs of trivet/kernels/attrs_random.h.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    draw_kernel(T* y, Draws draws, float a, float b, bool normal, bool packed) {
  const std::uint64_t key = draws.key();
  for (std::int64_t i = global_thread(); i < draws.batch * draws.parts; i += global_threads()) {
    const Quotient at = divide(i, draws.parts);
    const std::int64_t first = at.rest * kDrawn;
    const std::int64_t begin = at.quotient * draws.size + first;
    std::uint32_t words[kDrawn];
    draw(draws, key, at.quotient, first, words);
    float v[kDrawn];
    TRIVET_UNROLL
    for (int k = 0; k < kDrawn; k += 2) {
      if (normal) {
        const float u = static_cast<float>((words[k] >> 8) + 1u) * 0x1p-24f;
        const float radius = b * sqrtf(-2.0f * logf(u));
        const float half_turns = static_cast<float>(words[k + 1] >> 8) * 0x1p-23f;
        v[k] = a + radius * cospif(half_turns);
        v[k + 1] = a + radius * sinpif(half_turns);
      } else {
        v[k] = a + b * (static_cast<float>(words[k] >> 8) * 0x1p-24f);
        v[k + 1] = a + b * (static_cast<float>(words[k + 1] >> 8) * 0x1p-24f);
      }
    }
    if (packed) {
      store_floats(y + begin, v);
    } else {
      TRIVET_UNROLL
      for (int k = 0; k < kDrawn; ++k) {
        if (first + k < draws.size) y[begin + k] = narrow<T>(v[k]);
      }
    }
  }
}

}  // namespace trivet::kernels::cuda
