// Ops that address elements by indices in several dimensions: gather_nd, scatter_nd, scatter_elements.
#include "kernels/cuda/families.h"
#include "kernels/cuda/scatter.cuh"
#include "trivet/kernels/attrs_indexing.h"

namespace trivet::kernels::cuda {
namespace {

void run_gather_nd(const KernelArgs& args) {
  const auto& attrs = args.attributes<GatherNdAttrs>();
  const Tuples tuples(args.in[0], args.in[1], attrs.batch_dims);
  const std::int64_t n = tuples.count * tuples.width;
  if (n == 0) return;
  with_word(args.in[0].dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = args.in[0].as<const T>();
    T* const y = args.out[0].as<T>();
    const auto outside = static_cast<T>(outside_bits(args.in[0].dtype, attrs.zero_outside));
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((gather_tuples_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, x, y, tuples,
                    n / kN, outside);
    };
    const bool packed = tuples.width % kPack<T> == 0 && is_aligned(x) && is_aligned(y);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

// ---- scatter ----

// Calls f(element, join) for a reduction and the dtype of the elements; `none` only moves them.
template <class F>
void with_join(DType type, ScatterReduction reduction, const F& f) {
  const auto with_element = [&](auto join) {
    if (type == DType::i32) {
      f(std::int32_t{}, join);
    } else if (type == DType::i64) {
      f(std::int64_t{}, join);
    } else {
      with_compute_type(type, [&](auto element) { f(element, join); });
    }
  };
  switch (reduction) {
    case ScatterReduction::none:
      return with_word(type, [&](auto word) { f(word, KeepLast{}); });
    case ScatterReduction::add:
      return with_element(JoinSum{});
    case ScatterReduction::mul:
      return with_element(JoinProduct{});
    case ScatterReduction::max:
      return with_element(JoinLargest{});
    case ScatterReduction::min:
      return with_element(JoinSmallest{});
  }
}

template <class T>
void copy_all(T* to, const T* from, std::int64_t n, void* stream) {
  if (to == from) return;
  Loop<2> loop;
  loop.add(n, {1, 1});
  copy_strided(to, from, loop, stream);
}

// y = x joined with `count` updates of `width` elements at their targets, in their order.
template <class Targets>
void scatter(const KernelArgs& args, ScatterReduction reduction, const Targets& targets, std::int64_t count,
             std::int64_t width) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_all(y.as<T>(), x.as<const T>(), x.elements(), args.stream);
  });
  if (count * width == 0) return;
  auto* const keys = static_cast<std::uint64_t*>(args.workspace);
  const std::int64_t padded = padded_count(count);
  TRIVET_LAUNCH((target_keys_kernel<Targets>), dim3(blocks_for(padded)), dim3(kBlock), 0, args.stream, targets, keys,
                count, padded);
  sort_rows(keys, 1, padded, args.stream);
  with_join(x.dtype, reduction, [&](auto element, auto join) {
    using T = decltype(element);
    using Join = decltype(join);
    const T* const updates = args.in[2].as<const T>();
    T* const to = y.as<T>();
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((join_updates_kernel<kN, T, Join>), dim3(blocks_for(count * width / kN)), dim3(kBlock), 0,
                    args.stream, to, updates, keys, count, width / kN, join);
    };
    const bool packed = width % kPack<T> == 0 && is_aligned(updates) && is_aligned(to);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

void run_scatter_elements(const KernelArgs& args) {
  const auto& attrs = args.attributes<ScatterElementsAttrs>();
  const View& x = args.in[0];
  const View& given = args.in[1];
  const int axis = static_cast<int>(attrs.axis < 0 ? attrs.axis + x.rank : attrs.axis);
  std::int64_t strides[kMaxRank], x_strides[kMaxRank];
  dense_strides(given, strides);
  dense_strides(x, x_strides);
  LineTargets targets{indices_of(given, x.shape[axis], true), {}, x_strides[axis]};
  for (int d = 0; d < given.rank; ++d) targets.loop.add(given.shape[d], {strides[d], d == axis ? 0 : x_strides[d]});
  scatter(args, attrs.reduction, targets, given.elements(), 1);
}

void run_scatter_nd(const KernelArgs& args) {
  const auto& attrs = args.attributes<ScatterNdAttrs>();
  const Tuples tuples(args.in[0], args.in[1], attrs.batch_dims);
  scatter(args, attrs.reduction, tuples, tuples.count, tuples.width);
}

// How many updates there are: an index each, or a tuple each.
template <class A>
std::int64_t updates_of(const KernelSpec& spec) {
  const TensorDesc& indices = spec.in[1];
  if (requires(const A& attrs) { attrs.batch_dims; }) {
    return indices.elements() / (indices.dim(-1) > 0 ? indices.dim(-1) : 1);
  }
  return indices.elements();
}

template <class A>
std::size_t scatter_workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(padded_count(updates_of<A>(spec))) * sizeof(std::uint64_t);
}

// Targets and updates have half a key each.
template <class A>
bool scatters(const KernelSpec& spec) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const DType type = spec.in[0].dtype;
  const bool joins = is_compute_type(type) || type == DType::i32 || type == DType::i64;
  return (joins || spec.attributes<A>().reduction == ScatterReduction::none) && spec.in[0].elements() < kMost &&
         updates_of<A>(spec) < kMost;
}

constexpr KernelEntry kTable[] = {
    {"gather_nd", any_type, run_gather_nd},
    {"scatter_elements", scatters<ScatterElementsAttrs>, run_scatter_elements, nullptr,
     scatter_workspace<ScatterElementsAttrs>},
    {"scatter_nd", scatters<ScatterNdAttrs>, run_scatter_nd, nullptr, scatter_workspace<ScatterNdAttrs>},
};

}  // namespace

std::span<const KernelEntry> scatter_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
