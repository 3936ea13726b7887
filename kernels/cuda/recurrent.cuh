// What the kernels of recurrent layers share: sizes and the order of steps, products, states. A layer is a product of
// all steps' inputs with w, then for each step a product of the states with r and an element-wise kernel for the gates;
// both directions run in the same launches. Values are f32 between the kernels. Bound: for each step r is read once,
// and 2 gates H H operations are done for each sample and direction; small batches wait for launches and for r.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/rows.cuh"
#include "trivet/kernels/attrs_recurrent.h"

namespace trivet::kernels::cuda {

// Sizes: samples n, steps t, input features f, hidden units h, directions d.
struct Recurrence {
  std::int64_t n, t, f, h, d;
  Direction direction;
  const std::int32_t* lengths;  // or null

  Recurrence(const TensorDesc& x, const TensorDesc& r, Direction given, const std::int32_t* sequence_lens)
      : n(x.shape[0]),
        t(x.shape[1]),
        f(x.shape[2]),
        h(r.shape[2]),
        d(r.shape[0]),
        direction(given),
        lengths(sequence_lens) {}

  TRIVET_DEVICE bool is_reverse(std::int64_t dir) const { return direction == Direction::reverse || dir == 1; }
  // The step taken as number s in the direction's order.
  TRIVET_DEVICE std::int64_t step(std::int64_t dir, std::int64_t s) const { return is_reverse(dir) ? t - 1 - s : s; }
  TRIVET_DEVICE bool is_active(std::int64_t sample, std::int64_t at) const {
    return lengths == nullptr || at < lengths[sample];
  }
  // The step before `at` in the direction's order; negative if there is none.
  TRIVET_DEVICE std::int64_t step_before(std::int64_t dir, std::int64_t sample, std::int64_t at) const {
    if (!is_reverse(dir)) return at - 1;
    return at + 1 < t && is_active(sample, at + 1) ? at + 1 : -1;
  }
  // Row numbers in sequences (N, T, D, width) and in last states (N, D, H).
  TRIVET_DEVICE std::int64_t sequence_row(std::int64_t sample, std::int64_t at, std::int64_t dir) const {
    return (sample * t + at) * d + dir;
  }
  TRIVET_DEVICE std::int64_t last_row(std::int64_t sample, std::int64_t dir) const { return sample * d + dir; }

  std::int64_t states() const { return d * n * h; }
};

// One unit of one sample in one direction, in the order (D, N, H) of what lies in the workspace.
struct Unit {
  std::int64_t dir, sample, unit;

  TRIVET_DEVICE Unit(const Recurrence& l, std::int64_t i) {
    const Quotient by_row = divide(i, l.h);
    const Quotient by_dir = divide(by_row.quotient, l.n);
    dir = by_dir.quotient;
    sample = by_dir.rest;
    unit = by_row.rest;
  }
};

TRIVET_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// ---- states ----

// States in f32 from initial ones (N, D, H), or zeros.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    load_states_kernel(const T* from, float* to, const __grid_constant__ Recurrence l) {
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    to[i] = from != nullptr ? widen(from[l.last_row(at.sample, at.dir) * l.h + at.unit]) : 0.0f;
  }
}
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    store_states_kernel(const float* from, T* to, const __grid_constant__ Recurrence l) {
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    to[l.last_row(at.sample, at.dir) * l.h + at.unit] = narrow<T>(from[i]);
  }
}

template <class T>
void load_states(const T* from, float* to, const Recurrence& l, void* stream) {
  TRIVET_LAUNCH((load_states_kernel<T>), dim3(blocks_for(l.states())), dim3(kBlock), 0, stream, from, to, l);
}
template <class T>
void store_states(const float* from, T* to, const Recurrence& l, void* stream) {
  TRIVET_LAUNCH((store_states_kernel<T>), dim3(blocks_for(l.states())), dim3(kBlock), 0, stream, from, to, l);
}

// ---- products ----

// Operands: an element for a direction, a row and a place along the depth. kDepthFirst: neighbours along the depth are
// neighbours in memory, else neighbouring rows are.
template <class T>
struct RowOperand {
  static constexpr bool kDepthFirst = true;
  const T* data;
  std::int64_t direction_stride;
  std::int64_t row_stride;
  TRIVET_DEVICE float operator()(std::int64_t dir, std::int64_t row, std::int64_t k) const {
    return widen(data[dir * direction_stride + row * row_stride + k]);
  }
};
template <class T>
struct ColumnOperand {
  static constexpr bool kDepthFirst = false;
  const T* data;
  std::int64_t direction_stride;
  std::int64_t row_stride;  // between places along the depth
  TRIVET_DEVICE float operator()(std::int64_t dir, std::int64_t row, std::int64_t k) const {
    return widen(data[dir * direction_stride + k * row_stride + row]);
  }
};

// Results in f32, stored or added.
struct FloatResult {
  float* data;
  std::int64_t direction_stride;
  std::int64_t row_stride;
  bool adds;
  TRIVET_DEVICE void operator()(std::int64_t dir, std::int64_t row, std::int64_t column, float v) const {
    float* const to = data + dir * direction_stride + row * row_stride + column;
    *to = adds ? *to + v : v;
  }
};
template <class T>
struct RoundedResult {
  T* data;
  std::int64_t direction_stride;
  std::int64_t row_stride;
  TRIVET_DEVICE void operator()(std::int64_t dir, std::int64_t row, std::int64_t column, float v) const {
    data[dir * direction_stride + row * row_stride + column] = narrow<T>(v);
  }
};

inline constexpr int kProductTile = 64;
inline constexpr int kProductDepth = 16;
inline constexpr int kProductStride = kProductTile + 1;  // keeps neighbours in different banks

template <class Operand>
TRIVET_DEVICE void fetch_tile(float* tile, const Operand& operand, std::int64_t dir, std::int64_t first,
                              std::int64_t rows, std::int64_t k, std::int64_t depth) {
  const int me = static_cast<int>(threadIdx.x);
  TRIVET_UNROLL
  for (int part = 0; part < kProductTile * kProductDepth / kBlock; ++part) {
    const int row = Operand::kDepthFirst ? me / kProductDepth + part * (kBlock / kProductDepth) : me % kProductTile;
    const int at = Operand::kDepthFirst ? me % kProductDepth : me / kProductTile + part * (kBlock / kProductTile);
    const bool inside = first + row < rows && k + at < depth;
    tile[at * kProductStride + row] = inside ? operand(dir, first + row, k + at) : 0.0f;
  }
}

// result(i, j) = the sum over k of a(i, k) b(j, k): a block computes 64 x 64 of them, a thread 4 x 4. Sums of 16
// products are added up, which keeps long sums accurate.
template <class A, class B, class Result>
__global__ void __launch_bounds__(kBlock, 2)
    multiply_kernel(const __grid_constant__ A a, const __grid_constant__ B b, const __grid_constant__ Result result,
                    std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  TRIVET_SHARED(float, a_tile, kProductDepth* kProductStride);
  TRIVET_SHARED(float, b_tile, kProductDepth* kProductStride);
  const int across = static_cast<int>(threadIdx.x) % 16;
  const int down = static_cast<int>(threadIdx.x) / 16;
  const std::int64_t dir = blockIdx.z;
  const std::int64_t row = std::int64_t{blockIdx.x} * kProductTile;
  const std::int64_t column = std::int64_t{blockIdx.y} * kProductTile;
  float sums[4][4] = {};
  for (std::int64_t k = 0; k < depth; k += kProductDepth) {
    __syncthreads();  // the tiles before have been read
    fetch_tile(a_tile, a, dir, row, rows, k, depth);
    fetch_tile(b_tile, b, dir, column, columns, k, depth);
    __syncthreads();
    float parts[4][4] = {};
    TRIVET_UNROLL
    for (int i = 0; i < kProductDepth; ++i) {
      float left[4], right[4];
      TRIVET_UNROLL
      for (int m = 0; m < 4; ++m) {
        left[m] = a_tile[i * kProductStride + down + 16 * m];
        right[m] = b_tile[i * kProductStride + across + 16 * m];
      }
      TRIVET_UNROLL
      for (int r = 0; r < 4; ++r) {
        TRIVET_UNROLL
        for (int c = 0; c < 4; ++c) parts[r][c] += left[r] * right[c];
      }
    }
    TRIVET_UNROLL
    for (int r = 0; r < 4; ++r) {
      TRIVET_UNROLL
      for (int c = 0; c < 4; ++c) sums[r][c] += parts[r][c];
    }
  }
  TRIVET_UNROLL
  for (int r = 0; r < 4; ++r) {
    TRIVET_UNROLL
    for (int c = 0; c < 4; ++c) {
      const std::int64_t i = row + down + 16 * r;
      const std::int64_t j = column + across + 16 * c;
      if (i < rows && j < columns) result(dir, i, j, sums[r][c]);
    }
  }
}

template <class A, class B, class Result>
void multiply(const A& a, const B& b, const Result& result, std::int64_t rows, std::int64_t columns, std::int64_t depth,
              std::int64_t directions, void* stream) {
  const dim3 grid(static_cast<unsigned>((rows + kProductTile - 1) / kProductTile),
                  static_cast<unsigned>((columns + kProductTile - 1) / kProductTile),
                  static_cast<unsigned>(directions));
  TRIVET_LAUNCH((multiply_kernel<A, B, Result>), grid, dim3(kBlock), 0, stream, a, b, result, rows, columns, depth);
}

// ---- forward ----

// Sums of x's products with both biases: (N, T, D, gates * H). With `own` the recurrent bias from place `apart` on is
// left to the gates' kernel.
template <class T>
struct BiasedResult {
  float* sums;
  const T* bias;  // or null
  std::int64_t width;
  std::int64_t d;
  std::int64_t apart;
  TRIVET_DEVICE void operator()(std::int64_t dir, std::int64_t row, std::int64_t column, float v) const {
    if (bias != nullptr) {
      const T* const own = bias + dir * 2 * width;
      v += widen(own[column]) + (column < apart ? widen(own[width + column]) : 0.0f);
    }
    sums[(row * d + dir) * width + column] = v;
  }
};

// The products of all steps' inputs with w (D, width, F).
template <class T>
void multiply_inputs(const KernelArgs& args, const Recurrence& l, std::int64_t width, std::int64_t apart, float* sums) {
  const RowOperand<T> x{args.in[0].as<const T>(), 0, l.f};
  const RowOperand<T> w{args.in[1].as<const T>(), width * l.f, l.f};
  const BiasedResult<T> result{sums, optional_input<T>(args, 3), width, l.d, apart};
  multiply(x, w, result, l.n * l.t, width, l.f, l.d, args.stream);
}

// products (D, N, width) at columns from `first` on = states (D, N, H) times `count` rows of r (D, width, H).
template <class T>
void multiply_states(const KernelArgs& args, const Recurrence& l, const float* states, std::int64_t width,
                     std::int64_t first, std::int64_t count, float* products) {
  const RowOperand<float> state{states, l.n * l.h, l.h};
  const RowOperand<T> r{args.in[2].as<const T>() + first * l.h, width * l.h, l.h};
  const FloatResult result{products + first, l.n * width, width, false};
  multiply(state, r, result, l.n, count, l.h, l.d, args.stream);
}

// ---- backward ----

// Gradients of the gates' sums, (N, T, D, planes * H). Places from `seam` on lie `gap` further: the candidate of a GRU
// whose product with r has a gradient of its own.
struct SumGradients {
  float* data;
  std::int64_t width;
  std::int64_t seam;
  std::int64_t gap;
  TRIVET_DEVICE std::int64_t place(std::int64_t i) const { return i < seam ? i : i + gap; }
};
// Those of step number s, a row for each sample.
struct StepGradients {
  static constexpr bool kDepthFirst = true;
  Recurrence l;
  SumGradients sums;
  std::int64_t s;
  TRIVET_DEVICE float operator()(std::int64_t dir, std::int64_t sample, std::int64_t k) const {
    return sums.data[l.sequence_row(sample, l.step(dir, s), dir) * sums.width + sums.place(k)];
  }
};
// Those of all steps, a row for each place.
struct GateGradients {
  static constexpr bool kDepthFirst = false;
  SumGradients sums;
  std::int64_t d;
  TRIVET_DEVICE float operator()(std::int64_t dir, std::int64_t i, std::int64_t k) const {
    return sums.data[(k * d + dir) * sums.width + sums.place(i)];
  }
};
// Those of both directions behind each other, a row for each sample and step.
struct InputGradients {
  static constexpr bool kDepthFirst = true;
  SumGradients sums;
  std::int64_t d;
  std::int64_t gates;  // places of one direction that belong to x's products
  TRIVET_DEVICE float operator()(std::int64_t, std::int64_t row, std::int64_t k) const {
    const Quotient at = divide(k, gates);
    return sums.data[(row * d + at.quotient) * sums.width + at.rest];
  }
};

// x, but zeros where a step is not taken: what lies there may be anything.
template <class T>
struct TakenInputs {
  static constexpr bool kDepthFirst = false;
  Recurrence l;
  const T* x;
  TRIVET_DEVICE float operator()(std::int64_t, std::int64_t j, std::int64_t k) const {
    const Quotient at = divide(k, l.t);
    return l.is_active(at.quotient, at.rest) ? widen(x[k * l.f + j]) : 0.0f;
  }
};
// The states that the steps began with, times reset gates (N, T, D, 3 H) if they are given.
template <class T>
struct StatesBefore {
  static constexpr bool kDepthFirst = false;
  Recurrence l;
  const T* y;
  const T* initial;  // or null
  const T* gates;    // or null

  TRIVET_DEVICE float before(std::int64_t dir, std::int64_t sample, std::int64_t at, std::int64_t unit) const {
    const std::int64_t step = l.step_before(dir, sample, at);
    if (step >= 0) return widen(y[l.sequence_row(sample, step, dir) * l.h + unit]);
    return initial != nullptr ? widen(initial[l.last_row(sample, dir) * l.h + unit]) : 0.0f;
  }
  TRIVET_DEVICE float operator()(std::int64_t dir, std::int64_t j, std::int64_t k) const {
    const Quotient at = divide(k, l.t);
    if (!l.is_active(at.quotient, at.rest)) return 0.0f;
    const float state = before(dir, at.quotient, at.rest, j);
    return gates != nullptr ? state * widen(gates[((k * l.d + dir) * 3 + 1) * l.h + j]) : state;
  }
};
struct Ones {
  static constexpr bool kDepthFirst = true;
  TRIVET_DEVICE float operator()(std::int64_t, std::int64_t, std::int64_t) const { return 1.0f; }
};

// Outputs 0 to 2: dw (D, width, F), dr (D, width, H) and dbias (D, 2 width), width = gates * H. The rows of dr from
// `candidate` on take the states times the reset gates if these are given. The seam of `sums` is for r's half.
template <class T>
void weight_gradients(const KernelArgs& args, const Recurrence& l, const SumGradients& sums, std::int64_t width,
                      const T* initial_h, const T* reset_gates) {
  const std::int64_t depth = l.n * l.t;
  const SumGradients of_x_sums{sums.data, sums.width, width, 0};
  const GateGradients of_x{of_x_sums, l.d};
  const TakenInputs<T> x{l, args.in[0].as<const T>()};
  multiply(of_x, x, RoundedResult<T>{args.out[0].as<T>(), width * l.f, l.f}, width, l.f, depth, l.d, args.stream);

  const GateGradients of_r{sums, l.d};
  const StatesBefore<T> states{l, args.in[3].as<const T>(), initial_h, nullptr};
  const std::int64_t plain = reset_gates != nullptr ? 2 * l.h : width;
  T* const dr = args.out[1].as<T>();
  multiply(of_r, states, RoundedResult<T>{dr, width * l.h, l.h}, plain, l.h, depth, l.d, args.stream);
  if (reset_gates != nullptr) {
    const SumGradients candidate{sums.data + plain, sums.width, width, 0};
    const StatesBefore<T> reset{l, states.y, initial_h, reset_gates};
    multiply(GateGradients{candidate, l.d}, reset, RoundedResult<T>{dr + plain * l.h, width * l.h, l.h}, width - plain,
             l.h, depth, l.d, args.stream);
  }
  T* const dbias = args.out[2].as<T>();
  multiply(of_x, Ones{}, RoundedResult<T>{dbias, 2 * width, 1}, width, 1, depth, l.d, args.stream);
  multiply(of_r, Ones{}, RoundedResult<T>{dbias + width, 2 * width, 1}, width, 1, depth, l.d, args.stream);
}

// dx (N, T, F): the sums' gradients times w (D, width, F), over both directions.
template <class T>
void input_gradient(const KernelArgs& args, const Recurrence& l, const SumGradients& sums, std::int64_t width, T* dx) {
  const InputGradients of_sums{sums, l.d, width};
  const ColumnOperand<T> w{args.in[1].as<const T>(), 0, l.f};
  multiply(of_sums, w, RoundedResult<T>{dx, 0, l.f}, l.n * l.t, l.f, l.d * width, 1, args.stream);
}

// The gradient that reaches the states before step s: + the gradients of `count` places from `first` on times r.
template <class T>
void add_state_gradients(const KernelArgs& args, const Recurrence& l, const SumGradients& sums, std::int64_t s,
                         std::int64_t width, std::int64_t first, std::int64_t count, const FloatResult& result) {
  const SumGradients shifted{sums.data + first, sums.width, sums.seam - first, sums.gap};
  const ColumnOperand<T> r{args.in[2].as<const T>() + first * l.h, width * l.h, l.h};
  multiply(StepGradients{l, shifted, s}, r, result, l.n, l.h, count, l.d, args.stream);
}

}  // namespace trivet::kernels::cuda
