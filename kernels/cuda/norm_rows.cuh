// Layer and RMS normalization of rows. Bound: forward, x read once and y written once; backward, dy and x read once and
// dx written once, while the sums for gamma and beta stay in shared memory until a block has done all its rows.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

struct Moments {
  float sum;
  float squares;
  TRIVET_DEVICE Moments operator+(const Moments& other) const { return {sum + other.sum, squares + other.squares}; }
};
TRIVET_DEVICE Moments shuffle_xor(const Moments& v, int distance) {
  return {shuffle_xor(v.sum, distance), shuffle_xor(v.squares, distance)};
}

struct NormalizedRows {
  const float* gamma;
  const float* beta;  // or null
  float* mean;        // null without centering
  float* rstd;
  float epsilon;
};

// y = (x - mean) rstd gamma + beta, variances around the mean: E[x^2] - mean^2 cancels where the mean is large. y may
// be x.
template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    norm_rows_kernel(const T* x, T* y, std::int64_t rows, RowLayout layout, NormalizedRows norm) {
  TRIVET_DYNAMIC_SHARED(float, shared);
  const float inverse = 1.0f / static_cast<float>(layout.n);
  for (std::int64_t r = first_row<kGroup>(); r < rows; r += row_step<kGroup>()) {
    Row<kGroup, N, T> row(x + r * layout.n, shared, layout);
    float sum = 0;
    row.load([&](float v) { sum += v; });
    const float mean = norm.mean != nullptr ? group_sum<kGroup>(sum) * inverse : 0.0f;
    Moments moments{};
    row.each([&](float v) {
      const float d = v - mean;
      moments.sum += d;
      moments.squares += d * d;
    });
    moments = join_group<kGroup>(moments, Moments{}, Plus{});
    // What rounding took from the mean: half a thousandth at a mean of 1e4.
    const float lost = norm.mean != nullptr ? moments.sum * inverse : 0.0f;
    const float variance = moments.squares * inverse - lost * lost;
    const float rstd = 1.0f / sqrtf((variance < 0.0f ? 0.0f : variance) + norm.epsilon);
    if (row.lane == 0) {
      if (norm.mean != nullptr) norm.mean[r] = mean + lost;
      norm.rstd[r] = rstd;
    }
    row.write_packs(y + r * layout.n, [&](std::int64_t c, float(&v)[N]) {
      float gamma[N];
      load_floats(norm.gamma + c, gamma);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) v[k] = ((v[k] - mean) - lost) * rstd * gamma[k];
      if (norm.beta == nullptr) return;
      float beta[N];
      load_floats(norm.beta + c, beta);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) v[k] += beta[k];
    });
  }
}

struct NormGradients {
  const float* gamma;
  const float* mean;  // null without centering
  const float* rstd;
  float* partial;  // (pieces, 2, columns)
};

// The rows of one piece are taken in order by one block of kGroup threads.
struct NormPieces {
  std::int64_t rows_of_piece = 1;
  std::int64_t pieces = 0;
  std::int64_t slots = 0;  // of each thread
  bool shared = false;     // the sums stay in shared memory, else they lie in `partial` from the beginning

  NormPieces(std::int64_t rows, std::int64_t n, int group, int pack) {
    const std::int64_t most = group == kWarp ? 1024 : 256;
    rows_of_piece = (rows + most - 1) / most;
    if (rows_of_piece < 4) rows_of_piece = 4;
    pieces = (rows + rows_of_piece - 1) / rows_of_piece;
    const std::int64_t step = std::int64_t{group} * pack;
    slots = (n + step - 1) / step * pack;
    shared = slots * group <= 6144;  // 48 KiB for two sums of each
  }
};

// With g = gamma dy and z = (x - mean) rstd: dx = rstd (g - average(g) - z average(g z)); without centering there is no
// average(g). The piece's sums of dy z and dy go to `partial`. dx may be dy or x.
template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kGroup, 2)
    norm_rows_backward_kernel(const T* dy, const T* x, T* dx, std::int64_t rows, std::int64_t n, NormPieces pieces,
                              NormGradients norm) {
  TRIVET_DYNAMIC_SHARED(float, shared);
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t piece = blockIdx.x;
  const float inverse = 1.0f / static_cast<float>(n);
  // This thread's sums: those of its columns, kGroup apart in shared memory or where the columns are in `partial`.
  float* const partial = norm.partial + piece * 2 * n;
  float* const dgamma = pieces.shared ? shared + lane : partial;
  float* const dbeta = pieces.shared ? dgamma + pieces.slots * kGroup : partial + n;
  const std::int64_t first = piece * pieces.rows_of_piece;
  const std::int64_t last = first + pieces.rows_of_piece < rows ? first + pieces.rows_of_piece : rows;
  for (std::int64_t r = first; r < last; ++r) {
    const float mean = norm.mean != nullptr ? norm.mean[r] : 0.0f;
    const float rstd = norm.rstd[r];
    Moments sums{};
    TRIVET_NO_UNROLL
    for (std::int64_t c = std::int64_t{lane} * N; c < n; c += std::int64_t{kGroup} * N) {
      float g[N], v[N], gamma[N];
      load_floats(dy + r * n + c, g);
      load_floats(x + r * n + c, v);
      load_floats(norm.gamma + c, gamma);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        sums.sum += g[k] * gamma[k];
        sums.squares += g[k] * gamma[k] * (v[k] - mean);
      }
    }
    sums = join_group<kGroup>(sums, Moments{}, Plus{});
    const float average = norm.mean != nullptr ? sums.sum * inverse : 0.0f;
    const float slope = sums.squares * rstd * inverse;
    std::int64_t slot = 0;
    TRIVET_NO_UNROLL
    for (std::int64_t c = std::int64_t{lane} * N; c < n;
         c += std::int64_t{kGroup} * N, slot += std::int64_t{kGroup} * N) {
      float g[N], v[N], gamma[N];
      load_floats(dy + r * n + c, g);
      load_floats(x + r * n + c, v);
      load_floats(norm.gamma + c, gamma);
      float out[N];
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) {
        const float z = (v[k] - mean) * rstd;
        out[k] = ((g[k] * gamma[k] - average) - z * slope) * rstd;
        const std::int64_t at = pieces.shared ? slot + k * kGroup : c + k;
        dgamma[at] = r == first ? g[k] * z : dgamma[at] + g[k] * z;
        dbeta[at] = r == first ? g[k] : dbeta[at] + g[k];
      }
      store_floats(dx + r * n + c, out);
    }
  }
  if (!pieces.shared) return;
  std::int64_t slot = 0;
  TRIVET_NO_UNROLL
  for (std::int64_t c = std::int64_t{lane} * N; c < n;
       c += std::int64_t{kGroup} * N, slot += std::int64_t{kGroup} * N) {
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      partial[c + k] = dgamma[slot + k * kGroup];
      partial[n + c + k] = dbeta[slot + k * kGroup];
    }
  }
}

}  // namespace trivet::kernels::cuda
