// Attention by tiles of queries and keys, so that scores never reach memory: Dao, "FlashAttention-2" (2023), algorithms
// 1 and 2. A block of four warps owns 64 rows, 16 for each warp, and walks over the columns in tiles. The backward pass
// runs twice over the scores, once by rows of queries for dq and once by rows of keys for dk and dv, so that every
// gradient is added up by one warp in one order. Its 7 products, instead of 5, are the price.
//
// Bound: of long sequences the products, 4 T S D FLOPs for each head forward and 14 T S D backward (half if causal); of
// short ones the bytes of q, k, v, y (and their gradients). Heads narrower than kWidth are filled up with zeros.
#pragma once

#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace trivet::kernels::cuda {

inline constexpr int kAttentionBlock = 128;
inline constexpr int kAttentionRows = 64;  // of a block

// Sizes: query heads h, key heads g, queries t, keys s, elements d of q and k, e of v; and the scores' mask.
struct AttentionProblem {
  std::int64_t heads = 0;      // h of all samples
  std::int64_t key_heads = 0;  // g of all samples
  int h = 0, g = 0, t = 0, s = 0, d = 0, e = 0;
  bool causal = false;
  bool packed = false;  // rows of all tensors are aligned to 16 bytes
  bool mask_is_bool = false;
  float scale = 1;
  const void* mask = nullptr;
  std::int64_t mask_stride[4] = {};

  // The key head that a query head sees, both counted over all samples.
  TRIVET_DEVICE std::int64_t key_head(std::int64_t head) const { return head / h * g + head % h / (h / g); }

  // The mask's first element for a query head.
  TRIVET_DEVICE std::int64_t mask_of(std::int64_t head) const {
    return head / h * mask_stride[0] + head % h * mask_stride[1];
  }

  // A score, from the product of its query and key; -inf where the query does not see the key.
  TRIVET_DEVICE float score(float product, std::int64_t mask_first, int query, int key) const {
    if (query >= t || key >= s || (causal && key > query)) return -infinity();
    const float scaled = product * scale;
    if (mask == nullptr) return scaled;
    const std::int64_t at = mask_first + query * mask_stride[2] + key * mask_stride[3];
    if (!mask_is_bool) return scaled + static_cast<const float*>(mask)[at];
    return static_cast<const unsigned char*>(mask)[at] != 0 ? scaled : -infinity();
  }

  // The weight of a score, given its query's log-sum-exp. A query that sees nothing weighs nothing.
  TRIVET_DEVICE static float weight(float score, float lse) { return lse == -infinity() ? 0.0f : expf(score - lse); }
};

// Distances between the rows of tiles: 16 bytes more than a row, so that eight rows lie in different banks.
template <class T, int kWidth>
inline constexpr int kTileStride = kWidth + kPack<T>;

// Columns of a tile of scores. f32 takes narrow ones, so that a block fits in 99 KiB of shared memory.
template <class T>
inline constexpr int kForwardColumns = sizeof(T) == 2 ? 64 : 32;
template <class T>
inline constexpr int kBackwardColumns = sizeof(T) == 2 ? 32 : 16;

template <class T, int kWidth>
constexpr std::size_t forward_shared_bytes() {
  return sizeof(T) * static_cast<std::size_t>((kAttentionRows + 2 * kForwardColumns<T>)*kTileStride<T, kWidth> +
                                              kAttentionRows * kTileStride<T, kForwardColumns<T>>);
}
template <class T, int kWidth>
constexpr std::size_t backward_shared_bytes() {
  return sizeof(T) * static_cast<std::size_t>((2 * kAttentionRows + 2 * kBackwardColumns<T>)*kTileStride<T, kWidth> +
                                              kAttentionRows * kTileStride<T, kBackwardColumns<T>>);
}

// Copies rows [first, first + kRows) of a matrix (rows, width) to a tile, zeros where it ends.
template <int kRows, int kWidth, class T>
TRIVET_DEVICE void load_tile(T* tile, const T* matrix, int first, int rows, int width, bool packed) {
  constexpr int kStride = kTileStride<T, kWidth>;
  const T* const from = matrix + std::int64_t{first} * width;
  const int left = rows - first;
  if (packed) {
    constexpr int kN = kPack<T>;
    TRIVET_NO_UNROLL
    for (int i = static_cast<int>(threadIdx.x) * kN; i < kRows * kWidth; i += kAttentionBlock * kN) {
      const int row = i / kWidth, column = i % kWidth;
      Pack<T> pack{};
      if (row < left && column < width) pack = load_pack<kN>(from + row * width + column);
      store_pack(tile + row * kStride + column, pack);
    }
    return;
  }
  TRIVET_NO_UNROLL
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kWidth; i += kAttentionBlock) {
    const int row = i / kWidth, column = i % kWidth;
    tile[row * kStride + column] = row < left && column < width ? from[row * width + column] : T{};
  }
}

// Writes the warp's fragments to rows [first, first + 16) of a matrix (rows, width), times a factor for each half.
template <int kTiles, class T>
TRIVET_DEVICE void store_fragments(T* matrix, const float (&c)[kTiles][4], int first, int rows, int width, float low,
                                   float high) {
  const FragmentPlace at;
  TRIVET_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = first + at.row + 8 * half;
    if (row >= rows) continue;
    T* const to = matrix + std::int64_t{row} * width;
    const float factor = half == 0 ? low : high;
    TRIVET_UNROLL
    for (int n = 0; n < kTiles; ++n) {
      TRIVET_UNROLL
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * n + at.column + e;
        if (column < width) to[column] = narrow<T>(c[n][2 * half + e] * factor);
      }
    }
  }
}

// Joins what the four lanes of a row have.
template <class Join>
TRIVET_DEVICE float join_row(float v, const Join& join) {
  v = join(v, shuffle_xor(v, 1));
  return join(v, shuffle_xor(v, 2));
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kAttentionBlock, 2)
    attention_kernel(const T* q, const T* k, const T* v, T* y, float* lse, AttentionProblem p) {
  constexpr int kColumns = kForwardColumns<T>, kTiles = kColumns / 8;
  constexpr int kStride = kTileStride<T, kWidth>, kScoreStride = kTileStride<T, kColumns>;
  TRIVET_DYNAMIC_SHARED(T, q_tile);
  T* const k_tile = q_tile + kAttentionRows * kStride;
  T* const v_tile = k_tile + kColumns * kStride;
  const int of_warp = static_cast<int>(threadIdx.x) / kWarp * 16;
  T* const weights = v_tile + kColumns * kStride + of_warp * kScoreStride;
  const FragmentPlace at;
  const int parts = (p.t + kAttentionRows - 1) / kAttentionRows;
  for (std::int64_t item = blockIdx.x; item < p.heads * parts; item += gridDim.x) {
    // The last queries see the most keys under a causal mask: they start first.
    const int first = (parts - 1 - static_cast<int>(item % parts)) * kAttentionRows;
    const std::int64_t head = item / parts, shared = p.key_head(head), mask = p.mask_of(head);
    const int end = p.causal && first + kAttentionRows < p.s ? first + kAttentionRows : p.s;
    __syncthreads();
    load_tile<kAttentionRows, kWidth>(q_tile, q + head * p.t * p.d, first, p.t, p.d, p.packed);
    float sums[kWidth / 8][4] = {};
    float largest[2] = {-infinity(), -infinity()};
    float total[2] = {};
    for (int key = 0; key < end; key += kColumns) {
      __syncthreads();
      load_tile<kColumns, kWidth>(k_tile, k + shared * p.s * p.d, key, p.s, p.d, p.packed);
      load_tile<kColumns, kWidth>(v_tile, v + shared * p.s * p.e, key, p.s, p.e, p.packed);
      __syncthreads();
      float scores[kTiles][4] = {};
      multiply_by_rows<kWidth>(scores, q_tile + of_warp * kStride, kStride, k_tile, kStride);
      TRIVET_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = at.row + 8 * half;
        float now = largest[half];
        TRIVET_UNROLL
        for (int i = 0; i < 2 * kTiles; ++i) {
          float& score = scores[i / 2][2 * half + i % 2];
          score = p.score(score, mask, first + of_warp + row, key + i / 2 * 8 + at.column + i % 2);
          now = larger(now, score);
        }
        now = join_row(now, Larger{});
        const float base = now == -infinity() ? 0.0f : now;  // where nothing is seen, weights are 0 and not NaN
        const float correction = expf(largest[half] - base);
        largest[half] = now;
        total[half] *= correction;
        TRIVET_UNROLL
        for (int i = 0; i < 2 * kTiles; ++i) {
          const float weight = expf(scores[i / 2][2 * half + i % 2] - base);
          total[half] += weight;
          weights[row * kScoreStride + i / 2 * 8 + at.column + i % 2] = narrow<T>(weight);
        }
        TRIVET_UNROLL
        for (int n = 0; n < kWidth / 8; ++n) {
          sums[n][2 * half] *= correction;
          sums[n][2 * half + 1] *= correction;
        }
      }
      __syncwarp();
      multiply_by_columns<kColumns>(sums, weights, kScoreStride, v_tile, kStride);
    }
    float factor[2];
    TRIVET_UNROLL
    for (int half = 0; half < 2; ++half) {
      total[half] = join_row(total[half], Plus{});
      factor[half] = total[half] == 0.0f ? 0.0f : 1.0f / total[half];
      const int query = first + of_warp + at.row + 8 * half;
      if (at.column == 0 && query < p.t) {
        lse[head * p.t + query] = total[half] == 0.0f ? -infinity() : largest[half] + logf(total[half]);
      }
    }
    store_fragments(y + head * p.t * p.e, sums, first + of_warp, p.t, p.e, factor[0], factor[1]);
  }
}

// delta = sum(y dy) of each query: a warp for each.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    attention_delta_kernel(const T* y, const T* dy, float* delta, std::int64_t rows, int width) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t row = first_row<kWarp>(); row < rows; row += row_step<kWarp>()) {
    float sum = 0;
    for (int i = lane; i < width; i += kWarp) sum += widen(y[row * width + i]) * widen(dy[row * width + i]);
    sum = group_sum<kWarp>(sum);
    if (lane == 0) delta[row] = sum;
  }
}

template <class T>
struct AttentionGradients {
  const T* q;
  const T* k;
  const T* v;
  const float* lse;
  const T* dy;
  const float* delta;
  T* dq;
  T* dk;
  T* dv;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kAttentionBlock, 2)
    attention_queries_backward_kernel(AttentionGradients<T> a, AttentionProblem p) {
  constexpr int kColumns = kBackwardColumns<T>, kTiles = kColumns / 8;
  constexpr int kStride = kTileStride<T, kWidth>, kScoreStride = kTileStride<T, kColumns>;
  TRIVET_DYNAMIC_SHARED(T, q_tile);
  T* const dy_tile = q_tile + kAttentionRows * kStride;
  T* const k_tile = dy_tile + kAttentionRows * kStride;
  T* const v_tile = k_tile + kColumns * kStride;
  const int of_warp = static_cast<int>(threadIdx.x) / kWarp * 16;
  T* const slopes = v_tile + kColumns * kStride + of_warp * kScoreStride;
  const FragmentPlace at;
  const int parts = (p.t + kAttentionRows - 1) / kAttentionRows;
  for (std::int64_t item = blockIdx.x; item < p.heads * parts; item += gridDim.x) {
    const int first = (parts - 1 - static_cast<int>(item % parts)) * kAttentionRows;
    const std::int64_t head = item / parts, shared = p.key_head(head), mask = p.mask_of(head);
    const int end = p.causal && first + kAttentionRows < p.s ? first + kAttentionRows : p.s;
    __syncthreads();
    load_tile<kAttentionRows, kWidth>(q_tile, a.q + head * p.t * p.d, first, p.t, p.d, p.packed);
    load_tile<kAttentionRows, kWidth>(dy_tile, a.dy + head * p.t * p.e, first, p.t, p.e, p.packed);
    float lse[2], delta[2];
    TRIVET_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int query = first + of_warp + at.row + 8 * half;
      lse[half] = query < p.t ? a.lse[head * p.t + query] : -infinity();
      delta[half] = query < p.t ? a.delta[head * p.t + query] : 0.0f;
    }
    float dq[kWidth / 8][4] = {};
    for (int key = 0; key < end; key += kColumns) {
      __syncthreads();
      load_tile<kColumns, kWidth>(k_tile, a.k + shared * p.s * p.d, key, p.s, p.d, p.packed);
      load_tile<kColumns, kWidth>(v_tile, a.v + shared * p.s * p.e, key, p.s, p.e, p.packed);
      __syncthreads();
      float scores[kTiles][4] = {}, dweights[kTiles][4] = {};
      multiply_by_rows<kWidth>(scores, q_tile + of_warp * kStride, kStride, k_tile, kStride);
      multiply_by_rows<kWidth>(dweights, dy_tile + of_warp * kStride, kStride, v_tile, kStride);
      TRIVET_UNROLL
      for (int i = 0; i < 4 * kTiles; ++i) {
        const int n = i / 4, e = i % 4, half = e / 2;
        const int row = at.row + 8 * half, column = 8 * n + at.column + e % 2;
        const float score = p.score(scores[n][e], mask, first + of_warp + row, key + column);
        const float weight = AttentionProblem::weight(score, lse[half]);
        slopes[row * kScoreStride + column] = narrow<T>(weight * (dweights[n][e] - delta[half]));
      }
      __syncwarp();
      multiply_by_columns<kColumns>(dq, slopes, kScoreStride, k_tile, kStride);
    }
    store_fragments(a.dq + head * p.t * p.d, dq, first + of_warp, p.t, p.d, p.scale, p.scale);
  }
}

// Rows are keys, columns the queries of all heads that share them.
template <class T, int kWidth>
__global__ void __launch_bounds__(kAttentionBlock, 2)
    attention_keys_backward_kernel(AttentionGradients<T> a, AttentionProblem p) {
  constexpr int kColumns = kBackwardColumns<T>, kTiles = kColumns / 8;
  constexpr int kStride = kTileStride<T, kWidth>, kScoreStride = kTileStride<T, kColumns>;
  TRIVET_DYNAMIC_SHARED(T, k_tile);
  TRIVET_SHARED(float, lse, kBackwardColumns<T>);
  TRIVET_SHARED(float, delta, kBackwardColumns<T>);
  T* const v_tile = k_tile + kAttentionRows * kStride;
  T* const q_tile = v_tile + kAttentionRows * kStride;
  T* const dy_tile = q_tile + kColumns * kStride;
  const int thread = static_cast<int>(threadIdx.x), of_warp = thread / kWarp * 16;
  T* const factors = dy_tile + kColumns * kStride + of_warp * kScoreStride;
  const FragmentPlace at;
  const int parts = (p.s + kAttentionRows - 1) / kAttentionRows;
  for (std::int64_t item = blockIdx.x; item < p.key_heads * parts; item += gridDim.x) {
    const int first = static_cast<int>(item % parts) * kAttentionRows;
    const std::int64_t shared = item / parts;
    __syncthreads();
    load_tile<kAttentionRows, kWidth>(k_tile, a.k + shared * p.s * p.d, first, p.s, p.d, p.packed);
    load_tile<kAttentionRows, kWidth>(v_tile, a.v + shared * p.s * p.e, first, p.s, p.e, p.packed);
    float dk[kWidth / 8][4] = {}, dv[kWidth / 8][4] = {};
    const int begin = p.causal ? first : 0, sharing = p.h / p.g;
    for (std::int64_t head = shared * sharing; head < (shared + 1) * sharing; ++head) {
      const std::int64_t mask = p.mask_of(head);
      for (int query = begin; query < p.t; query += kColumns) {
        __syncthreads();
        load_tile<kColumns, kWidth>(q_tile, a.q + head * p.t * p.d, query, p.t, p.d, p.packed);
        load_tile<kColumns, kWidth>(dy_tile, a.dy + head * p.t * p.e, query, p.t, p.e, p.packed);
        if (thread < kColumns) {
          const bool inside = query + thread < p.t;
          lse[thread] = inside ? a.lse[head * p.t + query + thread] : -infinity();
          delta[thread] = inside ? a.delta[head * p.t + query + thread] : 0.0f;
        }
        __syncthreads();
        float scores[kTiles][4] = {}, dweights[kTiles][4] = {};
        multiply_by_rows<kWidth>(scores, k_tile + of_warp * kStride, kStride, q_tile, kStride);
        multiply_by_rows<kWidth>(dweights, v_tile + of_warp * kStride, kStride, dy_tile, kStride);
        TRIVET_UNROLL
        for (int i = 0; i < 4 * kTiles; ++i) {
          const int n = i / 4, e = i % 4;
          const int row = at.row + e / 2 * 8, column = 8 * n + at.column + e % 2;
          const float score = p.score(scores[n][e], mask, query + column, first + of_warp + row);
          const float weight = AttentionProblem::weight(score, lse[column]);
          factors[row * kScoreStride + column] = narrow<T>(weight);
          dweights[n][e] = weight * (dweights[n][e] - delta[column]);
        }
        __syncwarp();
        multiply_by_columns<kColumns>(dv, factors, kScoreStride, dy_tile, kStride);
        __syncwarp();
        TRIVET_UNROLL
        for (int i = 0; i < 4 * kTiles; ++i) {
          const int row = at.row + i % 4 / 2 * 8, column = i / 4 * 8 + at.column + i % 2;
          factors[row * kScoreStride + column] = narrow<T>(dweights[i / 4][i % 4]);
        }
        __syncwarp();
        multiply_by_columns<kColumns>(dk, factors, kScoreStride, q_tile, kStride);
      }
    }
    store_fragments(a.dk + shared * p.s * p.d, dk, first + of_warp, p.s, p.d, p.scale, p.scale);
    store_fragments(a.dv + shared * p.s * p.e, dv, first + of_warp, p.s, p.e, 1.0f, 1.0f);
  }
}

}  // namespace trivet::kernels::cuda
