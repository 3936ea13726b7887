// Rotary position embedding. Bound: x read once and y written once; a thread turns the same pairs of all heads, so that
// an angle is computed once.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

// Where angles come from: tables, or pair i of `half` turns by base^(-i / half) for each position.
struct RotaryAngles {
  std::int64_t half;
  std::int64_t steps;
  const std::int64_t* positions;  // null: rows of the tables by sample and step
  bool positions_of_samples;      // (B, T), not (T)
  const float* cosines;           // null: computed
  const float* sines;
  std::int64_t rows;  // of the tables
  double log_base;
  float sign;  // -1 turns back

  TRIVET_DEVICE std::int64_t position(std::int64_t b, std::int64_t t) const {
    const std::int64_t at = b * steps + t;
    return positions == nullptr ? at : positions[positions_of_samples ? at : t];
  }
  // In double up to the fraction of a turn: the error of the angle is below 1e-7 up to 10^8 turns.
  TRIVET_DEVICE void of_pair(std::int64_t position, std::int64_t i, float& cosine, float& sine) const {
    if (cosines != nullptr) {
      const bool inside = position >= 0 && position < rows;
      cosine = inside ? cosines[position * half + i] : not_a_number();
      sine = sign * (inside ? sines[position * half + i] : not_a_number());
      return;
    }
    const double frequency = exp(-log_base * static_cast<double>(i) / static_cast<double>(half));
    const double half_turns = static_cast<double>(position) * frequency * 0.31830988618379067;
    const auto rest = static_cast<float>(half_turns - 2 * rint(half_turns * 0.5));
    cosine = cospif(rest);
    sine = sign * sinpif(rest);
  }
};

struct RotarySizes {
  std::int64_t batch, heads, steps, width;
  bool interleaved;
};

// N pairs of all heads of one position. y may be x.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    rotary_kernel(const T* x, T* y, const __grid_constant__ RotaryAngles angles, RotarySizes z, std::int64_t items) {
  for (std::int64_t item = global_thread(); item < items; item += global_threads()) {
    const Quotient at = divide(item, angles.half / N);
    const Quotient sample = divide(at.quotient, z.steps);
    const std::int64_t first = at.rest * N;
    const std::int64_t position = angles.position(sample.quotient, sample.rest);
    float cosine[N], sine[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) angles.of_pair(position, first + k, cosine[k], sine[k]);
    TRIVET_NO_UNROLL
    for (std::int64_t h = 0; h < z.heads; ++h) {
      const std::int64_t row = ((sample.quotient * z.heads + h) * z.steps + sample.rest) * z.width;
      float a[N], b[N];
      if (z.interleaved) {
        float both[2 * N];
        if constexpr (N == 1) {  // rows may have an odd width
          both[0] = widen(x[row + 2 * first]);
          both[1] = widen(x[row + 2 * first + 1]);
        } else {
          load_floats(x + row + 2 * first, both);
        }
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) {
          a[k] = both[2 * k] * cosine[k] - both[2 * k + 1] * sine[k];
          b[k] = both[2 * k + 1] * cosine[k] + both[2 * k] * sine[k];
        }
        if constexpr (N == 1) {
          y[row + 2 * first] = narrow<T>(a[0]);
          y[row + 2 * first + 1] = narrow<T>(b[0]);
        } else {
          TRIVET_UNROLL
          for (int k = 0; k < N; ++k) {
            both[2 * k] = a[k];
            both[2 * k + 1] = b[k];
          }
          store_floats(y + row + 2 * first, both);
        }
      } else {
        float left[N], right[N];
        load_floats(x + row + first, left);
        load_floats(x + row + angles.half + first, right);
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) {
          a[k] = left[k] * cosine[k] - right[k] * sine[k];
          b[k] = right[k] * cosine[k] + left[k] * sine[k];
        }
        store_floats(y + row + first, a);
        store_floats(y + row + angles.half + first, b);
      }
    }
  }
}

// Elements of each row from `first` on, which are not turned.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    rotary_rest_kernel(const T* x, T* y, std::int64_t first, std::int64_t width, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += global_threads()) {
    const Quotient at = divide(i, width - first);
    const std::int64_t element = at.quotient * width + first + at.rest;
    y[element] = x[element];
  }
}

}  // namespace trivet::kernels::cuda
