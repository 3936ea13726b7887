// Batch normalization of (rows, channels). Bound: inference reads x and writes y; training reads x twice; backward
// reads dy and x twice. Sums over the rows take two stages (columns.cuh). Group normalization uses the kernels for sums
// with one matrix for each image: blockIdx.z is the matrix.
#pragma once

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/loop.cuh"

namespace trivet::kernels::cuda {

// The squared distances from their mean of two sets of numbers together: those of each set and what the distance of the
// means adds (Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
template <class Float>
struct Gathered {
  Float count;
  Float sum;
  Float squares;

  TRIVET_DEVICE void join(const Gathered& other) {
    if (other.count == 0) return;
    if (count > 0) {
      const Float delta = other.sum / other.count - sum / count;
      squares += delta * delta * (count * (other.count / (count + other.count)));
    }
    squares += other.squares;
    sum += other.sum;
    count += other.count;
  }
};

// Per piece and channel: the first row's value, the sum of the distances from it, and the squared distances of these
// from their mean. Distances, because a mean of 1e4 leaves few digits; squares around a running mean (Welford, "Note on
// a method for calculating corrected sums of squares and products", 1962), because the first row may be far off.
// partial: (matrices, pieces, 3, columns).
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2) moments_kernel(const T* x, float* partial, ColumnLayout layout) {
  TRIVET_SHARED(float, counts, kBlock);
  TRIVET_SHARED(float, sums, kBlock* N);
  TRIVET_SHARED(float, squares, kBlock* N);
  const ColumnPlace at(layout, N);
  const int me = static_cast<int>(threadIdx.x);
  const bool inside = at.column < layout.columns;
  x += blockIdx.z * layout.rows * layout.columns;
  partial += blockIdx.z * layout.pieces * 3 * layout.columns;
  float shift[N], sum[N], mean[N], square[N];
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) shift[k] = sum[k] = mean[k] = square[k] = 0;
  if (inside) load_floats(x + at.first * layout.columns + at.column, shift);
  float count = 0;
  for (std::int64_t r = at.first + at.strand; inside && r < at.last; r += layout.strands) {
    float v[N];
    load_floats(x + r * layout.columns + at.column, v);
    count += 1;
    const float inverse = 1.0f / count;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      const float d = v[k] - shift[k];
      const float delta = d - mean[k];
      sum[k] += d;
      mean[k] += delta * inverse;
      square[k] += delta * (d - mean[k]);
    }
  }
  counts[me] = count;
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) {
    sums[k * kBlock + me] = sum[k];
    squares[k * kBlock + me] = square[k];
  }
  for (int half = layout.strands / 2; half > 0; half /= 2) {
    __syncthreads();
    if (at.strand >= half) continue;
    const int other = me + half * layout.lanes;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      Gathered<float> all{counts[me], sums[k * kBlock + me], squares[k * kBlock + me]};
      all.join({counts[other], sums[k * kBlock + other], squares[k * kBlock + other]});
      sums[k * kBlock + me] = all.sum;
      squares[k * kBlock + me] = all.squares;
    }
    counts[me] += counts[other];
  }
  if (!inside || at.strand != 0) return;
  float* const to = partial + at.piece * 3 * layout.columns + at.column;
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) {
    to[k] = shift[k];
    to[layout.columns + k] = sums[k * kBlock + me];
    to[2 * layout.columns + k] = squares[k * kBlock + me];
  }
}

// What y = (x - center) scale + shift needs for each channel; dx in the backward pass takes one more.
struct ChannelVectors {
  float* center;
  float* scale;
  float* shift;
};

struct BatchStatistics {
  const float* gamma;
  const float* beta;
  const float* running_mean;
  const float* running_var;
  float* mean;
  float* rstd;
  float* new_mean;
  float* new_var;
  double epsilon;
  double momentum;
};

// y = activation((x - center) scale + shift + residual). The residual may be null; y may be x.
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    normalize_channels_kernel(const T* x, const T* residual, T* y, std::int64_t packs, std::int64_t columns,
                              ChannelVectors vectors, bool relu) {
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const std::int64_t c = divide(i * N, columns).rest;
    float v[N], center[N], scale[N], shift[N];
    load_floats(x + i * N, v);
    load_floats(vectors.center + c, center);
    load_floats(vectors.scale + c, scale);
    load_floats(vectors.shift + c, shift);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = (v[k] - center[k]) * scale[k] + shift[k];
    if (residual != nullptr) {
      float added[N];
      load_floats(residual + i * N, added);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) v[k] += added[k];
    }
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = relu && v[k] <= 0.0f ? 0.0f : v[k];
    store_floats(y + i * N, v);
  }
}

// Sums of g (x - mean) and of g, where g is dy, or 0 where y is not positive if y is given. Writes g to `masked` if
// that is given. mean: (matrices, columns), partial: (matrices, pieces, 2, columns).
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    gradient_sums_kernel(const T* dy, const T* x, const T* y, T* masked, const float* mean, float* partial,
                         ColumnLayout layout) {
  TRIVET_SHARED(float, scratch, kBlock* N);
  const ColumnPlace at(layout, N);
  const bool inside = at.column < layout.columns;
  const std::int64_t matrix = blockIdx.z * layout.rows * layout.columns;
  mean += blockIdx.z * layout.columns;
  partial += blockIdx.z * layout.pieces * 2 * layout.columns;
  float center[N], products[N], sums[N];
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) {
    center[k] = inside ? mean[at.column + k] : 0.0f;
    products[k] = sums[k] = 0;
  }
  for (std::int64_t r = at.first + at.strand; inside && r < at.last; r += layout.strands) {
    const std::int64_t i = matrix + r * layout.columns + at.column;
    float g[N], v[N];
    load_floats(dy + i, g);
    load_floats(x + i, v);
    if (y != nullptr) {
      float result[N];
      load_floats(y + i, result);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) g[k] = result[k] <= 0.0f ? 0.0f : g[k];
    }
    if (masked != nullptr) store_floats(masked + i, g);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      products[k] += g[k] * (v[k] - center[k]);
      sums[k] += g[k];
    }
  }
  join_strands(products, layout, at, scratch);
  join_strands(sums, layout, at, scratch);
  if (!inside || at.strand != 0) return;
  float* const to = partial + at.piece * 2 * layout.columns + at.column;
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) {
    to[k] = products[k];
    to[layout.columns + k] = sums[k];
  }
}

// dx = of_dy g + of_x (x - mean) + shift with the vectors (of_dy, of_x, shift). g is masked by y if that is given. dx
// may be dy or x.
struct GradientVectors {
  const float* mean;
  float* of_dy;
  float* of_x;
  float* shift;
};
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    channel_gradients_kernel(const T* dy, const T* x, const T* y, T* dx, std::int64_t packs, std::int64_t columns,
                             GradientVectors vectors) {
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const std::int64_t c = divide(i * N, columns).rest;
    float g[N], v[N], mean[N], of_dy[N], of_x[N], shift[N];
    load_floats(dy + i * N, g);
    load_floats(x + i * N, v);
    load_floats(vectors.mean + c, mean);
    load_floats(vectors.of_dy + c, of_dy);
    load_floats(vectors.of_x + c, of_x);
    load_floats(vectors.shift + c, shift);
    if (y != nullptr) {
      float result[N];
      load_floats(y + i * N, result);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) g[k] = result[k] <= 0.0f ? 0.0f : g[k];
    }
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) v[k] = of_dy[k] * g[k] + of_x[k] * (v[k] - mean[k]) + shift[k];
    store_floats(dx + i * N, v);
  }
}

}  // namespace trivet::kernels::cuda
