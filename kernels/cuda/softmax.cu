// Softmax and its logarithm along any axis.
#include "kernels/cuda/families.h"
#include "kernels/cuda/softmax.cuh"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cuda {
namespace {

void softmax(const KernelArgs& args, bool log) {
  const Extents e = extents_of(args.in[0], args.attributes<SoftmaxAttrs>().axis);
  if (e.outer * e.size * e.inner == 0) return;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    T* const y = args.out[0].as<T>();
    if (e.inner > 1) {
      TRIVET_LAUNCH((softmax_lanes_kernel<T>), dim3(blocks_for(e.outer * e.inner)), dim3(kBlock), 0, args.stream, x, y,
                    e.outer, e.size, e.inner, log);
      return;
    }
    with_row_sizes<T>(e.size, is_aligned(x) && is_aligned(y), [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      const RowLayout layout(e.size, kGroup, kN);
      TRIVET_LAUNCH((softmax_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(e.outer)), dim3(kBlock),
                    layout.shared_bytes(), args.stream, x, y, e.outer, layout, log);
    });
  });
}

void softmax_backward(const KernelArgs& args, bool log) {
  const Extents e = extents_of(args.in[0], args.attributes<SoftmaxAttrs>().axis);
  if (e.outer * e.size * e.inner == 0) return;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const dy = args.in[0].as<const T>();
    const T* const y = args.in[1].as<const T>();
    T* const dx = args.out[0].as<T>();
    if (e.inner > 1) {
      TRIVET_LAUNCH((softmax_lanes_backward_kernel<T>), dim3(blocks_for(e.outer * e.inner)), dim3(kBlock), 0,
                    args.stream, dy, y, dx, e.outer, e.size, e.inner, log);
      return;
    }
    with_row_sizes<T>(e.size, is_aligned(dy) && is_aligned(y) && is_aligned(dx), [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      const RowLayout layout(e.size, kGroup, kN);
      TRIVET_LAUNCH((softmax_backward_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(e.outer)), dim3(kBlock),
                    layout.shared_bytes(), args.stream, dy, y, dx, e.outer, layout, log);
    });
  });
}

template <bool kLog>
void run_softmax(const KernelArgs& args) {
  softmax(args, kLog);
}
template <bool kLog>
void run_softmax_backward(const KernelArgs& args) {
  softmax_backward(args, kLog);
}

constexpr KernelEntry kTable[] = {
    {"softmax", one_compute_type, run_softmax<false>},
    {"softmax_backward", one_compute_type, run_softmax_backward<false>},
    {"log_softmax", one_compute_type, run_softmax<true>},
    {"log_softmax_backward", one_compute_type, run_softmax_backward<true>},
};

}  // namespace

std::span<const KernelEntry> softmax_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
