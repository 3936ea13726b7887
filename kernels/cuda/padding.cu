// Ops that make tensors larger: pad and its gradient, tile.
#include "kernels/cuda/families.h"
#include "kernels/cuda/padding.cuh"

namespace trivet::kernels::cuda {
namespace {

// `small`: the tensor without padding, `large`: with it. `attrs` is null for tile, which is padding behind.
Padding plan_padding(const TensorDesc& small, const TensorDesc& large, PadMode mode, const PadAttrs* attrs) {
  std::int64_t before[kMaxRank] = {};
  for (int i = 0; attrs != nullptr && i < attrs->pads.n / 2; ++i) {
    const std::int64_t given = attrs->axes.n == 0 ? i : attrs->axes.v[i];
    before[given < 0 ? given + small.rank : given] = attrs->pads.v[i];
  }
  Padding p;
  p.mode = mode;
  bool padded = true;  // the dimension before, which may then not grow
  for (int d = 0; d < small.rank; ++d) {
    const bool pads = small.shape[d] != large.shape[d];
    if (pads || padded) p.axes[p.rank++] = {1, 0, 1};
    PaddedAxis& axis = p.axes[p.rank - 1];
    axis = {axis.size * small.shape[d], before[d], axis.total * large.shape[d]};
    padded = pads;
  }
  if (p.rank > 0 && !padded) p.inner = p.axes[--p.rank].size;
  return p;
}

void pad(const KernelArgs& args, const Padding& p, std::uint64_t bits) {
  const std::int64_t n = args.out[0].elements();
  if (n == 0) return;
  with_word(args.in[0].dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = args.in[0].as<const T>();
    T* const y = args.out[0].as<T>();
    const auto value = static_cast<T>(bits);
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((pad_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, x, y, p, n / kN,
                    value);
    };
    const bool packed = p.inner % kPack<T> == 0 && is_aligned(x) && is_aligned(y);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

void run_pad(const KernelArgs& args) {
  const auto& attrs = args.attributes<PadAttrs>();
  const std::uint64_t bits = attrs.mode == PadMode::constant ? element_bits(args.in[0].dtype, attrs.value) : 0;
  pad(args, plan_padding(args.in[0], args.out[0], attrs.mode, &attrs), bits);
}

// Repeating is padding behind, from the other end.
void run_tile(const KernelArgs& args) { pad(args, plan_padding(args.in[0], args.out[0], PadMode::wrap, nullptr), 0); }

void run_pad_backward(const KernelArgs& args) {
  const std::int64_t n = args.out[0].elements();
  if (n == 0) return;
  const auto& attrs = args.attributes<PadAttrs>();
  const Padding p = plan_padding(args.out[0], args.in[0], attrs.mode, &attrs);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const dy = args.in[0].as<const T>();
    T* const dx = args.out[0].as<T>();
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((pad_backward_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, dy, dx, p,
                    n / kN);
    };
    const bool packed = p.inner % kPack<T> == 0 && is_aligned(dy) && is_aligned(dx);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

bool compute_type(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"pad", any_type, run_pad},
    {"tile", any_type, run_tile},
    {"pad_backward", compute_type, run_pad_backward},
};

}  // namespace

std::span<const KernelEntry> padding_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
