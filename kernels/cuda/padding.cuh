// Ops that make tensors larger by repeating their own elements or a constant, and their gradient. Bound: every element
// of y is written once and read once (repeated ones from the caches); of the gradient dy is read once and dx written
// once. Threads own elements of the result and look for what belongs to them, so nothing is written twice.
#pragma once

#include "kernels/cuda/copy.cuh"
#include "trivet/kernels/attrs_padding.h"

namespace trivet::kernels::cuda {

// One dimension: `size` elements, `before` of them added in front, `total` after padding.
struct PaddedAxis {
  std::int64_t size;
  std::int64_t before;
  std::int64_t total;

  // The element that stands at place `at` of the padded dimension; -1 for the constant.
  TRIVET_DEVICE std::int64_t source(PadMode mode, std::int64_t at) const {
    const std::int64_t i = at - before;
    if (i >= 0 && i < size) return i;
    switch (mode) {
      case PadMode::reflect:
        return i < 0 ? -i : 2 * (size - 1) - i;
      case PadMode::edge:
        return i < 0 ? 0 : size - 1;
      case PadMode::wrap: {
        const std::int64_t rest = i < 0 ? divide(-i, size).rest : divide(i, size).rest;
        return i < 0 && rest > 0 ? size - rest : rest;
      }
      default:
        return -1;
    }
  }
};

// Where an element of one dimension was copied to, in ascending order: first, first + step, ... and in mode reflect up
// to three places, of which the one in the middle is its own.
struct Places {
  std::int64_t count;
  std::int64_t first;
  std::int64_t step;
  std::int64_t own;   // reflect only
  std::int64_t last;  // reflect only

  TRIVET_DEVICE Places(const PaddedAxis& axis, PadMode mode, std::int64_t i)
      : count(1), first(axis.before + i), step(1), own(first), last(first) {
    if (mode == PadMode::wrap) {
      first = divide(own, axis.size).rest;
      step = axis.size;
      count = divide(axis.total - first + axis.size - 1, axis.size).quotient;
    } else if (mode == PadMode::edge) {
      if (i == 0) first = 0;
      count = (i == axis.size - 1 ? axis.total : own + 1) - first;
    } else if (mode == PadMode::reflect) {
      step = 0;
      const std::int64_t behind = axis.before + 2 * (axis.size - 1) - i;
      const bool in_front = i >= 1 && axis.before >= i;
      const bool at_back = i <= axis.size - 2 && behind < axis.total;
      if (in_front) first = axis.before - i;
      if (at_back) last = behind;
      count = 1 + (in_front ? 1 : 0) + (at_back ? 1 : 0);
    }
  }
  TRIVET_DEVICE std::int64_t operator[](std::int64_t k) const {
    if (step != 0) return first + k * step;
    return k == 0 ? first : k + 1 == count ? last : own;
  }
};

// Neighbouring dimensions without pads are one; those behind the last padded one are `inner`.
struct Padding {
  PaddedAxis axes[kMaxRank] = {};
  int rank = 0;
  std::int64_t inner = 1;
  PadMode mode = PadMode::constant;
};

// y in packs of N elements.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pad_kernel(const T* x, T* y, const __grid_constant__ Padding p, std::int64_t packs, T value) {
  const std::int64_t across = p.inner / N;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const Quotient place = divide(i, across);
    std::int64_t rest = place.quotient;
    std::int64_t source = 0;
    std::int64_t stride = 1;
    bool outside = false;
    for (int d = p.rank - 1; d >= 0; --d) {
      const Quotient at = divide(rest, p.axes[d].total);
      const std::int64_t from = p.axes[d].source(p.mode, at.rest);
      outside = outside || from < 0;
      source += from * stride;
      stride *= p.axes[d].size;
      rest = at.quotient;
    }
    Pack<T, N> pack;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) pack.v[k] = value;
    if (!outside) pack = load_pack<N>(x + (source * across + place.rest) * N);
    store_pack(y + i * N, pack);
  }
}

// How many places element `item` of dx has, all dimensions together.
TRIVET_DEVICE std::int64_t count_places(const Padding& p, std::int64_t item) {
  std::int64_t count = 1;
  for (int d = p.rank - 1; d >= 0; --d) {
    const Quotient at = divide(item, p.axes[d].size);
    count *= Places(p.axes[d], p.mode, at.rest).count;
    item = at.quotient;
  }
  return count;
}

// Its k-th place in dy. Computed anew for each: a list for each dimension would lie in local memory.
TRIVET_DEVICE std::int64_t find_place(const Padding& p, std::int64_t item, std::int64_t k) {
  std::int64_t place = 0;
  std::int64_t stride = 1;
  for (int d = p.rank - 1; d >= 0; --d) {
    const Quotient at = divide(item, p.axes[d].size);
    const Places places(p.axes[d], p.mode, at.rest);
    const Quotient choice = divide(k, places.count);
    place += places[choice.rest] * stride;
    stride *= p.axes[d].total;
    item = at.quotient;
    k = choice.quotient;
  }
  return place;
}

// dx in packs of N elements: the sum of dy over their places, in double and in their order.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pad_backward_kernel(const T* dy, T* dx, const __grid_constant__ Padding p, std::int64_t packs) {
  const std::int64_t across = p.inner / N;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const Quotient at = divide(i, across);
    const std::int64_t count = count_places(p, at.quotient);
    double sums[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) sums[k] = 0;
    TRIVET_NO_UNROLL
    for (std::int64_t place = 0; place < count; ++place) {
      float v[N];
      load_floats(dy + (find_place(p, at.quotient, place) * across + at.rest) * N, v);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) sums[k] += static_cast<double>(v[k]);
    }
    float v[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = static_cast<float>(sums[k]);
    store_floats(dx + i * N, v);
  }
}

}  // namespace trivet::kernels::cuda
