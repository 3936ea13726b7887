// Losses of classification: a row of logits is read once for the loss, its gradient over the logits, or both. Bound:
// the logits read once, the gradient written once.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

struct Labels {
  const std::int32_t* narrow;  // or null
  const std::int64_t* wide;

  TRIVET_DEVICE std::int64_t operator[](std::int64_t i) const { return narrow != nullptr ? narrow[i] : wide[i]; }
};

// What is constant over the rows; null pointers: not given, or not wanted.
struct CrossEntropy {
  std::int64_t ignore_index;
  float smoothing;  // what each label gives away
  const float* weights;
  const float* dloss;
  float* loss;
};

// Sums over a row: exponentials, weighted logits relative to the label's, class weights.
struct RowSums {
  float exponentials;
  float spread;
  float weights;
  TRIVET_DEVICE RowSums operator+(const RowSums& other) const {
    return {exponentials + other.exponentials, spread + other.spread, weights + other.weights};
  }
};

TRIVET_DEVICE RowSums shuffle_xor(const RowSums& v, int distance) {
  return {shuffle_xor(v.exponentials, distance), shuffle_xor(v.spread, distance), shuffle_xor(v.weights, distance)};
}

// With target t = (1 - smoothing) onehot(label) + smoothing / classes, and weights w: the loss is
// -sum(w t log softmax(z)), the gradient (softmax(z) sum(w t) - w t) dloss. d may be z.
template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    cross_entropy_kernel(const T* z, Labels labels, T* d, std::int64_t rows, RowLayout layout, CrossEntropy rule) {
  TRIVET_DYNAMIC_SHARED(float, shared);
  const std::int64_t n = layout.n;
  const float share = rule.smoothing / static_cast<float>(n);
  const auto weight = [&](std::int64_t c) { return rule.weights == nullptr ? 1.0f : rule.weights[c]; };
  for (std::int64_t r = first_row<kGroup>(); r < rows; r += row_step<kGroup>()) {
    const std::int64_t label = labels[r];
    Row<kGroup, N, T> row(z + r * n, shared, layout);
    if (label == rule.ignore_index || label < 0 || label >= n) {
      const float fill = label == rule.ignore_index ? 0.0f : not_a_number();
      if (rule.loss != nullptr && row.lane == 0) rule.loss[r] = fill;
      if (d != nullptr) {
        for (std::int64_t c = row.lane; c < n; c += kGroup) d[r * n + c] = narrow<T>(fill);
      }
      continue;
    }
    const float own = widen(z[r * n + label]);
    float largest = -infinity();
    row.load([&](float v) { largest = larger(largest, v); });
    largest = group_max<kGroup>(largest);
    RowSums sums{};
    row.each_pack([&](std::int64_t c, const float(&v)[N]) {
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        sums.exponentials += expf(v[k] - largest);
        if (rule.smoothing == 0.0f) continue;  // 0 times an infinite logit is to stay out
        sums.spread += weight(c + k) * (v[k] - own);
        sums.weights += weight(c + k);
      }
    });
    sums = join_group<kGroup>(sums, RowSums{}, Plus{});
    const float of_label = (1.0f - rule.smoothing) * weight(label);
    const float mass = of_label + share * sums.weights;
    if (rule.loss != nullptr && row.lane == 0) {
      rule.loss[r] = mass * (logf(sums.exponentials) - (own - largest)) - share * sums.spread;
    }
    if (d == nullptr) continue;
    const float dloss = rule.dloss[r];
    const float scale = dloss * mass / sums.exponentials;
    row.write_packs(d + r * n, [&](std::int64_t c, float(&v)[N]) {
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        float g = expf(v[k] - largest) * scale;
        if (rule.smoothing != 0.0f) g -= dloss * share * weight(c + k);
        v[k] = c + k == label ? g - dloss * of_label : g;
      }
    });
  }
}

struct SoftSums {
  float exponentials;
  float mass;
  float products;
  TRIVET_DEVICE SoftSums operator+(const SoftSums& other) const {
    return {exponentials + other.exponentials, mass + other.mass, products + other.products};
  }
};
TRIVET_DEVICE SoftSums shuffle_xor(const SoftSums& v, int distance) {
  return {shuffle_xor(v.exponentials, distance), shuffle_xor(v.mass, distance), shuffle_xor(v.products, distance)};
}

// Target probabilities t: -sum(t log softmax(z)), or its gradient if dloss is given. d may be z or t.
template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    soft_cross_entropy_kernel(const T* z, const float* t, const float* dloss, float* loss, T* d, std::int64_t rows,
                              RowLayout layout) {
  TRIVET_DYNAMIC_SHARED(float, shared);
  const std::int64_t n = layout.n;
  for (std::int64_t r = first_row<kGroup>(); r < rows; r += row_step<kGroup>()) {
    const float* const targets = t + r * n;
    Row<kGroup, N, T> row(z + r * n, shared, layout);
    float largest = -infinity();
    row.load([&](float v) { largest = larger(largest, v); });
    largest = group_max<kGroup>(largest);
    SoftSums sums{};
    row.each_pack([&](std::int64_t c, const float(&v)[N]) {
      float target[N];
      load_floats(targets + c, target);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        sums.exponentials += expf(v[k] - largest);
        sums.mass += target[k];
        sums.products += target[k] == 0.0f ? 0.0f : target[k] * (v[k] - largest);
      }
    });
    sums = join_group<kGroup>(sums, SoftSums{}, Plus{});
    if (loss != nullptr && row.lane == 0) loss[r] = sums.mass * logf(sums.exponentials) - sums.products;
    if (d == nullptr) continue;
    const float scale = sums.mass * dloss[r] / sums.exponentials;
    const float of_target = dloss[r];
    row.write_packs(d + r * n, [&](std::int64_t c, float(&v)[N]) {
      float target[N];
      load_floats(targets + c, target);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) v[k] = expf(v[k] - largest) * scale - target[k] * of_target;
    });
  }
}

// 1 if fewer than k logits stand before the label's, equal ones in their order, and none is NaN. A warp for each row.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    top_k_kernel(const T* z, Labels labels, std::int32_t* correct, std::int64_t rows, std::int64_t n, std::int64_t k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t r = first_row<kWarp>(); r < rows; r += row_step<kWarp>()) {
    const std::int64_t label = labels[r];
    const bool valid = label >= 0 && label < n;
    const float own = valid ? widen(z[r * n + label]) : 0.0f;
    std::int64_t before = 0;
    std::int64_t nans = valid ? 0 : 1;
    for (std::int64_t c = lane; valid && c < n; c += kWarp) {
      const float v = widen(z[r * n + c]);
      before += v > own || (c < label && v == own) ? 1 : 0;
      nans += v != v ? 1 : 0;
    }
    before = join_warp(before, Plus{});
    nans = join_warp(nans, Plus{});
    if (lane == 0) correct[r] = nans == 0 && before < k ? 1 : 0;
  }
}

}  // namespace trivet::kernels::cuda
