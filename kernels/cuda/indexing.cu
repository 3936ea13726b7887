// Ops that take indices: embedding, gather, one-hot, and the gradients of the first two.
#include "kernels/cuda/families.h"
#include "kernels/cuda/indexing.cuh"
#include "trivet/kernels/attrs_indexing.h"

namespace trivet::kernels::cuda {
namespace {

// ---- reading ----

void gather_rows(const KernelArgs& args, const Extents& whole, const Indices& indices, bool zero_outside) {
  const View& x_view = args.in[0];
  const std::int64_t count = args.in[1].elements();
  const std::int64_t rows = whole.outer * count;
  const std::int64_t width = whole.inner;
  if (rows * width == 0) return;
  with_word(x_view.dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = x_view.as<const T>();
    T* const y = args.out[0].as<T>();
    const auto outside = static_cast<T>(outside_bits(x_view.dtype, zero_outside));
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((gather_kernel<kN, T>), dim3(blocks_for(rows * width / kN)), dim3(kBlock), 0, args.stream, x,
                    indices, y, rows, count, width / kN, outside);
    };
    const bool packed = width % kPack<T> == 0 && is_aligned(x) && is_aligned(y);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

void run_embedding(const KernelArgs& args) {
  const std::int64_t rows = args.in[0].shape[0];
  gather_rows(args, {1, rows, args.in[0].shape[1]}, indices_of(args.in[1], rows, false), false);
}

void run_gather(const KernelArgs& args) {
  const auto& attrs = args.attributes<GatherAttrs>();
  const Extents whole = extents_of(args.in[0], attrs.axis);
  gather_rows(args, whole, indices_of(args.in[1], whole.size, true), attrs.zero_outside);
}

void run_gather_elements(const KernelArgs& args) {
  const auto& attrs = args.attributes<GatherAttrs>();
  const View& x_view = args.in[0];
  const View& given = args.in[1];
  const int axis = static_cast<int>(attrs.axis < 0 ? attrs.axis + x_view.rank : attrs.axis);
  std::int64_t strides[kMaxRank], x_strides[kMaxRank];
  dense_strides(given, strides);
  dense_strides(x_view, x_strides);
  Loop<2> loop;
  for (int d = 0; d < given.rank; ++d) loop.add(given.shape[d], {strides[d], d == axis ? 0 : x_strides[d]});
  if (loop.elements == 0) return;
  const Indices indices = indices_of(given, x_view.shape[axis], true);
  const std::int64_t step = x_strides[axis];
  with_word(x_view.dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = x_view.as<const T>();
    T* const y = args.out[0].as<T>();
    const auto outside = static_cast<T>(outside_bits(x_view.dtype, attrs.zero_outside));
    TRIVET_LAUNCH((gather_elements_kernel<T>), dim3(blocks_for(loop.elements)), dim3(kBlock), 0, args.stream, x,
                  indices, y, loop, step, outside);
  });
}

void run_one_hot(const KernelArgs& args) {
  const auto& attrs = args.attributes<OneHotAttrs>();
  const View& y_view = args.out[0];
  const Extents whole = extents_of(y_view, attrs.axis);
  const std::int64_t n = y_view.elements();
  if (n == 0) return;
  const Indices indices = indices_of(args.in[0], whole.size, true);
  with_word(y_view.dtype, [&](auto word) {
    using T = decltype(word);
    T* const y = y_view.as<T>();
    const auto on = static_cast<T>(element_bits(y_view.dtype, attrs.on_value));
    const auto off = static_cast<T>(element_bits(y_view.dtype, attrs.off_value));
    TRIVET_LAUNCH((one_hot_kernel<T>), dim3(blocks_for(n)), dim3(kBlock), 0, args.stream, indices, y, n, whole.inner,
                  on, off);
  });
}

// ---- gradients ----

// Index in the upper half, place in the lower one: all keys differ, and equal indices keep the order of their places.
// What is outside, and what only fills up, comes last.
__global__ void __launch_bounds__(kBlock, 2)
    make_keys_kernel(Indices indices, std::uint64_t* keys, std::int64_t count, std::int64_t padded) {
  for (std::int64_t i = global_thread(); i < padded; i += global_threads()) {
    const std::int64_t index = i < count ? indices[i] : -1;
    keys[i] = index < 0 ? ~std::uint64_t{0} : (static_cast<std::uint64_t>(index) << 32) | static_cast<std::uint64_t>(i);
  }
}

void sort_places(const Indices& indices, std::uint64_t* keys, std::int64_t count, void* stream) {
  const std::int64_t n = padded_count(count);
  TRIVET_LAUNCH(make_keys_kernel, dim3(blocks_for(n)), dim3(kBlock), 0, stream, indices, keys, count, n);
  sort_rows(keys, 1, n, stream);
}

void sum_by_index(const KernelArgs& args, const Extents& whole, const Indices& indices) {
  const std::int64_t count = args.in[1].elements();
  const std::int64_t rows = whole.outer * whole.size;
  const std::int64_t width = whole.inner;
  if (rows * width == 0) return;
  auto* const keys = static_cast<std::uint64_t*>(args.workspace);
  sort_places(indices, keys, count, args.stream);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const dy = args.in[0].as<const T>();
    T* const dx = args.out[0].as<T>();
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((sum_places_kernel<kN, T>), dim3(blocks_for(rows * width / kN)), dim3(kBlock), 0, args.stream, dy,
                    keys, dx, rows, whole.size, count, width / kN);
    };
    const bool packed = width % kPack<T> == 0 && is_aligned(dy) && is_aligned(dx);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

void run_embedding_backward(const KernelArgs& args) {
  const std::int64_t rows = args.out[0].shape[0];
  sum_by_index(args, {1, rows, args.out[0].shape[1]}, indices_of(args.in[1], rows, false));
}

void run_gather_backward(const KernelArgs& args) {
  const Extents whole = extents_of(args.out[0], args.attributes<GatherBackwardAttrs>().axis);
  sum_by_index(args, whole, indices_of(args.in[1], whole.size, true));
}

std::size_t sort_workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(padded_count(spec.in[1].elements())) * sizeof(std::uint64_t);
}

// Places and indices have half a key each.
template <class A>
std::int64_t size_of(const A& attrs) {
  if constexpr (requires { attrs.rows; }) {
    return attrs.rows;
  } else {
    return attrs.size;
  }
}
template <class A>
bool sums(const KernelSpec& spec) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  return is_compute_type(spec.in[0].dtype) && spec.in[1].elements() < kMost && size_of(spec.attributes<A>()) < kMost;
}

constexpr KernelEntry kTable[] = {
    {"embedding", any_type, run_embedding},
    {"embedding_backward", sums<EmbeddingBackwardAttrs>, run_embedding_backward, nullptr, sort_workspace},
    {"gather", any_type, run_gather},
    {"gather_backward", sums<GatherBackwardAttrs>, run_gather_backward, nullptr, sort_workspace},
    {"gather_elements", any_type, run_gather_elements},
    {"one_hot", any_type, run_one_hot},
};

}  // namespace

std::span<const KernelEntry> indexing_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
