// GRU and its gradient; runtime/ops/recurrent.cpp has the formulas. Gates in the order z (update), r (reset), n
// (candidate). With linear_before_reset the reset gate scales the candidate's product with r, whose sum is kept as a
// fourth plane; without it scales the states before that product.
#include "kernels/cuda/families.h"
#include "kernels/cuda/recurrent.cuh"

namespace trivet::kernels::cuda {
namespace {

// ---- forward ----

// What the candidate's product takes: the states (D, N, H) times the reset gates of step number s.
__global__ void __launch_bounds__(kBlock, 2)
    gru_reset_kernel(const float* sums, const float* products, const float* state, float* reset,
                     const __grid_constant__ Recurrence l, std::int64_t s) {
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    const std::int64_t row = l.sequence_row(at.sample, l.step(at.dir, s), at.dir);
    const float of_h = products[(at.dir * l.n + at.sample) * 3 * l.h + l.h + at.unit];
    reset[i] = sigmoid(sums[row * 3 * l.h + l.h + at.unit] + of_h) * state[i];
  }
}

template <class T>
struct GruResults {
  const T* bias;  // or null; (D, 6 H)
  T* y;
  T* gates;  // or null
  bool linear;
};

// Step number s of all units. sums (N, T, D, 3 H), products (D, N, 3 H).
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    gru_step_kernel(const float* sums, const float* products, float* state, GruResults<T> out,
                    const __grid_constant__ Recurrence l, std::int64_t s) {
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    const std::int64_t step = l.step(at.dir, s);
    const std::int64_t row = l.sequence_row(at.sample, step, at.dir);
    const float* const of_x = sums + row * 3 * l.h + at.unit;
    const float* const of_h = products + (at.dir * l.n + at.sample) * 3 * l.h + at.unit;
    const bool active = l.is_active(at.sample, step);
    const float update = sigmoid(of_x[0] + of_h[0]);
    const float reset = sigmoid(of_x[l.h] + of_h[l.h]);
    float product = of_h[2 * l.h];
    if (out.linear && out.bias != nullptr) product += widen(out.bias[(at.dir * 6 + 5) * l.h + at.unit]);
    const float candidate = tanhf(of_x[2 * l.h] + (out.linear ? reset * product : product));
    const float next = (1.0f - update) * candidate + update * state[i];
    if (active) state[i] = next;
    out.y[row * l.h + at.unit] = narrow<T>(active ? next : 0.0f);
    if (out.gates == nullptr) continue;
    T* const gates = out.gates + row * (out.linear ? 4 : 3) * l.h + at.unit;
    gates[0] = narrow<T>(active ? update : 0.0f);
    gates[l.h] = narrow<T>(active ? reset : 0.0f);
    gates[2 * l.h] = narrow<T>(active ? candidate : 0.0f);
    if (out.linear) gates[3 * l.h] = narrow<T>(active ? product : 0.0f);
  }
}

template <class T>
void gru(const KernelArgs& args) {
  const auto& attrs = args.attributes<GruAttrs>();
  const Recurrence l(args.in[0], args.in[2], attrs.direction, optional_input<std::int32_t>(args, 4));
  const std::int64_t width = 3 * l.h;
  const bool linear = attrs.linear_before_reset;
  float* const sums = static_cast<float*>(args.workspace);
  float* const products = sums + l.t * 3 * l.states();
  float* const state = products + 3 * l.states();
  float* const reset = state + l.states();
  const GruResults<T> out{optional_input<T>(args, 3), args.out[0].as<T>(),
                          attrs.training ? args.out[2].as<T>() : nullptr, linear};
  const dim3 grid(blocks_for(l.states()));
  load_states(optional_input<T>(args, 5), state, l, args.stream);
  multiply_inputs<T>(args, l, width, linear ? 2 * l.h : width, sums);
  for (std::int64_t s = 0; s < l.t; ++s) {
    multiply_states<T>(args, l, state, width, 0, linear ? width : 2 * l.h, products);
    if (!linear) {
      TRIVET_LAUNCH(gru_reset_kernel, grid, dim3(kBlock), 0, args.stream, static_cast<const float*>(sums),
                    static_cast<const float*>(products), static_cast<const float*>(state), reset, l, s);
      multiply_states<T>(args, l, reset, width, 2 * l.h, l.h, products);
    }
    TRIVET_LAUNCH((gru_step_kernel<T>), grid, dim3(kBlock), 0, args.stream, static_cast<const float*>(sums),
                  static_cast<const float*>(products), state, out, l, s);
  }
  store_states(state, args.out[1].as<T>(), l, args.stream);
}

// ---- backward ----

template <class T>
struct GruSaved {
  StatesBefore<T> states;
  const T* gates;
  const T* dy;  // or null
  bool linear;

  TRIVET_DEVICE std::int64_t planes() const { return linear ? 4 : 3; }
};

// Step number s. dstate: in, the gradient of h that later steps left; out, the part of it that goes past the gates.
// Without linear_before_reset the reset gate's gradient is left to gru_reset_backward_kernel.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    gru_step_backward_kernel(const __grid_constant__ GruSaved<T> saved, float* dstate, float* dsums, std::int64_t s) {
  const Recurrence& l = saved.states.l;
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    const std::int64_t step = l.step(at.dir, s);
    const std::int64_t row = l.sequence_row(at.sample, step, at.dir);
    const T* const gates = saved.gates + row * saved.planes() * l.h + at.unit;
    float* const to = dsums + row * saved.planes() * l.h + at.unit;
    if (!l.is_active(at.sample, step)) {
      for (int gate = 0; gate < saved.planes(); ++gate) to[gate * l.h] = 0.0f;
      continue;
    }
    const float update = widen(gates[0]);
    const float candidate = widen(gates[2 * l.h]);
    const float before = saved.states.before(at.dir, at.sample, step, at.unit);
    const float dh = dstate[i] + (saved.dy != nullptr ? widen(saved.dy[row * l.h + at.unit]) : 0.0f);
    const float of_candidate = dh * (1.0f - update) * (1.0f - candidate * candidate);
    dstate[i] = dh * update;
    to[0] = dh * (before - candidate) * update * (1.0f - update);
    to[2 * l.h] = of_candidate;
    if (!saved.linear) continue;
    const float reset = widen(gates[l.h]);
    to[l.h] = of_candidate * widen(gates[3 * l.h]) * reset * (1.0f - reset);
    to[3 * l.h] = of_candidate * reset;
  }
}

// dtaken: gradient of the states times the reset gates, which the candidate's product took.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    gru_reset_backward_kernel(const __grid_constant__ GruSaved<T> saved, const float* dtaken, float* dstate,
                              float* dsums, std::int64_t s) {
  const Recurrence& l = saved.states.l;
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    const std::int64_t step = l.step(at.dir, s);
    if (!l.is_active(at.sample, step)) continue;
    const std::int64_t gate = (l.sequence_row(at.sample, step, at.dir) * 3 + 1) * l.h + at.unit;
    const float reset = widen(saved.gates[gate]);
    dstate[i] += dtaken[i] * reset;
    dsums[gate] = dtaken[i] * saved.states.before(at.dir, at.sample, step, at.unit) * reset * (1.0f - reset);
  }
}

template <class T>
void gru_backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<GruBackwardAttrs>();
  const bool linear = attrs.linear_before_reset;
  const Recurrence l(args.in[0], args.in[2], attrs.direction, optional_input<std::int32_t>(args, 5));
  const std::int64_t width = 3 * l.h;
  const T* const initial = optional_input<T>(args, 6);
  const T* const gates = args.in[4].as<const T>();
  const SumGradients sums{static_cast<float*>(args.workspace), (linear ? 4 : 3) * l.h, 2 * l.h, linear ? l.h : 0};
  float* const dstate = sums.data + l.n * l.t * l.d * sums.width;
  float* const dtaken = dstate + l.states();
  const FloatResult adds{dstate, l.n * l.h, l.h, true};
  const FloatResult takes{dtaken, l.n * l.h, l.h, false};
  const GruSaved<T> saved{{l, args.in[3].as<const T>(), initial, nullptr}, gates, optional_input<T>(args, 7), linear};
  const dim3 grid(blocks_for(l.states()));
  load_states(optional_input<T>(args, 8), dstate, l, args.stream);
  for (std::int64_t s = l.t - 1; s >= 0; --s) {
    TRIVET_LAUNCH((gru_step_backward_kernel<T>), grid, dim3(kBlock), 0, args.stream, saved, dstate, sums.data, s);
    if (linear) {
      add_state_gradients<T>(args, l, sums, s, width, 0, width, adds);
      continue;
    }
    add_state_gradients<T>(args, l, sums, s, width, 2 * l.h, l.h, takes);
    TRIVET_LAUNCH((gru_reset_backward_kernel<T>), grid, dim3(kBlock), 0, args.stream, saved,
                  static_cast<const float*>(dtaken), dstate, sums.data, s);
    add_state_gradients<T>(args, l, sums, s, width, 0, 2 * l.h, adds);
  }
  store_states(dstate, args.out[3].as<T>(), l, args.stream);
  weight_gradients<T>(args, l, sums, width, initial, linear ? nullptr : gates);
  if (attrs.input_gradient) input_gradient<T>(args, l, sums, width, args.out[4].as<T>());
}

// ---- table ----

void run_gru(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { gru<decltype(element)>(args); });
}
void run_gru_backward(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { gru_backward<decltype(element)>(args); });
}

std::size_t forward_workspace(const KernelSpec& spec, const Prepared*) {
  const Recurrence l(spec.in[0], spec.in[2], Direction::forward, nullptr);
  return static_cast<std::size_t>((3 * l.t + 5) * l.states()) * sizeof(float);
}
std::size_t backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Recurrence l(spec.in[0], spec.in[2], Direction::forward, nullptr);
  const std::int64_t planes = spec.attributes<GruBackwardAttrs>().linear_before_reset ? 4 : 3;
  return static_cast<std::size_t>((planes * l.t + 2) * l.states()) * sizeof(float);
}

bool computes(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"gru", computes, run_gru, nullptr, forward_workspace},
    {"gru_backward", computes, run_gru_backward, nullptr, backward_workspace},
};

}  // namespace

std::span<const KernelEntry> gru_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
