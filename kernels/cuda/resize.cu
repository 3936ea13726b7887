// Resize and its gradient.
#include "kernels/cuda/families.h"
#include "kernels/cuda/resize.cuh"

namespace trivet::kernels::cuda {
namespace {

// `before` is what is resized, `after` the result of the forward op.
Resizing plan_resizing(const ResizeAttrs& attrs, const TensorDesc& before, const TensorDesc& after) {
  Resizing r;
  const int axes = before.rank - 2;
  r.batch = before.shape[0];
  r.channels = before.shape[before.rank - 1];
  for (int d = 0; d < axes; ++d) {
    r.axes[kMostAxes - axes + d] = {before.shape[d + 1], after.shape[d + 1],
                                    attrs.scales.n == 0 ? 0.0 : attrs.scales.v[d]};
  }
  return r;
}

// An axis that was added is taken as it is: its one position has one tap.
void make_tables(const ResizeAttrs& attrs, Resizing& r, const KernelArgs& args) {
  const ResizeRule rule{attrs.mode, attrs.coordinates, attrs.nearest_mode, attrs.cubic_coeff_a, attrs.exclude_outside};
  constexpr ResizeRule kAsItIs{ResizeMode::nearest, ResizeCoordinates::asymmetric, ResizeNearest::floor, 0, false};
  auto* table = static_cast<Taps*>(args.workspace);
  const int added = kMostAxes + 2 - args.in[0].rank;
  for (int d = 0; d < kMostAxes; ++d) {
    TRIVET_LAUNCH(resize_table_kernel, dim3(blocks_for(r.axes[d].out)), dim3(kBlock), 0, args.stream, table, r.axes[d],
                  d < added ? kAsItIs : rule);
    r.tables[d] = table;
    table += r.axes[d].out;
  }
}

// Calls launch(pack size) if packs of channels can be moved at once.
template <class T, class F>
void with_pack(const KernelArgs& args, std::int64_t channels, const F& launch) {
  const bool packed = channels % kPack<T> == 0 && is_aligned(args.in[0].data) && is_aligned(args.out[0].data);
  packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
}

void run_resize(const KernelArgs& args) {
  const auto& attrs = args.attributes<ResizeAttrs>();
  const std::int64_t n = args.out[0].elements();
  if (n == 0) return;
  Resizing r = plan_resizing(attrs, args.in[0], args.out[0]);
  make_tables(attrs, r, args);
  if (attrs.mode == ResizeMode::nearest) {
    with_word(args.in[0].dtype, [&](auto word) {
      using T = decltype(word);
      with_pack<T>(args, r.channels, [&](auto pack) {
        constexpr int kN = decltype(pack)::value;
        TRIVET_LAUNCH((pick_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream,
                      args.in[0].as<const T>(), args.out[0].as<T>(), r, n / kN);
      });
    });
    return;
  }
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    with_pack<T>(args, r.channels, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      TRIVET_LAUNCH((resize_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream,
                    args.in[0].as<const T>(), args.out[0].as<T>(), r, n / kN);
    });
  });
}

void run_resize_backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<ResizeBackwardAttrs>();
  const std::int64_t n = args.out[0].elements();
  if (n == 0) return;
  Resizing r = plan_resizing(attrs, args.out[0], args.in[0]);
  make_tables(attrs, r, args);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    with_pack<T>(args, r.channels, [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      TRIVET_LAUNCH((resize_backward_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream,
                    args.in[0].as<const T>(), args.out[0].as<T>(), r, n / kN);
    });
  });
}

std::size_t table_bytes(const Resizing& r) {
  return static_cast<std::size_t>(r.axes[0].out + r.axes[1].out + r.axes[2].out) * sizeof(Taps);
}
std::size_t resize_workspace(const KernelSpec& spec, const Prepared*) {
  return table_bytes(plan_resizing(spec.attributes<ResizeAttrs>(), spec.in[0], spec.out[0]));
}
std::size_t resize_backward_workspace(const KernelSpec& spec, const Prepared*) {
  return table_bytes(plan_resizing(spec.attributes<ResizeBackwardAttrs>(), spec.out[0], spec.in[0]));
}

bool forward_types(const KernelSpec& spec) {
  return spec.attributes<ResizeAttrs>().mode == ResizeMode::nearest || is_compute_type(spec.in[0].dtype);
}
bool compute_type(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"resize", forward_types, run_resize, nullptr, resize_workspace},
    {"resize_backward", compute_type, run_resize_backward, nullptr, resize_backward_workspace},
};

}  // namespace

std::span<const KernelEntry> resize_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
