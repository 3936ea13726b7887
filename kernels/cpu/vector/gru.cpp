// GRU, as recurrent.cpp does LSTM.
#include "kernels/cpu/vector/recurrent.h"
#include "kernels/cpu/vector/recurrent_gradients.h"
#include "kernels/cpu/vector/vector_math.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

// Gates in the order z (update), r (reset), n (candidate). The matrix r is packed in two parts, that of z and r and
// that of n, because without linear_before_reset the second takes r * h.
struct ForwardSizes {
  std::int64_t w;        // panels of one direction's w
  std::int64_t r_zr;     // of the first two gates' rows of r
  std::int64_t r_n;      // and of the candidate's
  std::int64_t bias;     // one direction's: the sums' (3 H) and the candidate's own product's (H)
  std::int64_t scratch;  // of one thread

  explicit ForwardSizes(const Layer& l)
      : w(panels_size(l.f, 3 * l.h)),
        r_zr(panels_size(l.h, 2 * l.h)),
        r_n(panels_size(l.h, l.h)),
        bias(round_up_to_lanes(3 * l.h) + round_up_to_lanes(l.h)),
        scratch(kShardRows * (row_stride(3 * l.h) + 2 * row_stride(l.h) + row_stride(l.f))) {}
  std::int64_t packed() const { return w + r_zr + r_n + bias; }
};

// The gates z and r of one sample, in place. Without kLinear, product becomes what the candidate's product takes.
template <bool kLinear>
[[gnu::noinline]] void gates_row(std::int64_t h, float* sums, const float* state, float* product) {
#pragma omp simd
  for (std::int64_t u = 0; u < h; ++u) {
    const float r = sigmoid_f32(sums[h + u]);
    sums[u] = sigmoid_f32(sums[u]);
    sums[h + u] = r;
    if constexpr (!kLinear) product[u] = r * state[u];
  }
}

template <class T, bool kLinear, bool kTraining>
[[gnu::noinline]] void state_row(std::int64_t h, const float* sums, const float* product, float* state, T* y,
                                 T* gates) {
#pragma omp simd
  for (std::int64_t u = 0; u < h; ++u) {
    const float z = sums[u];
    const float r = sums[h + u];
    const float n = tanh_f32(kLinear ? sums[2 * h + u] + r * product[u] : sums[2 * h + u]);
    const float next = (1.0f - z) * n + z * state[u];
    state[u] = next;
    y[u] = from_f32<T>(next);
    if constexpr (kTraining) {
      gates[u] = from_f32<T>(z);
      gates[h + u] = from_f32<T>(r);
      gates[2 * h + u] = from_f32<T>(n);
      if constexpr (kLinear) gates[3 * h + u] = from_f32<T>(product[u]);
    }
  }
}

template <class T>
struct GruData {
  const T* x;
  const T* initial_h;
  T* y;
  T* y_h;
  T* gates;
};

template <class T, bool kLinear, bool kTraining>
void gru_shard(const Layer& l, const GruData<T>& data, const float* packed, const Shard& shard, float* scratch) {
  constexpr std::int64_t kSaved = kLinear ? 4 : 3;
  const ForwardSizes sizes(l);
  const float* const w = packed + shard.dir * sizes.packed();
  const float* const r_zr = w + sizes.w;
  const float* const r_n = r_zr + sizes.r_zr;
  const float* const bias = r_n + sizes.r_n;
  const float* const product_bias = bias + round_up_to_lanes(3 * l.h);
  const std::int64_t sum_stride = row_stride(3 * l.h);
  const std::int64_t stride = row_stride(l.h);
  const std::int64_t x_stride = row_stride(l.f);
  float* const sums = scratch;
  float* const state = sums + kShardRows * sum_stride;
  float* const product = state + kShardRows * stride;
  float* const x = product + kShardRows * stride;
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    zero_row(state + i * stride, l.h);
    const std::int64_t row = l.last_row(shard.first + i, shard.dir);
    if (data.initial_h != nullptr) load_row(data.initial_h + row * l.h, l.h, state + i * stride);
  }
  for (std::int64_t s = 0; s < l.t; ++s) {
    const std::int64_t t = l.step(shard.dir, s);
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      load_row(data.x + ((shard.first + i) * l.t + t) * l.f, l.f, x + i * x_stride);
    }
    multiply_panels_from({bias, 0}, shard.rows, l.f, 3 * l.h, x, x_stride, w, sums, sum_stride);
    multiply_panels(shard.rows, l.h, 2 * l.h, state, stride, r_zr, sums, sum_stride);
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      gates_row<kLinear>(l.h, sums + i * sum_stride, state + i * stride, product + i * stride);
    }
    if constexpr (kLinear) {
      multiply_panels_from({product_bias, 0}, shard.rows, l.h, l.h, state, stride, r_n, product, stride);
    } else {
      multiply_panels(shard.rows, l.h, l.h, product, stride, r_n, sums + 2 * l.h, sum_stride);
    }
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      const std::int64_t sample = shard.first + i;
      const std::int64_t row = l.sequence_row(sample, t, shard.dir);
      T* const gates = kTraining ? data.gates + row * kSaved * l.h : nullptr;
      if (l.is_active(sample, t)) {
        state_row<T, kLinear, kTraining>(l.h, sums + i * sum_stride, product + i * stride, state + i * stride,
                                         data.y + row * l.h, gates);
      } else {
        zero_row(data.y + row * l.h, l.h);
        if constexpr (kTraining) zero_row(gates, kSaved * l.h);
      }
    }
  }
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    store_row(state + i * stride, l.h, data.y_h + l.last_row(shard.first + i, shard.dir) * l.h);
  }
}

// sums' bias and the candidate's product's bias of one direction, from ONNX's (3 H of w, 3 H of r).
template <class T>
void pack_bias(const T* bias, std::int64_t h, bool linear, float* sums, float* product) {
  zero_row(sums, round_up_to_lanes(3 * h));
  zero_row(product, round_up_to_lanes(h));
  if (bias == nullptr) return;
  for (std::int64_t j = 0; j < 3 * h; ++j) {
    const float of_r = to_f32(bias[3 * h + j]);
    const bool apart = linear && j >= 2 * h;
    sums[j] = to_f32(bias[j]) + (apart ? 0.0f : of_r);
    if (apart) product[j - 2 * h] = of_r;
  }
}

template <class T>
void gru(const KernelArgs& args) {
  const auto& attrs = args.attributes<GruAttrs>();
  Layer l = layer_of(args.in[0], args.in[2], attrs.direction);
  l.lengths = optional_input<std::int32_t>(args, 4);
  const ForwardSizes sizes(l);
  const T* const w = static_cast<const T*>(args.in[1].data);
  const T* const r = static_cast<const T*>(args.in[2].data);
  const T* const bias = optional_input<T>(args, 3);
  float* const packed = static_cast<float*>(args.workspace);
  for (std::int64_t dir = 0; dir < l.d; ++dir) {
    float* const own = packed + dir * sizes.packed();
    const T* const own_r = r + dir * 3 * l.h * l.h;
    pack_transposed(w + dir * 3 * l.h * l.f, 3 * l.h, l.f, own, args.threads);
    pack_transposed(own_r, 2 * l.h, l.h, own + sizes.w, args.threads);
    pack_transposed(own_r + 2 * l.h * l.h, l.h, l.h, own + sizes.w + sizes.r_zr, args.threads);
    float* const sums = own + sizes.w + sizes.r_zr + sizes.r_n;
    pack_bias(bias == nullptr ? bias : bias + dir * 6 * l.h, l.h, attrs.linear_before_reset, sums,
              sums + round_up_to_lanes(3 * l.h));
  }
  const GruData<T> data{static_cast<const T*>(args.in[0].data), optional_input<T>(args, 5),
                        static_cast<T*>(args.out[0].data), static_cast<T*>(args.out[1].data),
                        attrs.training ? static_cast<T*>(args.out[2].data) : nullptr};
  for_each_shard(l, args.threads, packed + l.d * sizes.packed(), sizes.scratch,
                 [&](const Shard& shard, float* scratch) {
                   if (attrs.linear_before_reset) {
                     attrs.training ? gru_shard<T, true, true>(l, data, packed, shard, scratch)
                                    : gru_shard<T, true, false>(l, data, packed, shard, scratch);
                   } else {
                     attrs.training ? gru_shard<T, false, true>(l, data, packed, shard, scratch)
                                    : gru_shard<T, false, false>(l, data, packed, shard, scratch);
                   }
                 });
}

// ---- backward ----

// The gates' sums whose gradients are kept: z, r, n and with linear_before_reset the candidate's recurrent sum, whose
// gradient is not that of its input's sum.
constexpr std::int64_t sum_count(bool linear) { return linear ? 4 : 3; }

// Different inputs of products with r.
constexpr std::int64_t state_count(bool linear) { return linear ? 1 : 2; }

struct BackwardSizes {
  std::int64_t sums;
  std::int64_t r_zr;
  std::int64_t r_n;
  std::int64_t scratch;  // of one thread

  BackwardSizes(const Layer& l, bool linear)
      : sums(sum_gradients_size(l, sum_count(linear))),
        r_zr(panels_size(2 * l.h, l.h)),
        r_n(panels_size(l.h, l.h)),
        scratch(kShardRows * (row_stride(4 * l.h) + 3 * row_stride(l.h)) + row_stride(l.h)) {}
  std::int64_t packed() const { return r_zr + r_n; }
};

// One sample's step. dstate: in, the gradient of h that later steps left; out, the part of it that goes past the gates.
// Without kLinear the reset gate's gradient is left to reset_row_backward.
template <class T, bool kLinear>
[[gnu::noinline]] void gates_row_backward(std::int64_t h, const T* gates, const T* dy, const float* before,
                                          float* dstate, float* dsums) {
#pragma omp simd
  for (std::int64_t u = 0; u < h; ++u) {
    const float z = to_f32(gates[u]);
    const float n = to_f32(gates[2 * h + u]);
    const float dh = dstate[u] + to_f32(dy[u]);
    const float dn = dh * (1.0f - z) * (1.0f - n * n);
    dstate[u] = dh * z;
    dsums[u] = dh * (before[u] - n) * z * (1.0f - z);
    dsums[2 * h + u] = dn;
    if constexpr (kLinear) {
      const float r = to_f32(gates[h + u]);
      dsums[h + u] = dn * to_f32(gates[3 * h + u]) * r * (1.0f - r);
      dsums[3 * h + u] = dn * r;
    }
  }
}

// dtaken: gradient of r * h, which the candidate's product took.
template <class T>
[[gnu::noinline]] void reset_row_backward(std::int64_t h, const T* gates, const float* before, const float* dtaken,
                                          float* dstate, float* dsums) {
#pragma omp simd
  for (std::int64_t u = 0; u < h; ++u) {
    const float r = to_f32(gates[h + u]);
    dstate[u] += dtaken[u] * r;
    dsums[h + u] = dtaken[u] * before[u] * r * (1.0f - r);
  }
}

template <class T>
struct GruBackwardData {
  const T* y;
  const T* gates;
  const T* initial_h;
  const T* dy;
  const T* dy_h;
  T* dinitial_h;
};

// A shard's scratch.
template <class T>
struct BackwardScratch {
  std::int64_t sum_stride;
  std::int64_t stride;
  float* dsums;
  float* dstate;
  float* dtaken;
  float* before;
  T* no_dy;

  BackwardScratch(const Layer& l, float* memory)
      : sum_stride(row_stride(4 * l.h)),
        stride(row_stride(l.h)),
        dsums(memory),
        dstate(dsums + kShardRows * sum_stride),
        dtaken(dstate + kShardRows * stride),
        before(dtaken + kShardRows * stride),
        no_dy(reinterpret_cast<T*>(before + kShardRows * stride)) {}
};

template <class T, bool kLinear>
void gru_step_backward(const Layer& l, const GruBackwardData<T>& data, const float* packed, const SumGradients& sums,
                       const Shard& shard, std::int64_t t, const BackwardScratch<T>& own) {
  const float* const r_n = packed + panels_size(2 * l.h, l.h);
  const auto gates_of = [&](std::int64_t i) {
    return data.gates + l.sequence_row(shard.first + i, t, shard.dir) * sum_count(kLinear) * l.h;
  };
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    const std::int64_t sample = shard.first + i;
    float* const before = own.before + i * own.stride;
    zero_row(own.dtaken + i * own.stride, own.stride);
    if (!l.is_active(sample, t)) {
      zero_row(own.dsums + i * own.sum_stride, 4 * l.h);
      continue;
    }
    const T* const state = state_before(l, shard.dir, sample, t, data.y, data.initial_h);
    if (state != nullptr) {
      load_row(state, l.h, before);
    } else {
      zero_row(before, l.h);
    }
    const std::int64_t row = l.sequence_row(sample, t, shard.dir);
    gates_row_backward<T, kLinear>(l.h, gates_of(i), data.dy != nullptr ? data.dy + row * l.h : own.no_dy, before,
                                   own.dstate + i * own.stride, own.dsums + i * own.sum_stride);
  }
  if constexpr (kLinear) {
    multiply_panels(shard.rows, l.h, l.h, own.dsums + 3 * l.h, own.sum_stride, r_n, own.dstate, own.stride);
  } else {
    multiply_panels(shard.rows, l.h, l.h, own.dsums + 2 * l.h, own.sum_stride, r_n, own.dtaken, own.stride);
    for (std::int64_t i = 0; i < shard.rows; ++i) {
      if (!l.is_active(shard.first + i, t)) continue;
      reset_row_backward(l.h, gates_of(i), own.before + i * own.stride, own.dtaken + i * own.stride,
                         own.dstate + i * own.stride, own.dsums + i * own.sum_stride);
    }
  }
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    put_sum_gradients(l, sums, shard.dir, shard.first + i, t, own.dsums + i * own.sum_stride);
  }
  multiply_panels(shard.rows, 2 * l.h, l.h, own.dsums, own.sum_stride, packed, own.dstate, own.stride);
}

template <class T, bool kLinear>
void gru_shard_backward(const Layer& l, const GruBackwardData<T>& data, const float* packed, const SumGradients& sums,
                        const Shard& shard, float* scratch) {
  const BackwardScratch<T> own(l, scratch);
  zero_row(own.no_dy, l.h);
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    float* const dstate = own.dstate + i * own.stride;
    zero_row(dstate, own.stride);
    if (data.dy_h != nullptr) load_row(data.dy_h + l.last_row(shard.first + i, shard.dir) * l.h, l.h, dstate);
  }
  for (std::int64_t s = l.t - 1; s >= 0; --s) {
    gru_step_backward<T, kLinear>(l, data, packed, sums, shard, l.step(shard.dir, s), own);
  }
  for (std::int64_t i = 0; i < shard.rows; ++i) {
    store_row(own.dstate + i * own.stride, l.h, data.dinitial_h + l.last_row(shard.first + i, shard.dir) * l.h);
  }
}

template <class T, bool kLinear>
void gru_backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<GruBackwardAttrs>();
  Layer l = layer_of(args.in[0], args.in[2], attrs.direction);
  l.lengths = optional_input<std::int32_t>(args, 5);
  const BackwardSizes sizes(l, kLinear);
  const T* const r = static_cast<const T*>(args.in[2].data);
  const SumGradients sums(l, sum_count(kLinear), 3, static_cast<float*>(args.workspace));
  float* const rest = sums.data + sizes.sums;
  for (std::int64_t dir = 0; dir < l.d; ++dir) {
    float* const own = rest + dir * sizes.packed();
    pack_panels(r + dir * 3 * l.h * l.h, 2 * l.h, l.h, own, args.threads);
    pack_panels(r + (dir * 3 + 2) * l.h * l.h, l.h, l.h, own + sizes.r_zr, args.threads);
  }
  const GruBackwardData<T> data{static_cast<const T*>(args.in[3].data),
                                static_cast<const T*>(args.in[4].data),
                                optional_input<T>(args, 6),
                                optional_input<T>(args, 7),
                                optional_input<T>(args, 8),
                                static_cast<T*>(args.out[3].data)};
  for_each_shard(l, args.threads, rest + l.d * sizes.packed(), sizes.scratch, [&](const Shard& shard, float* scratch) {
    gru_shard_backward<T, kLinear>(l, data, rest + shard.dir * sizes.packed(), sums, shard, scratch);
  });
  // The candidate's product took r * h without linear_before_reset, and has a sum of its own with it.
  weight_gradients<T>(
      l, sums, args, state_count(kLinear),
      [](std::int64_t gate) {
        const bool candidate = gate == 2;
        return RecurrentProduct{kLinear && candidate ? 3 : gate, !kLinear && candidate ? 1 : 0};
      },
      [&](std::int64_t state, std::int64_t dir, std::int64_t sample, std::int64_t t) {
        const T* const reset = data.gates + (l.sequence_row(sample, t, dir) * 3 + 1) * l.h;
        return StateRow<T>{state_before(l, dir, sample, t, data.y, data.initial_h), state == 0 ? nullptr : reset};
      },
      rest);
  if (attrs.input_gradient) input_gradient<T>(l, sums, args, static_cast<T*>(args.out[4].data), rest);
}

}  // namespace

std::size_t gru_workspace(const KernelSpec& spec, const Prepared*) {
  const Layer l = layer_of(spec.in[0], spec.in[2], spec.attributes<GruAttrs>().direction);
  const ForwardSizes sizes(l);
  return static_cast<std::size_t>(l.d * sizes.packed() + spec.threads * sizes.scratch) * sizeof(float);
}

std::size_t gru_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const auto& attrs = spec.attributes<GruBackwardAttrs>();
  const Layer l = layer_of(spec.in[0], spec.in[2], attrs.direction);
  const BackwardSizes sizes(l, attrs.linear_before_reset);
  const std::int64_t steps = l.d * sizes.packed() + spec.threads * sizes.scratch;
  return static_cast<std::size_t>(
             sizes.sums +
             largest(steps, gradient_workspace(l, 3, state_count(attrs.linear_before_reset), spec.threads))) *
         sizeof(float);
}

void run_gru(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { gru<decltype(element)>(args); });
}

void run_gru_backward(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    if (args.attributes<GruBackwardAttrs>().linear_before_reset) {
      gru_backward<T, true>(args);
    } else {
      gru_backward<T, false>(args);
    }
  });
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
