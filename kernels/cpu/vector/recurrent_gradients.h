// The part of the recurrent layers' backward ops that needs no order of steps: products over all samples and steps.
#pragma once

#include "kernels/cpu/vector/recurrent.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// Gradients of the gates' sums: for each direction some planes (N * T, H), of which the first `gates` belong to x's
// products. In planes, because a weight's gradient reads one gate's rows behind each other.
struct SumGradients {
  float* data = nullptr;
  std::int64_t plane_size = 0;
  std::int64_t planes = 0;
  std::int64_t gates = 0;

  SumGradients(const Layer& l, std::int64_t plane_count, std::int64_t gate_count, float* memory)
      : data(memory), plane_size(l.n * l.t * l.h), planes(plane_count), gates(gate_count) {}
  float* plane(std::int64_t dir, std::int64_t i) const { return data + (dir * planes + i) * plane_size; }
};

inline std::int64_t sum_gradients_size(const Layer& l, std::int64_t planes) { return l.d * planes * l.n * l.t * l.h; }

// One sample's row of all planes of a direction, from one row that has them side by side; null for zeros.
inline void put_sum_gradients(const Layer& l, const SumGradients& sums, std::int64_t dir, std::int64_t sample,
                              std::int64_t step, const float* row) {
  for (std::int64_t i = 0; i < sums.planes; ++i) {
    float* const to = sums.plane(dir, i) + (sample * l.t + step) * l.h;
    if (row == nullptr) {
      zero_row(to, l.h);
    } else {
      load_row(row + i * l.h, l.h, to);
    }
  }
}

// What a product with r took: a state, times a factor unless that is null. A null state is zeros.
template <class T>
struct StateRow {
  const T* state;
  const T* factor;
};

inline constexpr std::int64_t kGradientDepth = 128;  // rows (steps and samples) taken together
inline constexpr std::int64_t kGradientRows = 128;   // most rows of a weight that one task computes
inline constexpr std::int64_t kInputRows = 64;       // rows of dx that one task computes

inline std::int64_t largest(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// Where a gate's product with r is found: the plane of its sum's gradient, and which of the states it took.
struct RecurrentProduct {
  std::int64_t plane;
  std::int64_t state;
};

// x and the states that products with r took, as panels of kGradientDepth rows: (x, states of direction 0, of 1).
struct PackedInputs {
  float* x;
  float* states;
  std::int64_t state_size;  // of one state in one direction

  PackedInputs(const Layer& l, float* memory)
      : x(memory),
        states(memory + l.n * l.t * round_up_to_lanes(l.f)),
        state_size(l.n * l.t * round_up_to_lanes(l.h)) {}
  static std::int64_t size(const Layer& l, std::int64_t state_count) {
    return l.n * l.t * (round_up_to_lanes(l.f) + l.d * state_count * round_up_to_lanes(l.h));
  }
};

// Floats that a thread needs for a block of a weight's gradient.
inline std::int64_t weight_scratch(const Layer& l) {
  const std::int64_t width = round_up_to_lanes(l.f) + round_up_to_lanes(l.h);
  return kGradientRows * (width + 2 + kGradientDepth);
}

// Floats of workspace for both functions below, which do not run at the same time.
inline std::int64_t gradient_workspace(const Layer& l, std::int64_t gates, std::int64_t state_count,
                                       std::int64_t threads) {
  const std::int64_t weights = PackedInputs::size(l, state_count) + threads * weight_scratch(l);
  const std::int64_t inputs = l.d * gates * panels_size(l.h, l.f) + threads * kInputRows * row_stride(l.f);
  return largest(weights, inputs);
}

// Row k of panels of `depth` rows; n elements of a row times an optional factor, or zeros for a null row.
template <class T>
inline void put_panel_row(const T* row, const T* factor, std::int64_t n, std::int64_t depth, std::int64_t k,
                          float* panels) {
  for (std::int64_t first = 0; first < n; first += kPanelColumns) {
    const std::int64_t left = round_up_to_lanes(n) - first;
    const std::int64_t width = left < kPanelColumns ? left : kPanelColumns;
    const std::int64_t filled = n - first < width ? n - first : width;
    float* const to = panels + first * depth + k * width;
    if (row == nullptr) {
      zero_row(to, width);
      continue;
    }
    load_row(row + first, filled, to);
    if (filled < width) zero_row(to + filled, width - filled);
    for (std::int64_t j = 0; factor != nullptr && j < filled; ++j) to[j] *= to_f32(factor[first + j]);
  }
}

// The block a (depth, rows) in tiles of kTileRows columns, so that what a product reads at one step lies together.
inline void pack_tiles(const float* a, std::int64_t depth, std::int64_t lda, std::int64_t rows, float* tiles) {
  for (std::int64_t first = 0; first < rows; first += kTileRows) {
    const std::int64_t filled = rows - first < kTileRows ? rows - first : kTileRows;
    float* const tile = tiles + first * depth;
    if (filled == kTileRows) {
      for (std::int64_t k = 0; k < depth; ++k) {
        for (std::int64_t r = 0; r < kTileRows; ++r) tile[k * kTileRows + r] = a[k * lda + first + r];
      }
    } else {
      for (std::int64_t k = 0; k < depth; ++k) {
        for (std::int64_t r = 0; r < filled; ++r) tile[k * kTileRows + r] = a[k * lda + first + r];
      }
    }
  }
}

// c (rows, n) += a^T b for a (depth, rows) in tiles and b (depth, n) in panels.
inline void add_tall_product(std::int64_t rows, std::int64_t depth, std::int64_t n, const float* tiles,
                             const float* panels, float* c) {
  const std::int64_t ldc = round_up_to_lanes(n);
  for (std::int64_t first = 0; first < n; first += kPanelColumns) {
    const std::int64_t left = ldc - first;
    const std::int64_t width = left < kPanelColumns ? left : kPanelColumns;
    for (std::int64_t r = 0; r < rows; r += kTileRows) {
      const std::int64_t count = rows - r < kTileRows ? rows - r : kTileRows;
      detail::product_block<true>(count, width / kLanes, depth, tiles + r * depth, kTileRows, panels + first * depth,
                                  width, {c + r * ldc + first, ldc}, c + r * ldc + first, ldc);
    }
  }
}

inline void add_column_sums(const float* a, std::int64_t depth, std::int64_t lda, std::int64_t rows, float* sums) {
  for (std::int64_t k = 0; k < depth; ++k) {
#pragma omp simd
    for (std::int64_t j = 0; j < rows; ++j) sums[j] += a[k * lda + j];
    asm volatile("" ::: "memory");  // gcc would run several rows at once, which is slower
  }
}

// A block of rows of w and r: rows [first, first + rows) of one gate in one direction.
struct WeightBlock {
  std::int64_t dir;
  std::int64_t gate;
  std::int64_t first;
  std::int64_t rows;
};

// A block's gradients in a thread's scratch.
struct WeightScratch {
  float* dw;
  float* dr;
  float* bias;    // of w's half
  float* bias_r;  // of r's half
  float* tiles;

  WeightScratch(const Layer& l, float* memory) {
    dw = memory;
    dr = dw + kGradientRows * round_up_to_lanes(l.f);
    bias = dr + kGradientRows * round_up_to_lanes(l.h);
    bias_r = bias + kGradientRows;
    tiles = bias_r + kGradientRows;
    zero_row(memory, tiles - memory);
  }
};

// state_of(state, dir, sample, t) gives a row of a state.
template <class T, class State>
void pack_inputs(const Layer& l, const T* x, std::int64_t state_count, const State& state_of,
                 const PackedInputs& packed, int threads) {
  const std::int64_t work = l.n * l.t * (l.f + l.h);
  parallel_pieces(l.n * l.t, kGradientDepth, work, threads, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t depth = end - begin;
    for (std::int64_t k = 0; k < depth; ++k) {
      const std::int64_t sample = (begin + k) / l.t;
      const std::int64_t t = (begin + k) % l.t;
      const bool active = l.is_active(sample, t);
      put_panel_row(active ? x + (begin + k) * l.f : nullptr, static_cast<const T*>(nullptr), l.f, depth, k,
                    packed.x + begin * round_up_to_lanes(l.f));
      for (std::int64_t i = 0; i < l.d * state_count; ++i) {
        const auto row = active ? state_of(i % state_count, i / state_count, sample, t) : StateRow<T>{nullptr, nullptr};
        put_panel_row(row.state, row.factor, l.h, depth, k,
                      packed.states + i * packed.state_size + begin * round_up_to_lanes(l.h));
      }
    }
  });
}

inline void block_gradients(const Layer& l, const float* of_x, const float* of_r, std::int64_t rows, const float* x,
                            const float* state, const WeightScratch& own) {
  for (std::int64_t begin = 0; begin < l.n * l.t; begin += kGradientDepth) {
    const std::int64_t left = l.n * l.t - begin;
    const std::int64_t depth = left < kGradientDepth ? left : kGradientDepth;
    pack_tiles(of_x + begin * l.h, depth, l.h, rows, own.tiles);
    add_tall_product(rows, depth, l.f, own.tiles, x + begin * round_up_to_lanes(l.f), own.dw);
    add_column_sums(of_x + begin * l.h, depth, l.h, rows, own.bias);
    if (of_r != of_x) {
      pack_tiles(of_r + begin * l.h, depth, l.h, rows, own.tiles);
      add_column_sums(of_r + begin * l.h, depth, l.h, rows, own.bias_r);
    }
    add_tall_product(rows, depth, l.h, own.tiles, state + begin * round_up_to_lanes(l.h), own.dr);
  }
}

template <class T>
void store_block(const Layer& l, const KernelArgs& args, std::int64_t gates, const WeightBlock& block,
                 const float* bias_r, const WeightScratch& own) {
  const std::int64_t row = (block.dir * gates + block.gate) * l.h + block.first;
  for (std::int64_t j = 0; j < block.rows; ++j) {
    store_row(own.dw + j * round_up_to_lanes(l.f), l.f, static_cast<T*>(args.out[0].data) + (row + j) * l.f);
    store_row(own.dr + j * round_up_to_lanes(l.h), l.h, static_cast<T*>(args.out[1].data) + (row + j) * l.h);
  }
  T* const dbias = static_cast<T*>(args.out[2].data) + row + block.dir * gates * l.h;
  store_row(own.bias, block.rows, dbias);
  store_row(bias_r, block.rows, dbias + gates * l.h);
}

// Outputs 0 to 2: dw (D, gates * H, F), dr and dbias (D, 2 * gates * H). product_of(gate) says where a gate's product
// with r is found, state_of(state, dir, sample, t) what was taken.
template <class T, class Product, class State>
void weight_gradients(const Layer& l, const SumGradients& sums, const KernelArgs& args, std::int64_t state_count,
                      const Product& product_of, const State& state_of, float* workspace) {
  const PackedInputs packed(l, workspace);
  pack_inputs(l, static_cast<const T*>(args.in[0].data), state_count, state_of, packed, args.threads);
  float* const scratch = workspace + PackedInputs::size(l, state_count);
  const std::int64_t blocks = (l.h + kGradientRows - 1) / kGradientRows;
  const std::int64_t work = l.t * l.n * l.h;
  parallel_pieces(l.d * sums.gates * blocks, 1, work, args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t gate = i / blocks % sums.gates;
      const std::int64_t dir = i / blocks / sums.gates;
      const std::int64_t first = i % blocks * kGradientRows;
      const WeightBlock block{dir, gate, first, l.h - first < kGradientRows ? l.h - first : kGradientRows};
      const WeightScratch own(l, scratch + omp_get_thread_num() * weight_scratch(l));
      const RecurrentProduct product = product_of(gate);
      block_gradients(l, sums.plane(dir, gate) + first, sums.plane(dir, product.plane) + first, block.rows, packed.x,
                      packed.states + (dir * state_count + product.state) * packed.state_size, own);
      store_block<T>(l, args, sums.gates, block, product.plane == gate ? own.bias : own.bias_r, own);
    }
  });
}

// dx (N, T, F): the sums' gradients times w, over both directions.
template <class T>
void input_gradient(const Layer& l, const SumGradients& sums, const KernelArgs& args, T* dx, float* workspace) {
  const T* const w = static_cast<const T*>(args.in[1].data);
  const std::int64_t panels = sums.gates * panels_size(l.h, l.f);  // of one direction
  for (std::int64_t i = 0; i < l.d * sums.gates; ++i) {
    pack_panels(w + i * l.h * l.f, l.h, l.f, workspace + i * panels_size(l.h, l.f), args.threads);
  }
  const std::int64_t stride = row_stride(l.f);
  parallel_pieces(l.n * l.t, kInputRows, l.n * l.t * l.f * 4, args.threads, [&](std::int64_t begin, std::int64_t end) {
    float* const c = workspace + l.d * panels + omp_get_thread_num() * kInputRows * stride;
    zero_row(c, kInputRows * stride);
    for (std::int64_t i = 0; i < l.d * sums.gates; ++i) {
      multiply_panels(end - begin, l.h, l.f, sums.plane(i / sums.gates, i % sums.gates) + begin * l.h, l.h,
                      workspace + i * panels_size(l.h, l.f), c, stride);
    }
    for (std::int64_t i = begin; i < end; ++i) store_row(c + (i - begin) * stride, l.f, dx + i * l.f);
  });
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
