// LSTM: at each step, the products of a shard's rows with w and r, and the gates' arithmetic while the sums are in the
// cache.
#include "kernels/cpu/vector/recurrent.h"

#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/recurrent_gradients.h"
#include "kernels/cpu/vector/vector_math.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

struct ForwardSizes {
  std::int64_t w;        // panels of one direction's w
  std::int64_t r;        // and r
  std::int64_t bias;     // one direction's
  std::int64_t scratch;  // of one thread

  explicit ForwardSizes(const Layer& l)
      : w(panels_size(l.f, 4 * l.h)),
        r(panels_size(l.h, 4 * l.h)),
        bias(round_up_to_lanes(4 * l.h)),
        scratch(kShardRows * (row_stride(4 * l.h) + 2 * row_stride(l.h) + row_stride(l.f))) {}
  std::int64_t packed() const { return w + r + bias; }
};

// One sample's step: sums (4 H) of the gates i, o, f, g; c and h are its states.
template <class T, bool kTraining>
[[gnu::noinline]] void lstm_row(std::int64_t h, const float* sums, float* cell, float* state, T* y, T* gates,
                                float* cells) {
#pragma omp simd
  for (std::int64_t u = 0; u < h; ++u) {
    const float i = sigmoid_f32(sums[u]);
    const float o = sigmoid_f32(sums[h + u]);
    const float f = sigmoid_f32(sums[2 * h + u]);
    const float g = tanh_f32(sums[3 * h + u]);
    const float c = f * cell[u] + i * g;
    const float out = o * tanh_f32(c);
    cell[u] = c;
    state[u] = out;
    y[u] = from_f32<T>(out);
    if constexpr (kTraining) {
      gates[u] = from_f32<T>(i);
      gates[h + u] = from_f32<T>(o);
      gates[2 * h + u] = from_f32<T>(f);
      gates[3 * h + u] = from_f32<T>(g);
      cells[u] = c;
    }
  }
}

template <class T>
struct LstmData {
  const T* x;
  const T* initial_h;
  const T* initial_c;
  T* y;
  T* y_h;
  T* y_c;
  T* gates;
  float* cells;
};

template <class T, bool kTraining>
void lstm_shard(const Layer& l, const LstmData<T>& data, const float* packed, const Shard& shard, float* scratch) {
  const ForwardSizes sizes(l);
  const float* const w = packed + shard.dir * sizes.packed();
  const float* const r = w + sizes.w;
  const float* const bias = r + sizes.r;
  const std::int64_t sum_stride = row_stride(4 * l.h);
  const std::int64_t stride = row_stride(l.h);
  const std::int64_t x_stride = row_stride(l.f);
  float* const sums = scratch;
  float* const state = sums + kShardRows * sum_stride;
  float* const cell = state + kShardRows * stride;
  float* const x = cell + kShardRows * stride;
  const auto load_state = [&](const T* initial, std::int64_t i, float* to) {
    if (initial != nullptr) {
      load_row(initial + l.last_row(shard.first + i, shard.dir) * l.h, l.h, to + i * stride);
    } else {
      zero_row(to + i * stride, l.h);
    }
  };
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    load_state(data.initial_h, i, state);
    load_state(data.initial_c, i, cell);
  }
  for (std::int64_t s = 0; s < l.t; ++s) {
    const std::int64_t t = l.step(shard.dir, s);
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      load_row(data.x + ((shard.first + i) * l.t + t) * l.f, l.f, x + i * x_stride);
    }
    multiply_panels_from({bias, 0}, shard.rows, l.f, 4 * l.h, x, x_stride, w, sums, sum_stride);
    multiply_panels(shard.rows, l.h, 4 * l.h, state, stride, r, sums, sum_stride);
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      const std::int64_t sample = shard.first + i;
      const std::int64_t row = l.sequence_row(sample, t, shard.dir);
      T* const gates = kTraining ? data.gates + row * 4 * l.h : nullptr;
      float* const cells = kTraining ? data.cells + row * l.h : nullptr;
      if (l.is_active(sample, t)) {
        lstm_row<T, kTraining>(l.h, sums + i * sum_stride, cell + i * stride, state + i * stride, data.y + row * l.h,
                               gates, cells);
        if (s + 1 < l.t) {
          const std::int64_t next = l.sequence_row(sample, l.step(shard.dir, s + 1), shard.dir);
          fetch_row<Use::write>(data.y + next * l.h, l.h);
          if constexpr (kTraining) {
            fetch_row<Use::write>(data.gates + next * 4 * l.h, 4 * l.h);
            fetch_row<Use::write>(data.cells + next * l.h, l.h);
          }
        }
      } else {
        zero_row(data.y + row * l.h, l.h);
        if constexpr (kTraining) {
          zero_row(gates, 4 * l.h);
          zero_row(cells, l.h);
        }
      }
    }
  }
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    const std::int64_t row = l.last_row(shard.first + i, shard.dir);
    store_row(state + i * stride, l.h, data.y_h + row * l.h);
    store_row(cell + i * stride, l.h, data.y_c + row * l.h);
  }
}

template <class T>
void lstm(const KernelArgs& args) {
  const auto& attrs = args.attributes<LstmAttrs>();
  Layer l = layer_of(args.in[0], args.in[2], attrs.direction);
  l.lengths = optional_input<std::int32_t>(args, 4);
  const ForwardSizes sizes(l);
  const T* const w = static_cast<const T*>(args.in[1].data);
  const T* const r = static_cast<const T*>(args.in[2].data);
  const T* const bias = optional_input<T>(args, 3);
  float* const packed = static_cast<float*>(args.workspace);
  for (std::int64_t dir = 0; dir < l.d; ++dir) {
    float* const own = packed + dir * sizes.packed();
    pack_transposed(w + dir * 4 * l.h * l.f, 4 * l.h, l.f, own, args.threads);
    pack_transposed(r + dir * 4 * l.h * l.h, 4 * l.h, l.h, own + sizes.w, args.threads);
    float* const sums = own + sizes.w + sizes.r;
    zero_row(sums, sizes.bias);
    for (std::int64_t j = 0; bias != nullptr && j < 4 * l.h; ++j) {
      sums[j] = to_f32(bias[dir * 8 * l.h + j]) + to_f32(bias[(dir * 2 + 1) * 4 * l.h + j]);
    }
  }
  LstmData<T> data{static_cast<const T*>(args.in[0].data),
                   optional_input<T>(args, 5),
                   optional_input<T>(args, 6),
                   static_cast<T*>(args.out[0].data),
                   static_cast<T*>(args.out[1].data),
                   static_cast<T*>(args.out[2].data),
                   nullptr,
                   nullptr};
  if (attrs.training) {
    data.gates = static_cast<T*>(args.out[3].data);
    data.cells = static_cast<float*>(args.out[4].data);
  }
  for_each_shard(l, args.threads, packed + l.d * sizes.packed(), sizes.scratch,
                 [&](const Shard& shard, float* scratch) {
                   if (attrs.training) {
                     lstm_shard<T, true>(l, data, packed, shard, scratch);
                   } else {
                     lstm_shard<T, false>(l, data, packed, shard, scratch);
                   }
                 });
}

std::size_t forward_workspace(const KernelSpec& spec, const Prepared*) {
  const Layer l = layer_of(spec.in[0], spec.in[2], spec.attributes<LstmAttrs>().direction);
  const ForwardSizes sizes(l);
  return static_cast<std::size_t>(l.d * sizes.packed() + spec.threads * sizes.scratch) * sizeof(float);
}

// ---- backward ----

struct BackwardSizes {
  std::int64_t sums;     // gradients of the gates' sums
  std::int64_t r;        // panels of one direction's r
  std::int64_t scratch;  // of one thread

  explicit BackwardSizes(const Layer& l)
      : sums(sum_gradients_size(l, 4)),
        r(panels_size(4 * l.h, l.h)),
        scratch(kShardRows * (row_stride(4 * l.h) + 3 * row_stride(l.h)) + row_stride(l.h)) {}
};

// One sample's step. dstate: in, the gradient of h that later steps left; out, 0 (the product with r is added to it).
// dcell: in, the gradient of c; out, that of the cell before.
template <class T>
[[gnu::noinline]] void lstm_row_backward(std::int64_t h, const T* gates, const float* cell, const float* cell_before,
                                         const T* dy, float* dstate, float* dcell, float* dsums) {
#pragma omp simd
  for (std::int64_t u = 0; u < h; ++u) {
    const float i = to_f32(gates[u]);
    const float o = to_f32(gates[h + u]);
    const float f = to_f32(gates[2 * h + u]);
    const float g = to_f32(gates[3 * h + u]);
    const float c = tanh_f32(cell[u]);
    const float dh = dstate[u] + to_f32(dy[u]);
    const float dc = dcell[u] + dh * o * (1.0f - c * c);
    dstate[u] = 0.0f;
    dcell[u] = dc * f;
    dsums[u] = dc * g * i * (1.0f - i);
    dsums[h + u] = dh * c * o * (1.0f - o);
    dsums[2 * h + u] = dc * cell_before[u] * f * (1.0f - f);
    dsums[3 * h + u] = dc * i * (1.0f - g * g);
  }
}

template <class T>
struct LstmBackwardData {
  const T* gates;
  const float* cells;
  const T* initial_c;
  const T* dy;
  const T* dy_h;
  const T* dy_c;
  T* dinitial_h;
  T* dinitial_c;
};

template <class T>
void lstm_shard_backward(const Layer& l, const LstmBackwardData<T>& data, const float* r, const SumGradients& sums,
                         const Shard& shard, float* scratch) {
  const std::int64_t sum_stride = row_stride(4 * l.h);
  const std::int64_t stride = row_stride(l.h);
  float* const dsums = scratch;
  float* const dstate = dsums + kShardRows * sum_stride;
  float* const dcell = dstate + kShardRows * stride;
  float* const first_cell = dcell + kShardRows * stride;
  T* const no_dy = reinterpret_cast<T*>(first_cell + kShardRows * stride);
  zero_row(no_dy, l.h);
  const auto load_last = [&](const T* values, std::int64_t i, float* to) {
    zero_row(to + i * stride, stride);
    if (values != nullptr) load_row(values + l.last_row(shard.first + i, shard.dir) * l.h, l.h, to + i * stride);
  };
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    load_last(data.dy_h, i, dstate);
    load_last(data.dy_c, i, dcell);
    load_last(data.initial_c, i, first_cell);
  }
  for (std::int64_t s = l.t - 1; s >= 0; --s) {
    const std::int64_t t = l.step(shard.dir, s);
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      const std::int64_t sample = shard.first + i;
      const std::int64_t row = l.sequence_row(sample, t, shard.dir);
      if (!l.is_active(sample, t)) {
        zero_row(dsums + i * sum_stride, 4 * l.h);
        put_sum_gradients(l, sums, shard.dir, sample, t, nullptr);
        continue;
      }
      const std::int64_t before = l.step_before(shard.dir, sample, t);
      const float* const cell_before =
          before < 0 ? first_cell + i * stride : data.cells + l.sequence_row(sample, before, shard.dir) * l.h;
      lstm_row_backward(l.h, data.gates + row * 4 * l.h, data.cells + row * l.h, cell_before,
                        data.dy != nullptr ? data.dy + row * l.h : no_dy, dstate + i * stride, dcell + i * stride,
                        dsums + i * sum_stride);
      put_sum_gradients(l, sums, shard.dir, sample, t, dsums + i * sum_stride);
      if (s > 0) {
        const std::int64_t next = l.sequence_row(sample, l.step(shard.dir, s - 1), shard.dir);
        fetch_row<Use::read>(data.gates + next * 4 * l.h, 4 * l.h);
        if (s > 1)
          fetch_row<Use::read>(data.cells + l.sequence_row(sample, l.step(shard.dir, s - 2), shard.dir) * l.h, l.h);
        if (data.dy != nullptr) fetch_row<Use::read>(data.dy + next * l.h, l.h);
      }
    }
    multiply_panels(shard.rows, 4 * l.h, l.h, dsums, sum_stride, r, dstate, stride);
  }
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    const std::int64_t row = l.last_row(shard.first + i, shard.dir);
    store_row(dstate + i * stride, l.h, data.dinitial_h + row * l.h);
    store_row(dcell + i * stride, l.h, data.dinitial_c + row * l.h);
  }
}

template <class T>
void lstm_backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<LstmBackwardAttrs>();
  Layer l = layer_of(args.in[0], args.in[2], attrs.direction);
  l.lengths = optional_input<std::int32_t>(args, 6);
  const BackwardSizes sizes(l);
  const T* const r = static_cast<const T*>(args.in[2].data);
  const SumGradients sums(l, 4, 4, static_cast<float*>(args.workspace));
  float* const rest = sums.data + sizes.sums;
  for (std::int64_t dir = 0; dir < l.d; ++dir) {
    pack_panels(r + dir * 4 * l.h * l.h, 4 * l.h, l.h, rest + dir * sizes.r, args.threads);
  }
  const LstmBackwardData<T> data{static_cast<const T*>(args.in[4].data),
                                 static_cast<const float*>(args.in[5].data),
                                 optional_input<T>(args, 8),
                                 optional_input<T>(args, 9),
                                 optional_input<T>(args, 10),
                                 optional_input<T>(args, 11),
                                 static_cast<T*>(args.out[3].data),
                                 static_cast<T*>(args.out[4].data)};
  for_each_shard(l, args.threads, rest + l.d * sizes.r, sizes.scratch, [&](const Shard& shard, float* scratch) {
    lstm_shard_backward(l, data, rest + shard.dir * sizes.r, sums, shard, scratch);
  });
  const T* const y = static_cast<const T*>(args.in[3].data);
  const T* const initial_h = optional_input<T>(args, 7);
  weight_gradients<T>(
      l, sums, args, 1,
      [](std::int64_t gate) {
        return RecurrentProduct{gate, 0};
      },
      [&](std::int64_t, std::int64_t dir, std::int64_t sample, std::int64_t t) {
        return StateRow<T>{state_before(l, dir, sample, t, y, initial_h), nullptr};
      },
      rest);
  if (attrs.input_gradient) input_gradient<T>(l, sums, args, static_cast<T*>(args.out[5].data), rest);
}

std::size_t backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Layer l = layer_of(spec.in[0], spec.in[2], spec.attributes<LstmBackwardAttrs>().direction);
  const BackwardSizes sizes(l);
  const std::int64_t steps = l.d * sizes.r + spec.threads * sizes.scratch;
  return static_cast<std::size_t>(sizes.sums + largest(steps, gradient_workspace(l, 4, 1, spec.threads))) *
         sizeof(float);
}

void run_lstm(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { lstm<decltype(element)>(args); });
}

void run_lstm_backward(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { lstm_backward<decltype(element)>(args); });
}

bool computes(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kKernels[] = {
    {"lstm", computes, run_lstm, nullptr, forward_workspace},
    {"lstm_backward", computes, run_lstm_backward, nullptr, backward_workspace},
    {"gru", computes, run_gru, nullptr, gru_workspace},
    {"gru_backward", computes, run_gru_backward, nullptr, gru_backward_workspace},
};

}  // namespace

std::span<const KernelEntry> recurrent_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
