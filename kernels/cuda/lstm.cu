// LSTM and its gradient; runtime/ops/recurrent.cpp has the formulas. Gates in the order i, o, f, g.
#include "kernels/cuda/families.h"
#include "kernels/cuda/recurrent.cuh"

namespace trivet::kernels::cuda {
namespace {

template <class T>
struct LstmResults {
  T* y;
  T* gates;      // or null
  float* cells;  // or null
};

// Step number s of all units. sums (N, T, D, 4 H), products and states (D, N, ..).
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    lstm_step_kernel(const float* sums, const float* products, float* cell, float* state, LstmResults<T> out,
                     const __grid_constant__ Recurrence l, std::int64_t s) {
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    const std::int64_t step = l.step(at.dir, s);
    const std::int64_t row = l.sequence_row(at.sample, step, at.dir);
    const float* const of_x = sums + row * 4 * l.h + at.unit;
    const float* const of_h = products + (at.dir * l.n + at.sample) * 4 * l.h + at.unit;
    const bool active = l.is_active(at.sample, step);
    const float in = sigmoid(of_x[0] + of_h[0]);
    const float show = sigmoid(of_x[l.h] + of_h[l.h]);
    const float keep = sigmoid(of_x[2 * l.h] + of_h[2 * l.h]);
    const float candidate = tanhf(of_x[3 * l.h] + of_h[3 * l.h]);
    const float c = keep * cell[i] + in * candidate;
    const float y = show * tanhf(c);
    if (active) {
      cell[i] = c;
      state[i] = y;
    }
    out.y[row * l.h + at.unit] = narrow<T>(active ? y : 0.0f);
    if (out.gates == nullptr) continue;
    T* const gates = out.gates + row * 4 * l.h + at.unit;
    gates[0] = narrow<T>(active ? in : 0.0f);
    gates[l.h] = narrow<T>(active ? show : 0.0f);
    gates[2 * l.h] = narrow<T>(active ? keep : 0.0f);
    gates[3 * l.h] = narrow<T>(active ? candidate : 0.0f);
    out.cells[row * l.h + at.unit] = active ? c : 0.0f;
  }
}

template <class T>
void lstm(const KernelArgs& args) {
  const auto& attrs = args.attributes<LstmAttrs>();
  const Recurrence l(args.in[0], args.in[2], attrs.direction, optional_input<std::int32_t>(args, 4));
  float* const sums = static_cast<float*>(args.workspace);
  float* const products = sums + l.t * 4 * l.states();
  float* const state = products + 4 * l.states();
  float* const cell = state + l.states();
  const LstmResults<T> out{args.out[0].as<T>(), attrs.training ? args.out[3].as<T>() : nullptr,
                           attrs.training ? args.out[4].as<float>() : nullptr};
  load_states(optional_input<T>(args, 5), state, l, args.stream);
  load_states(optional_input<T>(args, 6), cell, l, args.stream);
  multiply_inputs<T>(args, l, 4 * l.h, 4 * l.h, sums);
  for (std::int64_t s = 0; s < l.t; ++s) {
    multiply_states<T>(args, l, state, 4 * l.h, 0, 4 * l.h, products);
    TRIVET_LAUNCH((lstm_step_kernel<T>), dim3(blocks_for(l.states())), dim3(kBlock), 0, args.stream,
                  static_cast<const float*>(sums), static_cast<const float*>(products), cell, state, out, l, s);
  }
  store_states(state, args.out[1].as<T>(), l, args.stream);
  store_states(cell, args.out[2].as<T>(), l, args.stream);
}

// ---- backward ----

template <class T>
struct LstmSaved {
  const T* gates;
  const float* cells;
  const T* initial_c;  // or null
  const T* dy;         // or null
};

// Step number s. dstate: in, the gradient of h that later steps left; out, 0, to which the product with r is added.
// dcell: in, the gradient of c; out, that of the cell before.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    lstm_step_backward_kernel(LstmSaved<T> saved, float* dstate, float* dcell, float* dsums,
                              const __grid_constant__ Recurrence l, std::int64_t s) {
  for (std::int64_t i = global_thread(); i < l.d * l.n * l.h; i += global_threads()) {
    const Unit at(l, i);
    const std::int64_t step = l.step(at.dir, s);
    const std::int64_t row = l.sequence_row(at.sample, step, at.dir);
    float* const to = dsums + row * 4 * l.h + at.unit;
    if (!l.is_active(at.sample, step)) {
      TRIVET_UNROLL
      for (int gate = 0; gate < 4; ++gate) to[gate * l.h] = 0.0f;
      continue;
    }
    const std::int64_t before = l.step_before(at.dir, at.sample, step);
    float cell_before = 0;
    if (before >= 0) {
      cell_before = saved.cells[l.sequence_row(at.sample, before, at.dir) * l.h + at.unit];
    } else if (saved.initial_c != nullptr) {
      cell_before = widen(saved.initial_c[l.last_row(at.sample, at.dir) * l.h + at.unit]);
    }
    const T* const gates = saved.gates + row * 4 * l.h + at.unit;
    const float in = widen(gates[0]);
    const float show = widen(gates[l.h]);
    const float keep = widen(gates[2 * l.h]);
    const float candidate = widen(gates[3 * l.h]);
    const float c = tanhf(saved.cells[row * l.h + at.unit]);
    const float dh = dstate[i] + (saved.dy != nullptr ? widen(saved.dy[row * l.h + at.unit]) : 0.0f);
    const float dc = dcell[i] + dh * show * (1.0f - c * c);
    dstate[i] = 0.0f;
    dcell[i] = dc * keep;
    to[0] = dc * candidate * in * (1.0f - in);
    to[l.h] = dh * c * show * (1.0f - show);
    to[2 * l.h] = dc * cell_before * keep * (1.0f - keep);
    to[3 * l.h] = dc * in * (1.0f - candidate * candidate);
  }
}

template <class T>
void lstm_backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<LstmBackwardAttrs>();
  const Recurrence l(args.in[0], args.in[2], attrs.direction, optional_input<std::int32_t>(args, 6));
  const std::int64_t width = 4 * l.h;
  const SumGradients sums{static_cast<float*>(args.workspace), width, width, 0};
  float* const dstate = sums.data + l.t * 4 * l.states();
  float* const dcell = dstate + l.states();
  const LstmSaved<T> saved{args.in[4].as<const T>(), args.in[5].as<const float>(), optional_input<T>(args, 8),
                           optional_input<T>(args, 9)};
  load_states(optional_input<T>(args, 10), dstate, l, args.stream);
  load_states(optional_input<T>(args, 11), dcell, l, args.stream);
  for (std::int64_t s = l.t - 1; s >= 0; --s) {
    TRIVET_LAUNCH((lstm_step_backward_kernel<T>), dim3(blocks_for(l.states())), dim3(kBlock), 0, args.stream, saved,
                  dstate, dcell, sums.data, l, s);
    add_state_gradients<T>(args, l, sums, s, width, 0, width, FloatResult{dstate, l.n * l.h, l.h, true});
  }
  store_states(dstate, args.out[3].as<T>(), l, args.stream);
  store_states(dcell, args.out[4].as<T>(), l, args.stream);
  weight_gradients<T>(args, l, sums, width, optional_input<T>(args, 7), nullptr);
  if (attrs.input_gradient) input_gradient<T>(args, l, sums, width, args.out[5].as<T>());
}

// ---- table ----

void run_lstm(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { lstm<decltype(element)>(args); });
}
void run_lstm_backward(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { lstm_backward<decltype(element)>(args); });
}

std::size_t forward_workspace(const KernelSpec& spec, const Prepared*) {
  const Recurrence l(spec.in[0], spec.in[2], Direction::forward, nullptr);
  return static_cast<std::size_t>((4 * l.t + 6) * l.states()) * sizeof(float);
}
std::size_t backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Recurrence l(spec.in[0], spec.in[2], Direction::forward, nullptr);
  return static_cast<std::size_t>((4 * l.t + 2) * l.states()) * sizeof(float);
}

bool computes(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"lstm", computes, run_lstm, nullptr, forward_workspace},
    {"lstm_backward", computes, run_lstm_backward, nullptr, backward_workspace},
};

}  // namespace

std::span<const KernelEntry> lstm_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
