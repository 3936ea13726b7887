// Optimizer steps, the clipping of gradients, running averages.
#include <cmath>

#include "kernels/cuda/families.h"
#include "kernels/cuda/optimizer.cuh"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet::kernels::cuda {
namespace {

Rounding rounding_of(const ParameterRounding& attrs, DType parameter) {
  return {attrs.stochastic_rounding && parameter == DType::bf16,
          math::mix_key(static_cast<std::uint64_t>(attrs.seed), static_cast<std::uint64_t>(attrs.op))};
}

// Input 0 is the parameter, input 1 its gradient, the states follow; outputs are the parameter and the states.
template <class Rule>
void run_step(const KernelArgs& args, const Rule& rule, const ParameterRounding& attrs) {
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  States<Rule::kStates> states{};
  bool packed = is_aligned(args.in[0].data) && is_aligned(args.in[1].data) && is_aligned(args.out[0].data);
  for (std::size_t s = 0; s < Rule::kStates; ++s) {
    states.from[s] = args.in[2 + s].as<const float>();
    states.to[s] = args.out[1 + s].as<float>();
    packed = packed && is_aligned(states.from[s]) && is_aligned(states.to[s]);
  }
  const Rounding rounding = rounding_of(attrs, args.in[0].dtype);
  with_compute_type(args.in[0].dtype, [&](auto parameter) {
    with_compute_type(args.in[1].dtype, [&](auto gradient) {
      using P = decltype(parameter);
      using G = decltype(gradient);
      const P* const p = args.in[0].as<const P>();
      const G* const grad = args.in[1].as<const G>();
      P* const new_p = args.out[0].as<P>();
      TRIVET_LAUNCH((update_kernel<P, G, Rule>), dim3(blocks_for((n + kUpdate - 1) / kUpdate)), dim3(kBlock), 0,
                    args.stream, p, grad, new_p, states, n, packed, rule, rounding);
    });
  });
}

void run_sgd(const KernelArgs& args) {
  const auto& attrs = args.attributes<SgdAttrs>();
  const SgdRule rule{args.in[3].as<const float>(),           optional_input<float>(args, 4),
                     optional_input<std::int64_t>(args, 5),  static_cast<float>(attrs.momentum),
                     static_cast<float>(attrs.weight_decay), attrs.nesterov};
  run_step(args, rule, attrs);
}

void run_adamw(const KernelArgs& args) {
  const auto& attrs = args.attributes<AdamWAttrs>();
  const AdamWRule rule{args.in[4].as<const float>(),
                       optional_input<float>(args, 6),
                       args.in[5].as<const std::int64_t>(),
                       static_cast<float>(attrs.beta1),
                       static_cast<float>(attrs.beta2),
                       static_cast<float>(1 - attrs.beta1),
                       static_cast<float>(1 - attrs.beta2),
                       std::log(attrs.beta1),
                       std::log(attrs.beta2),
                       static_cast<float>(attrs.epsilon),
                       attrs.weight_decay};
  run_step(args, rule, attrs);
}

void run_lion(const KernelArgs& args) {
  const auto& attrs = args.attributes<LionAttrs>();
  const LionRule rule{args.in[3].as<const float>(),          optional_input<float>(args, 4),
                      optional_input<std::int64_t>(args, 5), static_cast<float>(attrs.beta1),
                      static_cast<float>(attrs.beta2),       static_cast<float>(1 - attrs.beta1),
                      static_cast<float>(1 - attrs.beta2),   attrs.weight_decay};
  run_step(args, rule, attrs);
}

void run_average(const KernelArgs& args) {
  const double decay = args.attributes<AverageAttrs>().decay;
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  const auto keep = static_cast<float>(decay);
  const auto rest = static_cast<float>(1 - decay);
  const float* const average = args.in[0].as<const float>();
  float* const next = args.out[0].as<float>();
  with_compute_type(args.in[1].dtype, [&](auto parameter) {
    using P = decltype(parameter);
    const P* const p = args.in[1].as<const P>();
    const bool packed = is_aligned(average) && is_aligned(p) && is_aligned(next) && n % kUpdate == 0;
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((average_kernel<kN, P>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, average, p, next,
                    n / kN, keep, rest);
    };
    packed ? launch(Size<kUpdate>()) : launch(Size<1>());
  });
}

// One warp adds up the squared norms, in double; `total` holds those of the launches before.
__global__ void __launch_bounds__(kWarp)
    clip_scale_kernel(const __grid_constant__ Norms norms, double* total, bool first, bool last, double max_norm,
                      float* scale, float* norm) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < norms.count; i += kWarp) sum += static_cast<double>(*norms.v[i]);
  sum = join_warp(sum, Plus{});
  if (threadIdx.x != 0) return;
  if (!first) sum += *total;
  *total = sum;
  if (!last) return;
  const double root = sqrt(sum);
  const double ratio = max_norm / (root + 1e-6);
  *scale = static_cast<float>(ratio >= 1 ? 1 : ratio);
  *norm = static_cast<float>(root);
}

void run_clip_scale(const KernelArgs& args) {
  const double max_norm = args.attributes<ClipScaleAttrs>().max_norm;
  auto* const total = static_cast<double*>(args.workspace);
  float* const scale = args.out[0].as<float>();
  float* const norm = args.out[1].as<float>();
  for (std::size_t begin = 0; begin < args.in.size(); begin += kMostNorms) {
    Norms norms{};
    for (std::size_t i = begin; i < args.in.size() && norms.count < kMostNorms; ++i) {
      norms.v[norms.count++] = args.in[i].as<const float>();
    }
    const bool first = begin == 0;
    const bool last = begin + kMostNorms >= args.in.size();
    TRIVET_LAUNCH(clip_scale_kernel, dim3(1), dim3(kWarp), 0, args.stream, norms, total, first, last, max_norm, scale,
                  norm);
  }
}

// One warp, as above. The last launch writes all results.
__global__ void __launch_bounds__(kWarp) loss_scale_kernel(const __grid_constant__ Norms norms, double* total,
                                                           bool first, bool last, const __grid_constant__ LossScale s) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < norms.count; i += kWarp) sum += static_cast<double>(*norms.v[i]);
  sum = join_warp(sum, Plus{});
  if (threadIdx.x != 0) return;
  if (!first) sum += *total;
  *total = sum;
  if (last) s.finish(sum);
}

void run_loss_scale(const KernelArgs& args) {
  const auto& attrs = args.attributes<LossScaleAttrs>();
  auto* const total = static_cast<double*>(args.workspace);
  const LossScale s{args.in[0].as<const float>(),
                    args.in[1].as<const std::int64_t>(),
                    args.in[2].as<const std::int64_t>(),
                    args.out[0].as<float>(),
                    args.out[1].as<float>(),
                    args.out[2].as<std::uint8_t>(),
                    args.out[3].as<float>(),
                    args.out[4].as<std::int64_t>(),
                    args.out[5].as<std::int64_t>(),
                    attrs.max_norm,
                    attrs.interval};
  for (std::size_t begin = 3; begin < args.in.size(); begin += kMostNorms) {
    Norms norms{};
    for (std::size_t i = begin; i < args.in.size() && norms.count < kMostNorms; ++i) {
      norms.v[norms.count++] = args.in[i].as<const float>();
    }
    TRIVET_LAUNCH(loss_scale_kernel, dim3(1), dim3(kWarp), 0, args.stream, norms, total, begin == 3,
                  begin + kMostNorms >= args.in.size(), s);
  }
}

std::size_t clip_scale_workspace(const KernelSpec&, const Prepared*) { return sizeof(double); }

void run_zero(const KernelArgs& args) {
  auto* const bytes = args.out[0].as<unsigned char>();
  const auto n = static_cast<std::int64_t>(args.out[0].bytes());
  if (n == 0) return;
  if (is_aligned(bytes) && n % 16 == 0) {
    TRIVET_LAUNCH((zero_kernel<16>), dim3(blocks_for(n / 16)), dim3(kBlock), 0, args.stream, bytes, n / 16);
  } else {
    TRIVET_LAUNCH((zero_kernel<1>), dim3(blocks_for(n)), dim3(kBlock), 0, args.stream, bytes, n);
  }
}

// There is no stochastic rounding to f16.
template <class A>
bool computes(const KernelSpec& spec) {
  const DType parameter = spec.in[0].dtype;
  return is_compute_type(parameter) && is_compute_type(spec.in[1].dtype) &&
         !(parameter == DType::f16 && spec.attributes<A>().stochastic_rounding);
}
bool averages(const KernelSpec& spec) { return spec.in[0].dtype == DType::f32 && is_compute_type(spec.in[1].dtype); }

constexpr KernelEntry kTable[] = {
    {"sgd_step", computes<SgdAttrs>, run_sgd},
    {"adamw_step", computes<AdamWAttrs>, run_adamw},
    {"lion_step", computes<LionAttrs>, run_lion},
    {"average_step", averages, run_average},
    {"clip_scale", any_type, run_clip_scale, nullptr, clip_scale_workspace},
    {"loss_scale_step", any_type, run_loss_scale, nullptr, clip_scale_workspace},
    {"zero", any_type, run_zero},
};

}  // namespace

std::span<const KernelEntry> optimizer_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
