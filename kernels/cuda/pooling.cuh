// Pooling of images (N, D, H, W, C); images with fewer spatial axes have axes of size 1 in front. Bound: forward, each
// element read once from memory (overlapping windows from the caches) and each result written once; backward, dy (and x
// and y for maxima) read once and dx written once. A thread has some channels of one pixel, neighbours have neighbours.
// Gradients are collected by the pixels, from the windows that hold them: nothing is written twice.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/rows.cuh"
#include "trivet/kernels/attrs_pooling.h"

namespace trivet::kernels::cuda {

// Consecutive items from `first` to `last`, the latter excluded; `step` apart.
struct Range {
  std::int32_t first;
  std::int32_t last;
  std::int32_t step;
};

// The windows along one spatial axis; its sizes fit 32 bits.
struct PoolAxis {
  std::int32_t image = 1;
  std::int32_t pooled = 1;
  std::int32_t kernel = 1;
  std::int32_t stride = 1;
  std::int32_t before = 0;
  std::int32_t after = 0;
  std::int32_t dilation = 1;
  bool adaptive = false;

  TRIVET_DEVICE static std::int32_t scaled(std::int32_t a, std::int32_t b, std::int32_t c, bool up) {
    const std::int64_t product = std::int64_t{a} * b + (up ? c - 1 : 0);
    return static_cast<std::int32_t>(product / c);
  }
  // The positions of window `o` in the image.
  TRIVET_DEVICE Range window(std::int32_t o) const {
    if (adaptive) return {scaled(o, image, pooled, false), scaled(o + 1, image, pooled, true), 1};
    const std::int32_t start = o * stride - before;
    const std::int32_t end = start + (kernel - 1) * dilation + 1;
    const std::int32_t first = start >= 0 ? start : start + (-start + dilation - 1) / dilation * dilation;
    return {first, end < image ? end : image, dilation};
  }
  // How many places average pooling divides by.
  TRIVET_DEVICE std::int32_t places(std::int32_t o, bool with_pads) const {
    if (adaptive || !with_pads) {
      const Range inside = window(o);
      return (inside.last - inside.first + inside.step - 1) / inside.step;
    }
    const std::int32_t room = (image + after - (o * stride - before) + dilation - 1) / dilation;
    return room < kernel ? room : kernel;
  }
  // The windows that may hold position i; with dilations some of them do not.
  TRIVET_DEVICE Range windows_at(std::int32_t i) const {
    if (adaptive) return {scaled(i, pooled, image, false), scaled(i + 1, pooled, image, true), 1};
    const std::int32_t place = i + before;
    const std::int32_t reach = (kernel - 1) * dilation;
    const std::int32_t last = place / stride + 1;
    return {place > reach ? (place - reach + stride - 1) / stride : 0, last < pooled ? last : pooled, 1};
  }
  TRIVET_DEVICE bool holds(std::int32_t o, std::int32_t i) const {
    return adaptive || (i + before - o * stride) % dilation == 0;
  }
};

struct PoolGeometry {
  std::int64_t images = 1;
  std::int64_t channels = 1;
  PoolAxis z, y, x;

  // `window` is null for adaptive and global pools.
  PoolGeometry(const TensorDesc& image, const TensorDesc& pooled, const PoolWindow* window)
      : images(image.shape[0]), channels(image.shape[image.rank - 1]) {
    const int axes = image.rank - 2;
    PoolAxis* const all[3] = {&z, &y, &x};
    const auto entry = [](const IntList& list, int i) { return static_cast<std::int32_t>(list.v[i]); };
    for (int i = 0; i < axes; ++i) {
      PoolAxis& a = *all[3 - axes + i];
      a.image = static_cast<std::int32_t>(image.shape[i + 1]);
      a.pooled = static_cast<std::int32_t>(pooled.shape[i + 1]);
      a.adaptive = window == nullptr;
      if (window == nullptr) continue;
      a.kernel = entry(window->kernel, i);
      a.stride = window->strides.n == 0 ? a.kernel : entry(window->strides, i);
      a.before = window->pads.n == 0 ? 0 : entry(window->pads, i);
      a.after = window->pads.n == 0 ? 0 : entry(window->pads, i + axes);
      a.dilation = window->dilations.n == 0 ? 1 : entry(window->dilations, i);
    }
  }
  std::int64_t image_pixels() const { return std::int64_t{z.image} * y.image * x.image; }
  std::int64_t pooled_pixels() const { return std::int64_t{z.pooled} * y.pooled * x.pooled; }
};

// A pixel of an image with sizes (.., depth, height, width), and the channels of the running thread.
struct PoolPlace {
  std::int64_t image;
  std::int64_t channel;
  std::int32_t z, y, x;
};
TRIVET_DEVICE PoolPlace pool_place(std::int64_t item, std::int64_t packs, int pack, std::int32_t depth,
                                   std::int32_t height, std::int32_t width) {
  const Quotient pixel = divide(item, packs);
  const Quotient row = divide(pixel.quotient, width);
  const Quotient plane = divide(row.quotient, height);
  const Quotient image = divide(plane.quotient, depth);
  return {image.quotient, pixel.rest * pack, static_cast<std::int32_t>(image.rest),
          static_cast<std::int32_t>(plane.rest), static_cast<std::int32_t>(row.rest)};
}

// Calls f(pixel of the image, element) for each pixel of the window; `element` is its first channel.
template <class F>
TRIVET_DEVICE void for_each_pixel(const PoolGeometry& g, const PoolPlace& at, const F& f) {
  const Range z = g.z.window(at.z);
  const Range y = g.y.window(at.y);
  const Range x = g.x.window(at.x);
  const std::int64_t first = at.image * g.z.image * g.y.image * g.x.image;
  for (std::int32_t iz = z.first; iz < z.last; iz += z.step) {
    for (std::int32_t iy = y.first; iy < y.last; iy += y.step) {
      const std::int32_t row = (iz * g.y.image + iy) * g.x.image;
      for (std::int32_t ix = x.first; ix < x.last; ix += x.step) {
        f(row + ix, (first + row + ix) * g.channels + at.channel);
      }
    }
  }
}

enum class Pool { largest, average, average_with_pads };

template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pool_kernel(const T* image, T* pooled, const __grid_constant__ PoolGeometry g, std::int64_t items, Pool pool) {
  const std::int64_t packs = g.channels / N;
  for (std::int64_t i = global_thread(); i < items; i += global_threads()) {
    const PoolPlace at = pool_place(i, packs, N, g.z.pooled, g.y.pooled, g.x.pooled);
    float result[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) result[k] = pool == Pool::largest ? -infinity() : 0.0f;
    for_each_pixel(g, at, [&](std::int32_t, std::int64_t element) {
      float v[N];
      load_floats(image + element, v);
      if (pool == Pool::largest) {
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) result[k] = larger(v[k], result[k]);
      } else {
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) result[k] += v[k];
      }
    });
    if (pool != Pool::largest) {
      const bool pads = pool == Pool::average_with_pads;
      const std::int64_t places =
          std::int64_t{g.z.places(at.z, pads)} * g.y.places(at.y, pads) * g.x.places(at.x, pads);
      const float scale = 1.0f / static_cast<float>(places);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) result[k] *= scale;
    }
    store_floats(pooled + i * N, result);
  }
}

// The first pixel of each window that is its maximum (where that is NaN, the first NaN), -1 if there is none.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    find_maxima_kernel(const T* image, const T* pooled, std::int32_t* origin, const __grid_constant__ PoolGeometry g,
                       std::int64_t items) {
  const std::int64_t packs = g.channels / N;
  for (std::int64_t i = global_thread(); i < items; i += global_threads()) {
    const PoolPlace at = pool_place(i, packs, N, g.z.pooled, g.y.pooled, g.x.pooled);
    float maximum[N];
    load_floats(pooled + i * N, maximum);
    std::int32_t found[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) found[k] = -1;
    for_each_pixel(g, at, [&](std::int32_t pixel, std::int64_t element) {
      float v[N];
      load_floats(image + element, v);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        const bool is_maximum = v[k] == maximum[k] || v[k] != v[k];
        found[k] = found[k] < 0 && is_maximum ? pixel : found[k];
      }
    });
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) origin[i * N + k] = found[k];
  }
}

// dx from dy: of maxima (`origin` is given) or of averages.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    pool_backward_kernel(const T* dy, const std::int32_t* origin, T* dx, const __grid_constant__ PoolGeometry g,
                         std::int64_t items, bool with_pads) {
  const std::int64_t packs = g.channels / N;
  for (std::int64_t i = global_thread(); i < items; i += global_threads()) {
    const PoolPlace at = pool_place(i, packs, N, g.z.image, g.y.image, g.x.image);
    const std::int32_t pixel = (at.z * g.y.image + at.y) * g.x.image + at.x;
    const Range z = g.z.windows_at(at.z);
    const Range y = g.y.windows_at(at.y);
    const Range x = g.x.windows_at(at.x);
    float sum[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) sum[k] = 0;
    for (std::int32_t oz = z.first; oz < z.last; ++oz) {
      for (std::int32_t oy = y.first; oy < y.last; ++oy) {
        for (std::int32_t ox = x.first; ox < x.last; ++ox) {
          const std::int64_t window = ((at.image * g.z.pooled + oz) * g.y.pooled + oy) * g.x.pooled + ox;
          const std::int64_t element = window * g.channels + at.channel;
          float v[N];
          load_floats(dy + element, v);
          if (origin != nullptr) {
            TRIVET_UNROLL
            for (int k = 0; k < N; ++k) sum[k] += origin[element + k] == pixel ? v[k] : 0.0f;
          } else if (g.z.holds(oz, at.z) && g.y.holds(oy, at.y) && g.x.holds(ox, at.x)) {
            const std::int64_t places =
                std::int64_t{g.z.places(oz, with_pads)} * g.y.places(oy, with_pads) * g.x.places(ox, with_pads);
            const float scale = 1.0f / static_cast<float>(places);
            TRIVET_UNROLL
            for (int k = 0; k < N; ++k) sum[k] += v[k] * scale;
          }
        }
      }
    }
    store_floats(dx + i * N, sum);
  }
}

}  // namespace trivet::kernels::cuda
