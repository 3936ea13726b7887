// Pooling.
#include "kernels/cuda/families.h"
#include "kernels/cuda/pooling.cuh"

namespace trivet::kernels::cuda {
namespace {

// `Attrs` is void for adaptive and global pools.
template <class Attrs>
const PoolWindow* window_of(const void* attrs) {
  return static_cast<const Attrs*>(attrs);
}
template <>
const PoolWindow* window_of<void>(const void*) {
  return nullptr;
}

template <class Attrs>
bool includes_pads(const void* attrs) {
  return static_cast<const Attrs*>(attrs)->count_include_pad;
}
template <>
bool includes_pads<void>(const void*) {
  return false;
}

// Calls run(element, pack size) for the dtype and the widest packs of channels that the memory allows.
template <class F>
void with_packs(DType type, std::int64_t channels, bool aligned, const F& run) {
  with_compute_type(type, [&](auto element) {
    constexpr int kN = kPack<decltype(element)>;
    aligned&& channels % kN == 0 ? run(element, Size<kN>()) : run(element, Size<1>());
  });
}

void launch_pool(const KernelArgs& args, const PoolGeometry& g, Pool pool) {
  const View& image = args.in[0];
  const View& pooled = args.out[0];
  if (pooled.elements() == 0) return;
  with_packs(image.dtype, g.channels, is_aligned(image.data) && is_aligned(pooled.data), [&](auto element, auto pack) {
    using T = decltype(element);
    constexpr int kN = decltype(pack)::value;
    const std::int64_t items = pooled.elements() / kN;
    const T* const from = image.as<const T>();
    T* const to = pooled.as<T>();
    TRIVET_LAUNCH((pool_kernel<kN, T>), dim3(blocks_for(items)), dim3(kBlock), 0, args.stream, from, to, g, items,
                  pool);
  });
}

template <class Attrs>
void run_max(const KernelArgs& args) {
  launch_pool(args, PoolGeometry(args.in[0], args.out[0], window_of<Attrs>(args.attrs)), Pool::largest);
}

template <class Attrs>
void run_average(const KernelArgs& args) {
  launch_pool(args, PoolGeometry(args.in[0], args.out[0], window_of<Attrs>(args.attrs)),
              includes_pads<Attrs>(args.attrs) ? Pool::average_with_pads : Pool::average);
}

template <class Attrs>
void run_max_backward(const KernelArgs& args) {
  const View& dy_view = args.in[0];
  const PoolGeometry g(args.in[1], dy_view, window_of<Attrs>(args.attrs));
  const View& dx_view = args.out[0];
  if (dx_view.elements() == 0) return;
  auto* const origin = static_cast<std::int32_t*>(args.workspace);
  const bool aligned = is_aligned(dy_view.data) && is_aligned(args.in[1].data) && is_aligned(args.in[2].data) &&
                       is_aligned(dx_view.data);
  with_packs(dy_view.dtype, g.channels, aligned, [&](auto element, auto pack) {
    using T = decltype(element);
    constexpr int kN = decltype(pack)::value;
    const std::int64_t windows = dy_view.elements() / kN;
    const std::int64_t pixels = dx_view.elements() / kN;
    const T* const dy = dy_view.as<const T>();
    const T* const x = args.in[1].as<const T>();
    const T* const y = args.in[2].as<const T>();
    T* const dx = dx_view.as<T>();
    if (windows > 0) {
      TRIVET_LAUNCH((find_maxima_kernel<kN, T>), dim3(blocks_for(windows)), dim3(kBlock), 0, args.stream, x, y, origin,
                    g, windows);
    }
    TRIVET_LAUNCH((pool_backward_kernel<kN, T>), dim3(blocks_for(pixels)), dim3(kBlock), 0, args.stream, dy, origin, dx,
                  g, pixels, false);
  });
}

template <class Attrs>
void run_average_backward(const KernelArgs& args) {
  const View& dy_view = args.in[0];
  const View& dx_view = args.out[0];
  const PoolGeometry g(dx_view, dy_view, window_of<Attrs>(args.attrs));
  if (dx_view.elements() == 0) return;
  const bool with_pads = includes_pads<Attrs>(args.attrs);
  with_packs(dy_view.dtype, g.channels, is_aligned(dy_view.data) && is_aligned(dx_view.data),
             [&](auto element, auto pack) {
               using T = decltype(element);
               constexpr int kN = decltype(pack)::value;
               const std::int64_t pixels = dx_view.elements() / kN;
               const T* const dy = dy_view.as<const T>();
               T* const dx = dx_view.as<T>();
               const std::int32_t* const origin = nullptr;
               TRIVET_LAUNCH((pool_backward_kernel<kN, T>), dim3(blocks_for(pixels)), dim3(kBlock), 0, args.stream, dy,
                             origin, dx, g, pixels, with_pads);
             });
}

// Pixels and places are numbered in 32 bits.
constexpr std::int64_t kMost = std::int64_t{1} << 30;

bool fits(const TensorDesc& image) {
  std::int64_t pixels = 1;
  for (int d = 1; d + 1 < image.rank; ++d) pixels *= image.shape[d];
  return pixels < kMost;
}
bool fits(const IntList& list) {
  for (int i = 0; i < list.n; ++i) {
    if (list.v[i] >= kMost) return false;
  }
  return true;
}

template <class Attrs>
bool is_supported(const KernelSpec& spec) {
  const PoolWindow* const w = window_of<Attrs>(spec.attrs);
  const bool window_fits = w == nullptr || (fits(w->kernel) && fits(w->strides) && fits(w->pads) && fits(w->dilations));
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == spec.in[0].dtype && fits(spec.in[0]) &&
         fits(spec.out[0]) && window_fits;
}

std::size_t origin_workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(spec.in[0].elements()) * sizeof(std::int32_t);
}

constexpr KernelEntry kTable[] = {
    {"max_pool", is_supported<MaxPoolAttrs>, run_max<MaxPoolAttrs>},
    {"max_pool_backward", is_supported<MaxPoolAttrs>, run_max_backward<MaxPoolAttrs>, nullptr, origin_workspace},
    {"average_pool", is_supported<AveragePoolAttrs>, run_average<AveragePoolAttrs>},
    {"average_pool_backward", is_supported<AveragePoolBackwardAttrs>, run_average_backward<AveragePoolBackwardAttrs>},
    {"adaptive_max_pool", is_supported<void>, run_max<void>},
    {"adaptive_max_pool_backward", is_supported<void>, run_max_backward<void>, nullptr, origin_workspace},
    {"adaptive_average_pool", is_supported<void>, run_average<void>},
    {"adaptive_average_pool_backward", is_supported<void>, run_average_backward<void>},
    {"global_max_pool", is_supported<void>, run_max<void>},
    {"global_average_pool", is_supported<void>, run_average<void>},
};

}  // namespace

std::span<const KernelEntry> pooling_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
