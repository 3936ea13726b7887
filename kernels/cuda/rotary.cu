// Rotary position embedding and its gradient.
#include <cmath>

#include "kernels/cuda/families.h"
#include "kernels/cuda/rotary.cuh"
#include "trivet/kernels/attrs_attention.h"

namespace trivet::kernels::cuda {
namespace {

std::int64_t half_of(const TensorDesc& x, const RotaryEmbeddingAttrs& attrs) {
  return (attrs.rotary_embedding_dim == 0 ? x.shape[3] : attrs.rotary_embedding_dim) / 2;
}

void run_rotary(const KernelArgs& args, float sign) {
  const auto& attrs = args.attributes<RotaryEmbeddingAttrs>();
  const View& x = args.in[0];
  if (x.elements() == 0) return;
  RotaryAngles angles{};
  angles.half = half_of(x, attrs);
  angles.steps = x.shape[2];
  angles.positions = optional_input<std::int64_t>(args, 1);
  angles.positions_of_samples = args.in.size() > 1 && args.in[1].rank == 2;
  angles.cosines = optional_input<float>(args, 2);
  angles.sines = optional_input<float>(args, 3);
  angles.rows = args.in.size() > 2 && args.in[2].rank == 2 ? args.in[2].shape[0] : x.shape[0] * x.shape[2];
  angles.log_base = std::log(attrs.base);
  angles.sign = sign;
  const RotarySizes sizes{x.shape[0], x.shape[1], x.shape[2], x.shape[3], attrs.interleaved};
  with_compute_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const T* const from = x.as<const T>();
    T* const to = args.out[0].as<T>();
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      const std::int64_t items = sizes.batch * sizes.steps * (angles.half / kN);
      if (items > 0) {
        TRIVET_LAUNCH((rotary_kernel<kN, T>), dim3(blocks_for(items)), dim3(kBlock), 0, args.stream, from, to, angles,
                      sizes, items);
      }
    };
    const bool packed =
        angles.half % kPack<T> == 0 && sizes.width % kPack<T> == 0 && is_aligned(from) && is_aligned(to);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
    const std::int64_t rest = sizes.batch * sizes.heads * sizes.steps * (sizes.width - 2 * angles.half);
    if (rest > 0 && from != to) {
      TRIVET_LAUNCH((rotary_rest_kernel<T>), dim3(blocks_for(rest)), dim3(kBlock), 0, args.stream, from, to,
                    2 * angles.half, sizes.width, rest);
    }
  });
}

void run_forward(const KernelArgs& args) { run_rotary(args, 1.0f); }
void run_backward(const KernelArgs& args) { run_rotary(args, -1.0f); }

bool is_supported(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == spec.in[0].dtype;
}

constexpr KernelEntry kTable[] = {
    {"rotary_embedding", is_supported, run_forward},
    {"rotary_embedding_backward", is_supported, run_backward},
};

}  // namespace

std::span<const KernelEntry> rotary_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
