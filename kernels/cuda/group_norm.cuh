// Group and instance normalization of (images, pixels, channels), over each group of channels of an image. Bound:
// forward reads x twice and writes y; backward reads dy and x twice and writes dx. Threads lie over the channels, as in
// batch normalization, so that rows are read whole however small the groups are; the sums of channels and of pieces of
// the rows are then joined by a warp for each group.
#pragma once

#include "kernels/cuda/batch_norm.cuh"

namespace trivet::kernels::cuda {

template <class Float>
TRIVET_DEVICE Gathered<Float> shuffle_xor(const Gathered<Float>& v, int distance) {
  return {shuffle_xor(v.count, distance), shuffle_xor(v.sum, distance), shuffle_xor(v.squares, distance)};
}
struct JoinGathered {
  template <class Float>
  TRIVET_DEVICE Gathered<Float> operator()(Gathered<Float> a, const Gathered<Float>& b) const {
    a.join(b);
    return a;
  }
};

// The groups of all images, a warp for each.
struct Groups {
  std::int64_t images;
  std::int64_t groups;  // of an image
  std::int64_t size;    // channels of a group
  ColumnLayout layout;  // of one image
};

struct GroupStatistics {
  const float* gamma;
  const float* beta;
  float* mean;  // (images, groups)
  float* rstd;
  double epsilon;
};

// Mean and rstd of each group, and the vectors (images, channels) that normalize by them. Squared distances are joined
// in double and in a fixed order: lane by lane, then pair by pair. partial: (images, pieces, 3, channels).
__global__ void __launch_bounds__(kBlock, 2)
    finish_groups_kernel(const float* partial, const __grid_constant__ Groups g, GroupStatistics s,
                         ChannelVectors vectors) {
  const ColumnLayout& layout = g.layout;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t unit = global_thread() / kWarp; unit < g.images * g.groups; unit += global_threads() / kWarp) {
    const Quotient at = divide(unit, g.groups);
    const std::int64_t first = at.rest * g.size;
    const float* const from = partial + at.quotient * layout.pieces * 3 * layout.columns + first;
    Gathered<double> all{0, 0, 0};
    for (std::int64_t item = lane; item < g.size * layout.pieces; item += kWarp) {
      const Quotient place = divide(item, g.size);
      const float* const piece = from + place.quotient * 3 * layout.columns + place.rest;
      const std::int64_t left = layout.rows - place.quotient * layout.rows_of_piece;
      const double n = static_cast<double>(left < layout.rows_of_piece ? left : layout.rows_of_piece);
      const double sum = static_cast<double>(piece[0]) * n + static_cast<double>(piece[layout.columns]);
      all.join({n, sum, static_cast<double>(piece[2 * layout.columns])});
    }
    all = join_warp(all, JoinGathered{});
    // Joining is not symmetric in the last bit, so all lanes take what the first one has.
    const double mean = __shfl_sync(kFullMask, all.sum / all.count, 0);
    const double rstd = __shfl_sync(kFullMask, 1 / sqrt(all.squares / all.count + s.epsilon), 0);
    const float rounded = static_cast<float>(mean);
    for (std::int64_t c = first + lane; c < first + g.size; c += kWarp) {
      const double factor = rstd * static_cast<double>(s.gamma[c]);
      const std::int64_t to = at.quotient * layout.columns + c;
      vectors.center[to] = rounded;
      vectors.scale[to] = static_cast<float>(factor);
      vectors.shift[to] =
          static_cast<float>(static_cast<double>(s.beta[c]) - (mean - static_cast<double>(rounded)) * factor);
    }
    if (lane != 0) continue;
    s.mean[unit] = rounded;
    s.rstd[unit] = static_cast<float>(rstd);
  }
}

// The first channel of pack i in vectors (images, channels), for images of `size` elements.
TRIVET_DEVICE std::int64_t channel_of_image(std::int64_t element, std::int64_t size, std::int64_t columns) {
  const Quotient image = divide(element, size);
  return image.quotient * columns + divide(image.rest, columns).rest;
}

// y = (x - center) scale + shift. y may be x.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    normalize_groups_kernel(const T* x, T* y, std::int64_t packs, std::int64_t size, std::int64_t columns,
                            ChannelVectors vectors) {
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const std::int64_t c = channel_of_image(i * N, size, columns);
    float v[N], center[N], scale[N], shift[N];
    load_floats(x + i * N, v);
    load_floats(vectors.center + c, center);
    load_floats(vectors.scale + c, scale);
    load_floats(vectors.shift + c, shift);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = (v[k] - center[k]) * scale[k] + shift[k];
    store_floats(y + i * N, v);
  }
}

// ---- backward ----

// The groups' means for each channel: (images, channels).
__global__ void __launch_bounds__(kBlock, 2)
    spread_means_kernel(const float* mean, float* center, std::int64_t n, std::int64_t size) {
  for (std::int64_t i = global_thread(); i < n; i += global_threads()) center[i] = mean[divide(i, size).quotient];
}

struct GroupGradients {
  const float* gamma;
  const float* rstd;  // (images, groups)
  float* of_images;   // (images, 2, channels): what each image adds to dgamma and dbeta
};

// The vectors of dx = rstd (gamma dy - average(gamma dy) - (x - mean) rstd average(gamma dy (x - mean) rstd)), averages
// over a group. partial: (images, pieces, 2, channels), sums of dy (x - mean) and of dy.
__global__ void __launch_bounds__(kBlock, 2)
    finish_group_gradients_kernel(const float* partial, const __grid_constant__ Groups g, GroupGradients b,
                                  GradientVectors vectors) {
  const ColumnLayout& layout = g.layout;
  const std::int64_t columns = layout.columns;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t unit = global_thread() / kWarp; unit < g.images * g.groups; unit += global_threads() / kWarp) {
    const Quotient at = divide(unit, g.groups);
    const std::int64_t first = at.rest * g.size;
    const float* const from = partial + at.quotient * layout.pieces * 2 * columns;
    float* const of_image = b.of_images + at.quotient * 2 * columns;
    const double rstd = static_cast<double>(b.rstd[unit]);
    double average = 0;
    double slope = 0;
    for (std::int64_t c = first + lane; c < first + g.size; c += kWarp) {
      double products = 0;
      double sums = 0;
      for (std::int64_t p = 0; p < layout.pieces; ++p) {
        products += static_cast<double>(from[p * 2 * columns + c]);
        sums += static_cast<double>(from[(p * 2 + 1) * columns + c]);
      }
      products *= rstd;
      of_image[c] = static_cast<float>(products);
      of_image[columns + c] = static_cast<float>(sums);
      average += static_cast<double>(b.gamma[c]) * sums;
      slope += static_cast<double>(b.gamma[c]) * products;
    }
    const double inverse = rstd / (static_cast<double>(g.size) * static_cast<double>(layout.rows));
    const float shift = static_cast<float>(-join_warp(average, Plus{}) * inverse);
    const float of_x = static_cast<float>(-join_warp(slope, Plus{}) * inverse * rstd);
    for (std::int64_t c = first + lane; c < first + g.size; c += kWarp) {
      const std::int64_t to = at.quotient * columns + c;
      vectors.of_dy[to] = b.gamma[c] * b.rstd[unit];
      vectors.of_x[to] = of_x;
      vectors.shift[to] = shift;
    }
  }
}

// dx = of_dy dy + of_x (x - mean) + shift with vectors (images, channels). dx may be dy or x.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    group_gradients_kernel(const T* dy, const T* x, T* dx, std::int64_t packs, std::int64_t size, std::int64_t columns,
                           GradientVectors vectors) {
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const std::int64_t c = channel_of_image(i * N, size, columns);
    float g[N], v[N], mean[N], of_dy[N], of_x[N], shift[N];
    load_floats(dy + i * N, g);
    load_floats(x + i * N, v);
    load_floats(vectors.mean + c, mean);
    load_floats(vectors.of_dy + c, of_dy);
    load_floats(vectors.of_x + c, of_x);
    load_floats(vectors.shift + c, shift);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = of_dy[k] * g[k] + of_x[k] * (v[k] - mean[k]) + shift[k];
    store_floats(dx + i * N, v);
  }
}

// dgamma and dbeta: what the images add to them, in a fixed order.
__global__ void __launch_bounds__(kBlock, 2)
    join_images_kernel(const float* of_images, std::int64_t images, std::int64_t columns, float* dgamma, float* dbeta) {
  TRIVET_SHARED(double, scratch, kBlock);
  const std::int64_t c = std::int64_t{blockIdx.x} * kJoined + threadIdx.x % kJoined;
  const bool inside = c < columns;
  const double of_gamma = join_pieces(of_images + c, images, 2 * columns, inside, scratch);
  const double of_beta = join_pieces(of_images + columns + c, images, 2 * columns, inside, scratch);
  if (!inside || threadIdx.x >= kJoined) return;
  dgamma[c] = static_cast<float>(of_gamma);
  dbeta[c] = static_cast<float>(of_beta);
}

}  // namespace trivet::kernels::cuda
