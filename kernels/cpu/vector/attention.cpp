// Attention by blocks of queries and keys, so that scores never leave the cache, and its backward pass, which computes
// them again.
#include "kernels/cpu/vector/attention.h"

#include <omp.h>

#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_products.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_attention.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr std::int64_t kQueries = 32;
constexpr std::int64_t kKeys = 2 * kPanelColumns;
constexpr float kNoScores[kKeys] = {};
constexpr float kMinusInfinity = -__builtin_inff();

// Sizes: batch b, query heads h, key heads g, queries t, keys s, elements d of q and k, e of v.
struct Sizes {
  std::int64_t b, h, g, t, s, d, e;
  std::int64_t d_wide, e_wide;  // rows of f32 scratch, filled up to whole vectors
  std::int64_t blocks;          // of keys
  bool causal;
  float scale;

  Sizes(const TensorDesc& q, const TensorDesc& k, const TensorDesc& v, const AttentionAttrs& attrs)
      : b(q.shape[0]),
        h(q.shape[1]),
        g(k.shape[1]),
        t(q.shape[2]),
        s(k.shape[2]),
        d(q.shape[3]),
        e(v.shape[3]),
        d_wide(round_up_to_lanes(d)),
        e_wide(round_up_to_lanes(e)),
        blocks((s + kKeys - 1) / kKeys),
        causal(attrs.is_causal),
        scale(static_cast<float>(attrs.scale == 0 ? 1 / __builtin_sqrt(static_cast<double>(d)) : attrs.scale)) {}

  // How many keys of the block from `first` on query `query` sees.
  std::int64_t visible(std::int64_t query, std::int64_t first) const {
    const std::int64_t end = causal && query + 1 < s ? query + 1 : s;
    const std::int64_t n = end - first;
    return n < 0 ? 0 : n < kKeys ? n : kKeys;
  }
};

// The optional mask, broadcast to (B, H, T, S).
struct Mask {
  const View* view = nullptr;
  std::int64_t stride[4] = {};

  Mask(const KernelArgs& args, std::size_t input) {
    if (input >= args.in.size() || args.in[input].data == nullptr) return;
    view = &args.in[input];
    std::int64_t step = 1;
    for (int i = 1; i <= view->rank; ++i) {
      const std::int64_t size = view->shape[view->rank - i];
      stride[4 - i] = size == 1 ? 0 : step;
      step *= size;
    }
  }

  // Puts the mask onto the scores of one query with the n keys from `key` on.
  void apply(std::int64_t b, std::int64_t h, std::int64_t query, std::int64_t key, std::int64_t n,
             float* scores) const {
    if (view == nullptr) return;
    const std::int64_t first = b * stride[0] + h * stride[1] + query * stride[2] + key * stride[3];
    const std::int64_t step = stride[3];
    if (view->dtype == DType::f32) {
      const float* const added = static_cast<const float*>(view->data) + first;
      for (std::int64_t i = 0; i < n; ++i) scores[i] += added[i * step];
    } else {
      const unsigned char* const keep = static_cast<const unsigned char*>(view->data) + first;
      for (std::int64_t i = 0; i < n; ++i) scores[i] = keep[i * step] != 0 ? scores[i] : kMinusInfinity;
    }
  }
};

// Rows of a matrix (rows, width) as scaled f32, filled up with zeros to wide.
template <class T>
void load_rows(const T* from, std::int64_t rows, std::int64_t width, std::int64_t wide, float scale, float* to) {
  for (std::int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) to[i * wide + j] = scale * to_f32(from[i * width + j]);
    if (width < wide) zero_row(to + i * wide + width, wide - width);
  }
}

// Columns of one block of keys: to (width, kKeys) = from (keys, width)^T, filled up with zeros.
template <class T>
void load_transposed(const T* from, std::int64_t keys, std::int64_t width, float* to) {
  for (std::int64_t j = 0; j < width; ++j) {
    for (std::int64_t i = 0; i < keys; ++i) to[j * kKeys + i] = to_f32(from[i * width + j]);
    if (keys < kKeys) zero_row(to + j * kKeys + keys, kKeys - keys);
  }
}

std::int64_t keys_of_block(const Sizes& z, std::int64_t block) {
  const std::int64_t left = z.s - block * kKeys;
  return left < kKeys ? left : kKeys;
}

// ---- forward ----

// v can be used where it lies.
bool is_v_whole(const Sizes& z, DType dtype) { return dtype == DType::f32 && z.e == z.e_wide; }

struct ForwardSizes {
  std::int64_t keys;     // k transposed, of all heads
  std::int64_t values;   // v, of all heads
  std::int64_t scratch;  // of one thread

  ForwardSizes(const Sizes& z, DType dtype)
      : keys(z.b * z.g * z.blocks * z.d * kKeys),
        values(is_v_whole(z, dtype) ? 0 : z.b * z.g * z.s * z.e_wide),
        scratch(kQueries * (z.d_wide + kKeys + z.e_wide + 2 * kLanes)) {}
};

// A block of queries, its scores with one block of keys, and what has been added up so far: for each query the largest
// score, the sum of exponentials and the weighted values (not yet divided by it).
struct QueryBlock {
  float* q;
  float* scores;
  float* y;
  float* largest;
  float* sum;

  QueryBlock(const Sizes& z, float* memory) {
    q = memory;
    scores = q + kQueries * z.d_wide;
    y = scores + kQueries * kKeys;
    largest = y + kQueries * z.e_wide;
    sum = largest + kQueries;
  }
};

// Takes the n scores of one query into its sums; they become weights, relative to the largest score so far.
[[gnu::noinline]] void take_scores(std::int64_t n, std::int64_t e_wide, float* scores, float* largest, float* sum,
                                   float* y) {
  const float block_largest = row_max(scores, n);
  const float now = block_largest > *largest ? block_largest : *largest;
  // Without any key seen, all exponentials are to be 0 and not NaN.
  const float base = now == kMinusInfinity ? 0.0f : now;
  const float added = row_costly_sum(n, [=](std::int64_t i) {
    const float p = exp_f32(scores[i] - base);
    scores[i] = p;
    return p;
  });
  if (n < kKeys) zero_row(scores + n, kKeys - n);
  const float correction = exp_f32(*largest - base);
  *largest = now;
  *sum = *sum * correction + added;
  if (correction == 1.0f) return;
#pragma omp simd
  for (std::int64_t j = 0; j < e_wide; ++j) y[j] *= correction;
}

template <class T>
[[gnu::noinline]] void attend(const Sizes& z, const Mask& mask, std::int64_t b, std::int64_t h, std::int64_t first,
                              const QueryBlock& own, const T* q, const float* keys, const float* values, T* y,
                              float* lse) {
  const std::int64_t rows = z.t - first < kQueries ? z.t - first : kQueries;
  load_rows(q + first * z.d, rows, z.d, z.d_wide, z.scale, own.q);
  zero_row(own.y, rows * z.e_wide);
  zero_row(own.sum, rows);
  for (std::int64_t i = 0; i < rows; ++i) own.largest[i] = kMinusInfinity;
  for (std::int64_t block = 0; block < z.blocks; ++block) {
    const std::int64_t key = block * kKeys;
    if (z.visible(first + rows - 1, key) == 0) break;
    multiply_from({kNoScores, 0}, rows, z.d, kKeys, own.q, z.d_wide, keys + block * z.d * kKeys, kKeys, own.scores,
                  kKeys);
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t n = z.visible(first + i, key);
      float* const scores = own.scores + i * kKeys;
      mask.apply(b, h, first + i, key, n, scores);
      take_scores(n, z.e_wide, scores, own.largest + i, own.sum + i, own.y + i * z.e_wide);
    }
    multiply(rows, keys_of_block(z, block), z.e_wide, own.scores, kKeys, values + key * z.e_wide, z.e_wide, own.y,
             z.e_wide);
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    const float sum = own.sum[i];
    const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
    T* const to = y + (first + i) * z.e;
    const float* const from = own.y + i * z.e_wide;
#pragma omp simd
    for (std::int64_t j = 0; j < z.e; ++j) to[j] = from_f32<T>(from[j] * factor);
    lse[first + i] = sum == 0.0f ? kMinusInfinity : own.largest[i] + log_f32(sum);
  }
}

template <class T>
void attention(const KernelArgs& args) {
  const Sizes z(args.in[0], args.in[1], args.in[2], args.attributes<AttentionAttrs>());
  const ForwardSizes sizes(z, args.in[0].dtype);
  const Mask mask(args, 3);
  const T* const q = static_cast<const T*>(args.in[0].data);
  const T* const k = static_cast<const T*>(args.in[1].data);
  const T* const v = static_cast<const T*>(args.in[2].data);
  T* const y = static_cast<T*>(args.out[0].data);
  float* const lse = static_cast<float*>(args.out[1].data);
  float* const keys = static_cast<float*>(args.workspace);
  float* const copied_values = keys + sizes.keys;
  float* const scratch = copied_values + sizes.values;
  const bool whole = is_v_whole(z, args.in[0].dtype);
  const float* const values = whole ? static_cast<const float*>(args.in[2].data) : copied_values;
  parallel_pieces(z.b * z.g * z.blocks, 1, z.b * z.g * z.s * z.d, args.threads,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      const std::int64_t row = i / z.blocks * z.s + i % z.blocks * kKeys;
                      const std::int64_t rows = keys_of_block(z, i % z.blocks);
                      load_transposed(k + row * z.d, rows, z.d, keys + i * z.d * kKeys);
                      if (!whole) load_rows(v + row * z.e, rows, z.e, z.e_wide, 1.0f, copied_values + row * z.e_wide);
                    }
                  });
  const std::int64_t parts = (z.t + kQueries - 1) / kQueries;
  parallel_pieces(z.b * z.h * parts, 1, z.b * z.h * z.t * z.s, args.threads, [&](std::int64_t begin, std::int64_t end) {
    const QueryBlock own(z, scratch + omp_get_thread_num() * sizes.scratch);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / parts;
      const std::int64_t b = head / z.h;
      const std::int64_t h = head % z.h;
      const std::int64_t shared = b * z.g + h * z.g / z.h;
      attend(z, mask, b, h, i % parts * kQueries, own, q + head * z.t * z.d, keys + shared * z.blocks * z.d * kKeys,
             values + shared * z.s * z.e_wide, y + head * z.t * z.e, lse + head * z.t);
    }
  });
}

std::size_t attention_workspace(const KernelSpec& spec, const Prepared*) {
  const Sizes z(spec.in[0], spec.in[1], spec.in[2], spec.attributes<AttentionAttrs>());
  const ForwardSizes sizes(z, spec.in[0].dtype);
  return static_cast<std::size_t>(sizes.keys + sizes.values + spec.threads * sizes.scratch) * sizeof(float);
}

// ---- backward ----

// A thread's scratch: the gradients of one key head and of one query head, the block of keys and that of queries.
struct BackwardScratch {
  float* dk;
  float* dv;
  float* dq;
  float* delta;  // sum over a row of y dy
  float* keys_transposed;
  float* values_transposed;
  float* keys;
  float* q;
  float* dy;
  float* weights;
  float* dscores;

  static std::int64_t size(const Sizes& z) {
    return (z.s + z.t + kKeys + kQueries) * z.d_wide + (z.s + kQueries) * z.e_wide + round_up_to_lanes(z.t) +
           kKeys * (z.d + z.e + 2 * kQueries);
  }
  BackwardScratch(const Sizes& z, float* memory) {
    dk = memory;
    dv = dk + z.s * z.d_wide;
    dq = dv + z.s * z.e_wide;
    delta = dq + z.t * z.d_wide;
    keys_transposed = delta + round_up_to_lanes(z.t);
    values_transposed = keys_transposed + z.d * kKeys;
    keys = values_transposed + z.e * kKeys;
    q = keys + kKeys * z.d_wide;
    dy = q + kQueries * z.d_wide;
    weights = dy + kQueries * z.e_wide;
    dscores = weights + kQueries * kKeys;
  }
};

// One query: scores become weights, and the weights' gradients those of the scores.
[[gnu::noinline]] void scores_backward(std::int64_t n, float lse, float delta, float* weights, float* dscores) {
  if (lse == kMinusInfinity) n = 0;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float p = exp_f32(weights[i] - lse);
    weights[i] = p;
    dscores[i] = p * (dscores[i] - delta);
  }
  if (n == kKeys) return;
  zero_row(weights + n, kKeys - n);
  zero_row(dscores + n, kKeys - n);
}

template <class T>
struct BackwardData {
  const T* q;
  const T* k;
  const T* v;
  const T* y;
  const float* lse;
  const T* dy;
  T* dq;
  T* dk;
  T* dv;
};

// The block of queries from `first` on with the block of keys in the scratch.
template <class T>
void block_backward(const Sizes& z, const Mask& mask, const BackwardData<T>& data, std::int64_t b, std::int64_t h,
                    std::int64_t first, std::int64_t block, const BackwardScratch& own) {
  const std::int64_t rows = z.t - first < kQueries ? z.t - first : kQueries;
  const std::int64_t key = block * kKeys;
  const std::int64_t keys = keys_of_block(z, block);
  const std::int64_t query = (b * z.h + h) * z.t + first;
  load_rows(data.q + query * z.d, rows, z.d, z.d_wide, z.scale, own.q);
  load_rows(data.dy + query * z.e, rows, z.e, z.e_wide, 1.0f, own.dy);
  multiply_from({kNoScores, 0}, rows, z.d, kKeys, own.q, z.d_wide, own.keys_transposed, kKeys, own.weights, kKeys);
  multiply_from({kNoScores, 0}, rows, z.e, kKeys, own.dy, z.e_wide, own.values_transposed, kKeys, own.dscores, kKeys);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t n = z.visible(first + i, key);
    mask.apply(b, h, first + i, key, n, own.weights + i * kKeys);
    scores_backward(n, data.lse[query + i], own.delta[first + i], own.weights + i * kKeys, own.dscores + i * kKeys);
  }
  multiply<true>(keys, rows, z.e_wide, own.weights, kKeys, own.dy, z.e_wide, own.dv + key * z.e_wide, z.e_wide);
  multiply<true>(keys, rows, z.d_wide, own.dscores, kKeys, own.q, z.d_wide, own.dk + key * z.d_wide, z.d_wide);
  multiply(rows, keys, z.d_wide, own.dscores, kKeys, own.keys, z.d_wide, own.dq + first * z.d_wide, z.d_wide);
}

template <class T>
void store_rows(const float* from, std::int64_t rows, std::int64_t width, std::int64_t wide, float scale, T* to) {
  for (std::int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) to[i * width + j] = from_f32<T>(scale * from[i * wide + j]);
  }
}

template <class T>
[[gnu::noinline]] void head_backward(const Sizes& z, const Mask& mask, const BackwardData<T>& data, std::int64_t b,
                                     std::int64_t h, const BackwardScratch& own) {
  const std::int64_t head = b * z.h + h;
  const std::int64_t shared = b * z.g + h * z.g / z.h;
  zero_row(own.dq, z.t * z.d_wide);
  for (std::int64_t i = 0; i < z.t; ++i) {
    const T* const y = data.y + (head * z.t + i) * z.e;
    const T* const dy = data.dy + (head * z.t + i) * z.e;
    own.delta[i] = row_sum(z.e, [=](std::int64_t j) { return to_f32(y[j]) * to_f32(dy[j]); });
  }
  for (std::int64_t block = 0; block < z.blocks; ++block) {
    const std::int64_t key = block * kKeys;
    const std::int64_t keys = keys_of_block(z, block);
    const T* const k = data.k + (shared * z.s + key) * z.d;
    load_transposed(k, keys, z.d, own.keys_transposed);
    load_transposed(data.v + (shared * z.s + key) * z.e, keys, z.e, own.values_transposed);
    load_rows(k, keys, z.d, z.d_wide, 1.0f, own.keys);
    for (std::int64_t first = 0; first < z.t; first += kQueries) {
      const std::int64_t last = first + kQueries < z.t ? first + kQueries - 1 : z.t - 1;
      if (z.visible(last, key) > 0) block_backward(z, mask, data, b, h, first, block, own);
    }
  }
  store_rows(own.dq, z.t, z.d, z.d_wide, z.scale, data.dq + head * z.t * z.d);
}

// A task is one key head with all query heads that share it, so that nothing is added by two threads.
template <class T>
void attention_backward(const KernelArgs& args) {
  const Sizes z(args.in[0], args.in[1], args.in[2], args.attributes<AttentionAttrs>());
  const Mask mask(args, 6);
  const BackwardData<T> data{static_cast<const T*>(args.in[0].data),     static_cast<const T*>(args.in[1].data),
                             static_cast<const T*>(args.in[2].data),     static_cast<const T*>(args.in[3].data),
                             static_cast<const float*>(args.in[4].data), static_cast<const T*>(args.in[5].data),
                             static_cast<T*>(args.out[0].data),          static_cast<T*>(args.out[1].data),
                             static_cast<T*>(args.out[2].data)};
  float* const memory = static_cast<float*>(args.workspace);
  parallel_pieces(z.b * z.g, 1, z.b * z.h * z.t * z.s, args.threads, [&](std::int64_t begin, std::int64_t end) {
    const BackwardScratch own(z, memory + omp_get_thread_num() * BackwardScratch::size(z));
    for (std::int64_t i = begin; i < end; ++i) {
      zero_row(own.dk, z.s * z.d_wide);
      zero_row(own.dv, z.s * z.e_wide);
      const std::int64_t heads = z.h / z.g;
      for (std::int64_t j = 0; j < heads; ++j) {
        head_backward(z, mask, data, i / z.g, i % z.g * heads + j, own);
      }
      store_rows(own.dk, z.s, z.d, z.d_wide, 1.0f, data.dk + i * z.s * z.d);
      store_rows(own.dv, z.s, z.e, z.e_wide, 1.0f, data.dv + i * z.s * z.e);
    }
  });
}

std::size_t attention_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Sizes z(spec.in[0], spec.in[1], spec.in[2], spec.attributes<AttentionAttrs>());
  return static_cast<std::size_t>(spec.threads * BackwardScratch::size(z)) * sizeof(float);
}

void run_attention(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { attention<decltype(element)>(args); });
}

void run_attention_backward(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { attention_backward<decltype(element)>(args); });
}

bool computes(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kKernels[] = {
    {"scaled_dot_product_attention", computes, run_attention, nullptr, attention_workspace},
    {"scaled_dot_product_attention_backward", computes, run_attention_backward, nullptr, attention_backward_workspace},
    {"rotary_embedding", computes, run_rotary_embedding, nullptr, rotary_embedding_workspace},
    {"rotary_embedding_backward", computes, run_rotary_embedding_backward, nullptr, rotary_embedding_workspace},
};

}  // namespace

std::span<const KernelEntry> attention_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
