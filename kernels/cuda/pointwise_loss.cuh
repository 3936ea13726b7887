// Losses element by element: the mean over each sample. Bound: x and t read once; the gradient written once. Samples of
// many elements are cut into pieces that depend on the shape alone, and these are added up in their order.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

// ---- what differs between the losses: value and slope at a prediction x with target t and positive weight w ----

struct Squared {
  TRIVET_DEVICE float value(float x, float t, float) const { return (x - t) * (x - t); }
  TRIVET_DEVICE float slope(float x, float t, float) const { return 2.0f * (x - t); }
};

struct Absolute {
  TRIVET_DEVICE float value(float x, float t, float) const { return fabsf(x - t); }
  TRIVET_DEVICE float slope(float x, float t, float) const {
    const float d = x - t;
    return d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;  // NaN and 0 stay
  }
};

struct Huber {
  float delta;
  TRIVET_DEVICE float value(float x, float t, float) const {
    const float d = fabsf(x - t);
    return d > delta ? delta * (d - 0.5f * delta) : 0.5f * d * d;
  }
  TRIVET_DEVICE float slope(float x, float t, float) const { return limited(x - t, -delta, delta); }
};

struct Logistic {
  // -log sigmoid(x) is log(1 + e^-x): both terms are positive, nothing cancels.
  TRIVET_DEVICE float value(float x, float t, float w) const {
    const float tail = log1pf(expf(-fabsf(x)));
    const float of_positive = x < 0.0f ? tail - x : tail;
    const float of_negative = x < 0.0f ? tail : tail + x;
    return w * t * of_positive + (1.0f - t) * of_negative;
  }
  // Both sigmoids from one exponential, neither as 1 minus something near 1.
  TRIVET_DEVICE float slope(float x, float t, float w) const {
    const float e = expf(-fabsf(x));
    const float near_one = 1.0f / (1.0f + e);
    const float near_zero = e * near_one;
    const float of_positive = x < 0.0f ? near_one : near_zero;
    const float of_negative = x < 0.0f ? near_zero : near_one;
    return (1.0f - t) * of_negative - w * t * of_positive;
  }
};

// Positive weights: none, one for all, or one for each of the `last` elements of the last axis.
struct Weights {
  const float* v;
  std::int64_t last;  // 1: one for all

  // Of element i, counted through all samples.
  TRIVET_DEVICE float operator()(std::int64_t i) const {
    if (v == nullptr) return 1.0f;
    return last == 1 ? *v : v[divide(i, last).rest];
  }
};

struct Samples {
  std::int64_t count = 0;
  std::int64_t elements = 1;  // of each
  std::int64_t per_piece = 1;
  std::int64_t pieces = 1;

  explicit Samples(const TensorDesc& t) : count(t.shape[0]) {
    for (int d = 1; d < t.rank; ++d) elements *= t.shape[d];
    per_piece = elements / 1024 > 16384 ? (elements / 1024 + 8) / 8 * 8 : 16384;
    if (elements > per_piece) pieces = (elements + per_piece - 1) / per_piece;
  }
};

// Sums of each piece of each sample, times `scale`.
template <int kGroup, int N, class Rule, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pointwise_loss_kernel(const T* x, const float* t, Weights weights, float* sums, Samples samples, float scale,
                          Rule rule) {
  const int lane = static_cast<int>(threadIdx.x) % kGroup;
  for (std::int64_t unit = first_row<kGroup>(); unit < samples.count * samples.pieces; unit += row_step<kGroup>()) {
    const Quotient at = divide(unit, samples.pieces);
    const std::int64_t sample = at.quotient * samples.elements;
    const std::int64_t first = at.rest * samples.per_piece;
    const std::int64_t end = first + samples.per_piece;
    const std::int64_t last = end < samples.elements ? end : samples.elements;
    float sum = 0;
    TRIVET_NO_UNROLL
    for (std::int64_t i = first + std::int64_t{lane} * N; i < last; i += std::int64_t{kGroup} * N) {
      float v[N], target[N];
      load_floats(x + sample + i, v);
      load_floats(t + sample + i, target);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) sum += rule.value(v[k], target[k], weights(sample + i + k));
    }
    sum = group_sum<kGroup>(sum);
    if (lane == 0) sums[unit] = sum * scale;
  }
}

// dx = slope dloss / elements. dx may be x or t.
template <int N, class Rule, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pointwise_slope_kernel(const T* x, const float* t, Weights weights, const float* dloss, T* dx, std::int64_t packs,
                           std::int64_t elements, Rule rule) {
  const float inverse = 1.0f / static_cast<float>(elements);
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const float factor = dloss[divide(i * N, elements).quotient] * inverse;
    float v[N], target[N];
    load_floats(x + i * N, v);
    load_floats(t + i * N, target);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = rule.slope(v[k], target[k], weights(i * N + k)) * factor;
    store_floats(dx + i * N, v);
  }
}

}  // namespace trivet::kernels::cuda
