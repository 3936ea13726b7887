// Group and instance normalization: forward and backward.
#include "kernels/cuda/families.h"
#include "kernels/cuda/group_norm.cuh"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cuda {
namespace {

ColumnLayout layout_of(const TensorDesc& x, int pack) {
  const std::int64_t channels = x.dim(-1);
  std::int64_t pixels = 1;
  for (int d = 1; d + 1 < x.rank; ++d) pixels *= x.shape[d];
  return {pixels, channels, pack};
}

Groups groups_of(const TensorDesc& x, std::int64_t groups, int pack) {
  return {x.shape[0], groups, x.dim(-1) / groups, layout_of(x, pack)};
}

// Calls launch(first image, grid) for runs of images that one grid can hold.
template <class F>
void for_each_run(const Groups& g, const F& launch) {
  constexpr std::int64_t kMost = 65535;
  for (std::int64_t first = 0; first < g.images; first += kMost) {
    const std::int64_t count = g.images - first < kMost ? g.images - first : kMost;
    launch(first, dim3(static_cast<unsigned>(g.layout.tiles), static_cast<unsigned>(g.layout.pieces),
                       static_cast<unsigned>(count)));
  }
}

unsigned warps_for(std::int64_t units) { return blocks_for(units, kBlock / kWarp); }

template <class T, class F>
void with_pack(std::int64_t columns, bool aligned, const F& run) {
  aligned&& columns % kPack<T> == 0 ? run(Size<kPack<T>>()) : run(Size<1>());
}

template <int N, class T>
void forward(const KernelArgs& args, std::int64_t groups, double epsilon) {
  const T* const x = args.in[0].as<const T>();
  T* const y = args.out[0].as<T>();
  const Groups g = groups_of(args.in[0], groups, N);
  const std::int64_t columns = g.layout.columns;
  const std::int64_t vector = g.images * columns;
  const std::int64_t size = g.layout.rows * columns;
  float* const space = static_cast<float*>(args.workspace);
  float* const partial = space + 3 * vector;
  const ChannelVectors vectors{space, space + vector, space + 2 * vector};
  const GroupStatistics statistics{args.in[1].as<const float>(), args.in[2].as<const float>(), args.out[1].as<float>(),
                                   args.out[2].as<float>(), epsilon};
  for_each_run(g, [&](std::int64_t first, dim3 grid) {
    TRIVET_LAUNCH((moments_kernel<N, T>), grid, dim3(kBlock), 0, args.stream, x + first * size,
                  partial + first * g.layout.pieces * 3 * columns, g.layout);
  });
  TRIVET_LAUNCH(finish_groups_kernel, dim3(warps_for(g.images * g.groups)), dim3(kBlock), 0, args.stream, partial, g,
                statistics, vectors);
  const std::int64_t packs = g.images * size / N;
  TRIVET_LAUNCH((normalize_groups_kernel<N, T>), dim3(blocks_for(packs)), dim3(kBlock), 0, args.stream, x, y, packs,
                size, columns, vectors);
}

void normalize(const KernelArgs& args, std::int64_t groups, double epsilon) {
  if (args.in[0].elements() == 0) return;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const bool aligned = is_aligned(args.in[0].data) && is_aligned(args.out[0].data);
    with_pack<T>(args.in[0].dim(-1), aligned,
                 [&](auto pack) { forward<decltype(pack)::value, T>(args, groups, epsilon); });
  });
}

void run_group_norm(const KernelArgs& args) {
  const auto& attrs = args.attributes<GroupNormAttrs>();
  normalize(args, attrs.num_groups, attrs.epsilon);
}

void run_instance_norm(const KernelArgs& args) {
  normalize(args, args.in[0].dim(-1), args.attributes<InstanceNormAttrs>().epsilon);
}

template <int N, class T>
void backward(const KernelArgs& args) {
  const T* const dy = args.in[0].as<const T>();
  const T* const x = args.in[1].as<const T>();
  T* const dx = args.out[0].as<T>();
  const Groups g = groups_of(args.in[0], args.attributes<GroupNormBackwardAttrs>().num_groups, N);
  const std::int64_t columns = g.layout.columns;
  const std::int64_t vector = g.images * columns;
  const std::int64_t size = g.layout.rows * columns;
  float* const center = static_cast<float*>(args.workspace);
  const GradientVectors vectors{center, center + vector, center + 2 * vector, center + 3 * vector};
  float* const of_images = center + 4 * vector;
  float* const partial = of_images + 2 * vector;
  const GroupGradients gradients{args.in[2].as<const float>(), args.in[4].as<const float>(), of_images};
  TRIVET_LAUNCH(spread_means_kernel, dim3(blocks_for(vector)), dim3(kBlock), 0, args.stream,
                args.in[3].as<const float>(), center, vector, g.size);
  for_each_run(g, [&](std::int64_t first, dim3 grid) {
    TRIVET_LAUNCH((gradient_sums_kernel<N, T>), grid, dim3(kBlock), 0, args.stream, dy + first * size, x + first * size,
                  static_cast<const T*>(nullptr), static_cast<T*>(nullptr), center + first * columns,
                  partial + first * g.layout.pieces * 2 * columns, g.layout);
  });
  TRIVET_LAUNCH(finish_group_gradients_kernel, dim3(warps_for(g.images * g.groups)), dim3(kBlock), 0, args.stream,
                partial, g, gradients, vectors);
  TRIVET_LAUNCH(join_images_kernel, dim3(blocks_for(columns, kJoined)), dim3(kBlock), 0, args.stream, of_images,
                g.images, columns, args.out[1].as<float>(), args.out[2].as<float>());
  const std::int64_t packs = g.images * size / N;
  TRIVET_LAUNCH((group_gradients_kernel<N, T>), dim3(blocks_for(packs)), dim3(kBlock), 0, args.stream, dy, x, dx, packs,
                size, columns, vectors);
}

void run_group_norm_backward(const KernelArgs& args) {
  if (args.in[0].elements() == 0) return;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const bool aligned = is_aligned(args.in[0].data) && is_aligned(args.in[1].data) && is_aligned(args.out[0].data);
    with_pack<T>(args.in[0].dim(-1), aligned, [&](auto pack) { backward<decltype(pack)::value, T>(args); });
  });
}

// Inputs that are as large as input 0 have its type; the others are f32.
bool is_supported(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

// kVectors vectors for each image, and kSums sums for each of its pieces, whose number depends on the packs.
template <int kVectors, int kSums>
std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  std::int64_t pieces = 0;
  for (const int pack : {1, 4, 8}) {
    const std::int64_t found = layout_of(spec.in[0], pack).pieces;
    pieces = found > pieces ? found : pieces;
  }
  const std::int64_t vector = spec.in[0].shape[0] * spec.in[0].dim(-1);
  return static_cast<std::size_t>((kVectors + kSums * pieces) * vector) * sizeof(float);
}

constexpr KernelEntry kTable[] = {
    {"group_norm", is_supported, run_group_norm, nullptr, workspace<3, 3>},
    {"instance_norm", is_supported, run_instance_norm, nullptr, workspace<3, 3>},
    {"group_norm_backward", is_supported, run_group_norm_backward, nullptr, workspace<6, 2>},
};

}  // namespace

std::span<const KernelEntry> group_norm_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
