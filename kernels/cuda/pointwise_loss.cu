// Losses element by element.
#include "kernels/cuda/families.h"
#include "kernels/cuda/pointwise_loss.cuh"
#include "trivet/kernels/attrs_loss.h"

namespace trivet::kernels::cuda {
namespace {

Weights weights_of(const KernelArgs& args, std::size_t input) {
  const auto* const v = optional_input<float>(args, input);
  return {v, v == nullptr || args.in[input].rank == 0 ? 1 : args.in[input].dim(-1)};
}

// A warp for each sample adds up its pieces in double, in a fixed order.
__global__ void __launch_bounds__(kBlock, 2) join_losses_kernel(const float* sums, Samples samples, float* loss) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t s = first_row<kWarp>(); s < samples.count; s += row_step<kWarp>()) {
    double total = 0;
    for (std::int64_t p = lane; p < samples.pieces; p += kWarp) {
      total += static_cast<double>(sums[s * samples.pieces + p]);
    }
    total = join_warp(total, Plus{});
    if (lane == 0) loss[s] = static_cast<float>(total / static_cast<double>(samples.elements));
  }
}

template <class Rule>
void run_loss(const KernelArgs& args, const Rule& rule) {
  const Samples samples(args.in[0]);
  if (samples.count == 0) return;
  const Weights weights = weights_of(args, 2);
  const float* const t = args.in[1].as<const float>();
  float* const loss = args.out[0].as<float>();
  float* const sums = samples.pieces == 1 ? loss : static_cast<float*>(args.workspace);
  const float scale = samples.pieces == 1 ? 1.0f / static_cast<float>(samples.elements) : 1.0f;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    with_row_sizes<T>(samples.elements, is_aligned(x) && is_aligned(t), [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      TRIVET_LAUNCH((pointwise_loss_kernel<kGroup, kN, Rule, T>),
                    dim3(row_blocks<kGroup>(samples.count * samples.pieces)), dim3(kBlock), 0, args.stream, x, t,
                    weights, sums, samples, scale, rule);
    });
  });
  if (samples.pieces == 1) return;
  TRIVET_LAUNCH(join_losses_kernel, dim3(row_blocks<kWarp>(samples.count)), dim3(kBlock), 0, args.stream, sums, samples,
                loss);
}

template <class Rule>
void run_backward(const KernelArgs& args, const Rule& rule) {
  const Samples samples(args.in[0]);
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  const Weights weights = weights_of(args, 3);
  const float* const t = args.in[1].as<const float>();
  const float* const dloss = args.in[2].as<const float>();
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    T* const dx = args.out[0].as<T>();
    const auto launch = [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      TRIVET_LAUNCH((pointwise_slope_kernel<kN, Rule, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, x, t,
                    weights, dloss, dx, n / kN, samples.elements, rule);
    };
    const bool packed = samples.elements % kPack<T> == 0 && is_aligned(x) && is_aligned(t) && is_aligned(dx);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

Huber huber_of(const KernelArgs& args) { return {static_cast<float>(args.attributes<HuberLossAttrs>().delta)}; }

template <class Rule>
void loss_of(const KernelArgs& args) {
  run_loss(args, Rule{});
}
template <class Rule>
void backward_of(const KernelArgs& args) {
  run_backward(args, Rule{});
}
void huber_loss(const KernelArgs& args) { run_loss(args, huber_of(args)); }
void huber_loss_backward(const KernelArgs& args) { run_backward(args, huber_of(args)); }

bool is_supported(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.in[1].dtype == DType::f32;
}

std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  const Samples samples(spec.in[0]);
  return samples.pieces == 1 ? 0 : static_cast<std::size_t>(samples.count * samples.pieces) * sizeof(float);
}

constexpr KernelEntry kTable[] = {
    {"mean_squared_error", is_supported, loss_of<Squared>, nullptr, workspace},
    {"mean_squared_error_backward", is_supported, backward_of<Squared>},
    {"l1_loss", is_supported, loss_of<Absolute>, nullptr, workspace},
    {"l1_loss_backward", is_supported, backward_of<Absolute>},
    {"huber_loss", is_supported, huber_loss, nullptr, workspace},
    {"huber_loss_backward", is_supported, huber_loss_backward},
    {"binary_cross_entropy_with_logits", is_supported, loss_of<Logistic>, nullptr, workspace},
    {"binary_cross_entropy_with_logits_backward", is_supported, backward_of<Logistic>},
};

}  // namespace

std::span<const KernelEntry> pointwise_loss_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
