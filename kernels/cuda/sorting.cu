// Ops that depend on the order of elements: sort, top_k, argmax, argmin, non_zero.
#include "kernels/cuda/families.h"
#include "kernels/cuda/sorting.cuh"
#include "trivet/kernels/attrs_sorting.h"

namespace trivet::kernels::cuda {
namespace {

template <class T>
KeyRule<T> key_rule(DType type, bool reversed, bool nan_first) {
  constexpr std::uint64_t kF32 = 0x7f800000, kBf16 = 0x7f80, kF16 = 0x7c00, kF64 = std::uint64_t{0x7ff} << 52;
  const std::uint64_t infinity = type == DType::f32    ? kF32
                                 : type == DType::bf16 ? kBf16
                                 : type == DType::f16  ? kF16
                                                       : kF64;
  const bool is_signed = type == DType::i8 || type == DType::i32 || type == DType::i64;
  const NumberKind kind = is_float(type) ? NumberKind::floating
                          : is_signed    ? NumberKind::signed_integer
                                         : NumberKind::unsigned_integer;
  return {kind, static_cast<T>(infinity), reversed, nan_first};
}

// ---- sort, top_k ----

constexpr std::int64_t kMostPassed = 1024;  // that chunks of a long line hand on: half of a chunk

std::int64_t chunks_of(std::int64_t length) { return (length + kSorted - 1) / kSorted; }

// Items of scratch memory for all lines.
std::int64_t scratch_items(std::int64_t lines, std::int64_t n, std::int64_t k) {
  if (n <= kSorted) return 0;
  if (k > kMostPassed) return lines * padded_count(n);
  const std::int64_t first = chunks_of(n) * k;
  const std::int64_t second = first > kSorted ? chunks_of(first) * k : 0;
  return lines * (first + second);
}

// The first k of a long line, chunk by chunk; what they hand on goes to the two parts of the scratch memory in turn.
template <class Item, class T>
void choose_by_chunks(const Choice<T>& c, Item* scratch, void* stream) {
  Item* const parts[2] = {scratch, scratch + c.lines * chunks_of(c.n) * c.k};
  ChoicePass<Item> pass{nullptr, parts[0], c.n, kSorted, chunks_of(c.n), c.k};
  for (int turn = 0;; turn = 1 - turn) {
    const bool final = pass.length <= kSorted;
    pass.chunks = final ? 1 : chunks_of(pass.length);
    pass.to = final ? nullptr : parts[turn];
    pass.row = final ? padded_count(pass.length) : kSorted;
    const std::int64_t blocks = c.lines * pass.chunks;
    TRIVET_LAUNCH((choose_kernel<Item, T>), dim3(blocks_for(blocks, kSorted / pass.row)), dim3(kBlock), 0, stream, c,
                  pass);
    if (final) return;
    pass.from = pass.to;
    pass.length = pass.chunks * c.k;
  }
}

template <class Item, class T>
void choose_by_sorting(const Choice<T>& c, Item* items, void* stream) {
  const std::int64_t row = padded_count(c.n);
  const std::int64_t n = c.lines * row;
  TRIVET_LAUNCH((make_items_kernel<Item, T>), dim3(blocks_for(n)), dim3(kBlock), 0, stream, c, items, row);
  sort_rows(items, c.lines, row, stream);
  if (!c.sorted) {
    TRIVET_LAUNCH((order_by_index_kernel<Item>), dim3(blocks_for(n)), dim3(kBlock), 0, stream, items, n, row, c.k);
    sort_rows(items, c.lines, row, stream);
  }
  TRIVET_LAUNCH((write_items_kernel<Item, T>), dim3(blocks_for(c.lines * c.k)), dim3(kBlock), 0, stream, c,
                static_cast<const Item*>(items), row);
}

void run_choice(const KernelArgs& args, std::int64_t axis, std::int64_t k, bool descending, bool sorted) {
  const Extents e = extents_of(args.in[0], axis);
  const std::int64_t lines = e.outer * e.inner;
  if (lines * k == 0) return;
  with_word(args.in[0].dtype, [&](auto word) {
    using T = decltype(word);
    using Item = typename ItemOf<T>::Type;
    const Choice<T> c{args.in[0].as<const T>(),
                      args.out[0].as<T>(),
                      args.out[1].as<std::int64_t>(),
                      lines,
                      e.size,
                      e.inner,
                      k,
                      sorted,
                      key_rule<T>(args.in[0].dtype, descending, false)};
    auto* const scratch = static_cast<Item*>(args.workspace);
    if (e.size <= kSorted) {
      const ChoicePass<Item> pass{nullptr, nullptr, e.size, padded_count(e.size), 1, k};
      TRIVET_LAUNCH((choose_kernel<Item, T>), dim3(blocks_for(lines, kSorted / pass.row)), dim3(kBlock), 0, args.stream,
                    c, pass);
    } else if (k <= kMostPassed) {
      choose_by_chunks(c, scratch, args.stream);
    } else {
      choose_by_sorting(c, scratch, args.stream);
    }
  });
}

void run_top_k(const KernelArgs& args) {
  const auto& attrs = args.attributes<TopKAttrs>();
  run_choice(args, attrs.axis, attrs.k, attrs.largest, attrs.sorted);
}

void run_sort(const KernelArgs& args) {
  const auto& attrs = args.attributes<SortAttrs>();
  run_choice(args, attrs.axis, extents_of(args.in[0], attrs.axis).size, attrs.descending, true);
}

std::size_t choice_workspace(const KernelSpec& spec, std::int64_t axis, std::int64_t k) {
  const Extents e = extents_of(spec.in[0], axis);
  const std::size_t item = dtype_size(spec.in[0].dtype) == 8 ? sizeof(WideItem) : sizeof(std::uint64_t);
  return static_cast<std::size_t>(scratch_items(e.outer * e.inner, e.size, k)) * item;
}
std::size_t top_k_workspace(const KernelSpec& spec, const Prepared*) {
  const auto& attrs = spec.attributes<TopKAttrs>();
  return choice_workspace(spec, attrs.axis, attrs.k);
}
std::size_t sort_workspace(const KernelSpec& spec, const Prepared*) {
  const std::int64_t axis = spec.attributes<SortAttrs>().axis;
  return choice_workspace(spec, axis, extents_of(spec.in[0], axis).size);
}

// ---- argmax, argmin ----

// Both look for the largest key; for argmin keys are reversed, but for those of NaN.
template <bool kSmallest>
void run_arg(const KernelArgs& args) {
  const auto& attrs = args.attributes<ArgmaxAttrs>();
  const Extents e = extents_of(args.in[0], attrs.axis);
  const std::int64_t lines = e.outer * e.inner;
  if (lines == 0) return;
  std::int64_t* const y = args.out[0].as<std::int64_t>();
  with_word(args.in[0].dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = args.in[0].as<const T>();
    const ArgRule<T> rule{key_rule<T>(args.in[0].dtype, kSmallest, true), attrs.select_last_index};
    if (e.inner > 1) {
      TRIVET_LAUNCH((arg_columns_kernel<T>), dim3(blocks_for(lines)), dim3(kBlock), 0, args.stream, x, y, e, rule);
      return;
    }
    with_row_sizes<T>(e.size, is_aligned(x), [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      TRIVET_LAUNCH((arg_rows_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(lines)), dim3(kBlock), 0, args.stream, x,
                    y, lines, e.size, rule);
    });
  });
}

// ---- non_zero ----

std::int64_t tiles_of(std::int64_t n) { return (n + NonZero::kTile - 1) / NonZero::kTile; }

void run_non_zero(const KernelArgs& args) {
  const View& x_view = args.in[0];
  NonZero z{x_view.elements(), tiles_of(x_view.elements()), x_view.rank, {}};
  for (int d = 0; d < x_view.rank; ++d) z.shape[d] = x_view.shape[d];
  std::int64_t* const y = args.out[0].as<std::int64_t>();
  std::int64_t* const total = args.out[1].as<std::int64_t>();
  auto* const begins = static_cast<std::int64_t*>(args.workspace);
  const dim3 grid(blocks_for(z.tiles, 1));
  with_word(x_view.dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = x_view.as<const T>();
    // Everything but a float's sign: -0 is zero.
    const auto mask = static_cast<T>(static_cast<T>(~T{0}) >> (is_float(x_view.dtype) ? 1 : 0));
    if (z.n > 0) TRIVET_LAUNCH((count_tiles_kernel<T>), grid, dim3(kBlock), 0, args.stream, x, mask, begins, z);
    TRIVET_LAUNCH((scan_tiles_kernel<std::int64_t>), dim3(1), dim3(kBlock), 0, args.stream, begins, z.tiles, total);
    if (z.n == 0) return;
    TRIVET_LAUNCH((write_places_kernel<T>), grid, dim3(kBlock), 0, args.stream, x, mask,
                  static_cast<const std::int64_t*>(begins), y, z);
  });
  if (z.n * z.rank == 0) return;
  TRIVET_LAUNCH(fill_columns_kernel, dim3(blocks_for(z.n * z.rank)), dim3(kBlock), 0, args.stream, y,
                static_cast<const std::int64_t*>(total), z);
}

std::size_t non_zero_workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(tiles_of(spec.in[0].elements())) * sizeof(std::int64_t);
}

bool arg_type(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return type != DType::f64 && type != DType::boolean;
}

constexpr KernelEntry kTable[] = {
    {"sort", any_type, run_sort, nullptr, sort_workspace},
    {"top_k", any_type, run_top_k, nullptr, top_k_workspace},
    {"argmax", arg_type, run_arg<false>},
    {"argmin", arg_type, run_arg<true>},
    {"non_zero", any_type, run_non_zero, nullptr, non_zero_workspace},
};

}  // namespace

std::span<const KernelEntry> sorting_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
