// What the kernels of recurrent layers share: sizes, shards of the batch, weights in panels.
//
// A shard of samples runs through all steps on one thread, so there is no barrier between steps and its states stay in
// the cache. Shards do not depend on the number of threads.
#pragma once

#include <omp.h>

#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_products.h"
#include "trivet/kernels/attrs_recurrent.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

inline constexpr std::int64_t kShardRows = 16;

// Floats from one row of a shard's scratch to the next: room for whole vectors, and an odd number of cache lines, so
// that rows do not fall into the same sets.
constexpr std::int64_t row_stride(std::int64_t width) { return round_up_to_lanes(width) + kLanes; }

// Sizes: samples n, steps t, input features f, hidden units h, directions d.
struct Layer {
  std::int64_t n = 0;
  std::int64_t t = 0;
  std::int64_t f = 0;
  std::int64_t h = 0;
  std::int64_t d = 0;
  Direction direction = Direction::forward;
  const std::int32_t* lengths = nullptr;

  bool is_reverse(std::int64_t dir) const { return direction == Direction::reverse || dir == 1; }
  // The step taken as number s in the direction's order.
  std::int64_t step(std::int64_t dir, std::int64_t s) const { return is_reverse(dir) ? t - 1 - s : s; }
  bool is_active(std::int64_t sample, std::int64_t step) const { return lengths == nullptr || step < lengths[sample]; }
  // The step before `step` in the direction's order; negative if there is none.
  std::int64_t step_before(std::int64_t dir, std::int64_t sample, std::int64_t step) const {
    if (!is_reverse(dir)) return step - 1;
    return step + 1 < t && is_active(sample, step + 1) ? step + 1 : -1;
  }
  // Row numbers in sequences (N, T, D, width) and in last states (N, D, H).
  std::int64_t sequence_row(std::int64_t sample, std::int64_t step, std::int64_t dir) const {
    return (sample * t + step) * d + dir;
  }
  std::int64_t last_row(std::int64_t sample, std::int64_t dir) const { return sample * d + dir; }
};

inline Layer layer_of(const TensorDesc& x, const TensorDesc& r, Direction direction) {
  Layer l;
  l.n = x.shape[0];
  l.t = x.shape[1];
  l.f = x.shape[2];
  l.d = r.shape[0];
  l.h = r.shape[2];
  l.direction = direction;
  return l;
}

// Samples [first, first + rows) in one direction.
struct Shard {
  std::int64_t dir;
  std::int64_t first;
  std::int64_t rows;
};

// Calls f(shard, scratch) for all shards; each thread has `scratch_floats` of its own from `scratch` on.
template <class F>
inline void for_each_shard(const Layer& layer, int threads, float* scratch, std::int64_t scratch_floats, const F& f) {
  const std::int64_t shards = (layer.n + kShardRows - 1) / kShardRows;
  const std::int64_t work = layer.n * layer.t * layer.d * layer.h * 4;
  parallel_pieces(layer.d * shards, 1, work, threads, [&](std::int64_t begin, std::int64_t end) {
    float* const own = scratch + omp_get_thread_num() * scratch_floats;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i % shards * kShardRows;
      f(Shard{i / shards, first, layer.n - first < kShardRows ? layer.n - first : kShardRows}, own);
    }
  });
}

// Asks for a row that the next step will use, so that it comes while the products are computed. Rows of one sample lie
// behind each other, but a shard walks over more of them at once than the processor follows by itself.
enum class Use { read, write };
template <Use use, class T>
inline void fetch_row(const T* row, std::int64_t n) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t i = 0; i < n; i += kLine) __builtin_prefetch(row + i, use == Use::write ? 1 : 0, 2);
}

// The state that a step of a sample began with: y of the step before, or the initial state; null for zeros.
template <class T>
inline const T* state_before(const Layer& l, std::int64_t dir, std::int64_t sample, std::int64_t step, const T* y,
                             const T* initial) {
  const std::int64_t before = l.step_before(dir, sample, step);
  if (before >= 0) return y + l.sequence_row(sample, before, dir) * l.h;
  return initial == nullptr ? nullptr : initial + l.last_row(sample, dir) * l.h;
}

// Panels of the transposed matrix: the matrix's rows become columns.
template <class T>
inline void pack_transposed(const T* matrix, std::int64_t rows, std::int64_t depth, float* panels, int threads) {
  const std::int64_t count = (rows + kPanelColumns - 1) / kPanelColumns;
  parallel_pieces(count, 1, rows * depth, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t first = p * kPanelColumns;
      const std::int64_t left = round_up_to_lanes(rows) - first;
      const std::int64_t width = left < kPanelColumns ? left : kPanelColumns;
      float* const panel = panels + first * depth;
      for (std::int64_t j = 0; j < width; ++j) {
        const T* const row = matrix + (first + j) * depth;
        const bool filled = first + j < rows;
        for (std::int64_t k = 0; k < depth; ++k) panel[k * width + j] = filled ? to_f32(row[k]) : 0.0f;
      }
    }
  });
}

// Panels of a matrix (depth, columns).
template <class T>
inline void pack_panels(const T* matrix, std::int64_t depth, std::int64_t columns, float* panels, int threads) {
  const std::int64_t count = (columns + kPanelColumns - 1) / kPanelColumns;
  parallel_pieces(count, 1, columns * depth, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t first = p * kPanelColumns;
      const std::int64_t left = round_up_to_lanes(columns) - first;
      const std::int64_t width = left < kPanelColumns ? left : kPanelColumns;
      const std::int64_t filled = columns - first < width ? columns - first : width;
      for (std::int64_t k = 0; k < depth; ++k) {
        float* const to = panels + first * depth + k * width;
        load_row(matrix + k * columns + first, filled, to);
        zero_row(to + filled, width - filled);
      }
    }
  });
}

// gru.cpp; the table of kernels is in recurrent.cpp.
void run_gru(const KernelArgs& args);
void run_gru_backward(const KernelArgs& args);
std::size_t gru_workspace(const KernelSpec& spec, const Prepared* prepared);
std::size_t gru_backward_workspace(const KernelSpec& spec, const Prepared* prepared);

}  // namespace trivet::kernels::cpu::TRIVET_ISA
