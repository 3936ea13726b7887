// Resizing of (N, D.., C): each axis has a table that says, for each output position, which input positions count with
// which weight. Bound: forward, y written once and x read once (neighbours of a position again from the caches);
// backward, dy read once and dx written once: each input position looks for the outputs that took it, which lie side by
// side, so nothing is written twice. Tables are small and made by a kernel, one thread for each position.
#pragma once

#include "kernels/cuda/copy.cuh"
#include "trivet/kernels/attrs_resize.h"

namespace trivet::kernels::cuda {

inline constexpr int kMostAxes = 3;
inline constexpr int kMostTaps = 4;

// What one output position takes: `count` input positions with their weights, all from `low` to `high`.
struct Taps {
  std::int32_t count;
  std::int32_t low;
  std::int32_t high;
  std::int32_t index[kMostTaps];
  float weight[kMostTaps];
};

struct ResizedAxis {
  std::int64_t in = 1;
  std::int64_t out = 1;
  double scale = 0;  // 0: out / in

  // Where output position o lies among the input's (ONNX Resize, coordinate_transformation_mode).
  TRIVET_DEVICE double source_position(ResizeCoordinates coordinates, std::int64_t o) const {
    const auto x = static_cast<double>(o);
    const auto from = static_cast<double>(in);
    const auto to = static_cast<double>(out);
    if (coordinates == ResizeCoordinates::align_corners) return out == 1 ? 0.0 : x * (from - 1.0) / (to - 1.0);
    if (coordinates == ResizeCoordinates::pytorch_half_pixel && out == 1) return 0.0;
    // Multiplied first: exact halves stay exact.
    const double half = coordinates == ResizeCoordinates::asymmetric ? 0.0 : 0.5;
    return (scale > 0 ? (x + half) / scale : (x + half) * from / to) - half;
  }
  TRIVET_DEVICE std::int32_t inside(double at) const {
    const double last = static_cast<double>(in - 1);
    return static_cast<std::int32_t>(at < 0 ? 0 : at > last ? last : at);
  }
};

// How positions between elements are weighed; the part of ResizeAttrs that kernels need.
struct ResizeRule {
  ResizeMode mode;
  ResizeCoordinates coordinates;
  ResizeNearest nearest;
  double cubic_a;
  bool exclude_outside;
};

TRIVET_DEVICE double nearest_position(double x, ResizeNearest mode) {
  switch (mode) {
    case ResizeNearest::round_prefer_floor:
      return ceil(x - 0.5);
    case ResizeNearest::round_prefer_ceil:
      return floor(x + 0.5);
    case ResizeNearest::floor:
      return floor(x);
    default:
      return ceil(x);
  }
}

// Cubic convolution (Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981), of a tap nearer than
// one position and of one nearer than two.
TRIVET_DEVICE double near_weight(double t, double a) { return ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0; }
TRIVET_DEVICE double far_weight(double t, double a) { return ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a; }

// The weights of `first` and the positions behind it; unused ones are 0.
struct Weights {
  double first;
  int taps;
  double w[kMostTaps];

  TRIVET_DEVICE Weights(const ResizeRule& rule, const ResizedAxis& axis, double x) : first(0), taps(1), w{1, 0, 0, 0} {
    if (rule.mode == ResizeMode::nearest) {
      first = nearest_position(x, rule.nearest);
      return;
    }
    first = floor(x);
    const double t = x - first;
    if (rule.mode == ResizeMode::linear) {
      taps = 2;
      w[0] = 1.0 - t;
      w[1] = t;
      return;
    }
    taps = 4;
    first -= 1.0;
    w[0] = far_weight(t + 1.0, rule.cubic_a);
    w[1] = near_weight(t, rule.cubic_a);
    w[2] = near_weight(1.0 - t, rule.cubic_a);
    w[3] = far_weight(2.0 - t, rule.cubic_a);
    if (!rule.exclude_outside) return;
    double sum = 0;
    TRIVET_UNROLL
    for (int k = 0; k < kMostTaps; ++k) {
      const double at = first + k;
      if (at < 0 || at >= static_cast<double>(axis.in)) w[k] = 0;
      sum += w[k];
    }
    TRIVET_UNROLL
    for (int k = 0; k < kMostTaps; ++k) w[k] /= sum;
  }
};

// Positions outside are the outermost ones. Taps that come to lie on one position are joined, and those without weight
// left out, so that an infinity or NaN that does not count does no harm.
__global__ void __launch_bounds__(kBlock, 2) resize_table_kernel(Taps* table, ResizedAxis axis, ResizeRule rule) {
  for (std::int64_t o = global_thread(); o < axis.out; o += global_threads()) {
    const Weights weights(rule, axis, axis.source_position(rule.coordinates, o));
    Taps* const taps = table + o;
    std::int32_t count = 0;
    std::int32_t pending = -1;
    double weight = 0;
    TRIVET_UNROLL
    for (int k = 0; k <= kMostTaps; ++k) {
      const std::int32_t position = axis.inside(weights.first + k);
      const bool ends = k >= weights.taps;
      if ((ends || position != pending) && weight != 0) {
        taps->index[count] = pending;
        taps->weight[count++] = static_cast<float>(weight);
        weight = 0;
      }
      pending = position;
      if (k < kMostTaps && !ends) weight += weights.w[k < kMostTaps ? k : 0];
    }
    taps->count = count;
    taps->low = axis.inside(weights.first);
    taps->high = axis.inside(weights.first + (weights.taps - 1));
  }
}

// The axes are padded to three, in front, by axes of one position.
struct Resizing {
  std::int64_t batch = 1;
  std::int64_t channels = 1;
  ResizedAxis axes[kMostAxes];
  const Taps* tables[kMostAxes] = {};
};

// A pixel of the result, whose image has sizes (z, y, x), and the pack of channels of the running thread.
struct ResizedPlace {
  std::int64_t image, z, y, x, pack;

  TRIVET_DEVICE ResizedPlace(std::int64_t item, std::int64_t packs, std::int64_t depth, std::int64_t height,
                             std::int64_t width) {
    const Quotient pixel = divide(item, packs);
    const Quotient row = divide(pixel.quotient, width);
    const Quotient plane = divide(row.quotient, height);
    const Quotient whole = divide(plane.quotient, depth);
    image = whole.quotient;
    z = whole.rest;
    y = plane.rest;
    x = row.rest;
    pack = pixel.rest;
  }
};

// Mode nearest: each output position has one tap.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pick_kernel(const T* x, T* y, const __grid_constant__ Resizing r, std::int64_t items) {
  const std::int64_t packs = r.channels / N;
  for (std::int64_t i = global_thread(); i < items; i += global_threads()) {
    const ResizedPlace at(i, packs, r.axes[0].out, r.axes[1].out, r.axes[2].out);
    const std::int64_t plane = at.image * r.axes[0].in + r.tables[0][at.z].index[0];
    const std::int64_t row = plane * r.axes[1].in + r.tables[1][at.y].index[0];
    const std::int64_t pixel = row * r.axes[2].in + r.tables[2][at.x].index[0];
    store_pack(y + i * N, load_pack<N>(x + (pixel * packs + at.pack) * N));
  }
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    resize_kernel(const T* x, T* y, const __grid_constant__ Resizing r, std::int64_t items) {
  const std::int64_t packs = r.channels / N;
  for (std::int64_t i = global_thread(); i < items; i += global_threads()) {
    const ResizedPlace at(i, packs, r.axes[0].out, r.axes[1].out, r.axes[2].out);
    const Taps& of_z = r.tables[0][at.z];
    const Taps& of_y = r.tables[1][at.y];
    const Taps& of_x = r.tables[2][at.x];
    float sum[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) sum[k] = 0;
    for (int iz = 0; iz < of_z.count; ++iz) {
      const std::int64_t plane = at.image * r.axes[0].in + of_z.index[iz];
      for (int iy = 0; iy < of_y.count; ++iy) {
        const std::int64_t row = plane * r.axes[1].in + of_y.index[iy];
        const float weight = of_z.weight[iz] * of_y.weight[iy];
        for (int ix = 0; ix < of_x.count; ++ix) {
          float v[N];
          load_floats(x + ((row * r.axes[2].in + of_x.index[ix]) * packs + at.pack) * N, v);
          const float w = weight * of_x.weight[ix];
          TRIVET_UNROLL
          for (int k = 0; k < N; ++k) sum[k] += w * v[k];
        }
      }
    }
    store_floats(y + i * N, sum);
  }
}

// ---- backward ----

// The output positions whose taps may lie on input position s: both ends of the taps rise with the position.
struct Takers {
  std::int64_t first;
  std::int64_t last;  // excluded

  TRIVET_DEVICE Takers(const Taps* table, std::int64_t out, std::int64_t s) {
    first = 0;
    for (std::int64_t count = out; count > 0;) {
      const std::int64_t half = count / 2;
      const bool before = table[first + half].high < s;
      first = before ? first + half + 1 : first;
      count = before ? count - half - 1 : half;
    }
    last = first;
    for (std::int64_t count = out - first; count > 0;) {
      const std::int64_t half = count / 2;
      const bool takes = table[last + half].low <= s;
      last = takes ? last + half + 1 : last;
      count = takes ? count - half - 1 : half;
    }
  }
};

// What it takes of s.
TRIVET_DEVICE float weight_of(const Taps& taps, std::int64_t s) {
  float weight = 0;
  TRIVET_UNROLL
  for (int k = 0; k < kMostTaps; ++k) {
    if (k < taps.count && taps.index[k] == s) weight = taps.weight[k];
  }
  return weight;
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    resize_backward_kernel(const T* dy, T* dx, const __grid_constant__ Resizing r, std::int64_t items) {
  const std::int64_t packs = r.channels / N;
  for (std::int64_t i = global_thread(); i < items; i += global_threads()) {
    const ResizedPlace at(i, packs, r.axes[0].in, r.axes[1].in, r.axes[2].in);
    const Takers of_z(r.tables[0], r.axes[0].out, at.z);
    const Takers of_y(r.tables[1], r.axes[1].out, at.y);
    const Takers of_x(r.tables[2], r.axes[2].out, at.x);
    float sum[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) sum[k] = 0;
    for (std::int64_t oz = of_z.first; oz < of_z.last; ++oz) {
      const float z_weight = weight_of(r.tables[0][oz], at.z);
      for (std::int64_t oy = of_y.first; oy < of_y.last; ++oy) {
        const float weight = z_weight * weight_of(r.tables[1][oy], at.y);
        const std::int64_t row = (at.image * r.axes[0].out + oz) * r.axes[1].out + oy;
        if (weight == 0) continue;
        for (std::int64_t ox = of_x.first; ox < of_x.last; ++ox) {
          const float w = weight * weight_of(r.tables[2][ox], at.x);
          if (w == 0) continue;
          float v[N];
          load_floats(dy + ((row * r.axes[2].out + ox) * packs + at.pack) * N, v);
          TRIVET_UNROLL
          for (int k = 0; k < N; ++k) sum[k] += w * v[k];
        }
      }
    }
    store_floats(dx + i * N, sum);
  }
}

}  // namespace trivet::kernels::cuda
