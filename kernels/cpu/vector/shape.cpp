#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/copy.h"
#include "trivet/kernels/attrs_shape.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// --- transpose, expand, concat ---

void run_transpose(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const IntList& perm = args.attributes<TransposeAttrs>().perm;
  std::int64_t x_strides[kMaxRank];
  std::int64_t y_strides[kMaxRank];
  dense_strides(x, x_strides);
  dense_strides(y, y_strides);
  RowLoop<2> loop;
  for (int d = 0; d < y.rank; ++d) {
    const std::int64_t axis = perm.n == 0 ? y.rank - 1 - d : perm.v[d];
    loop.add_dimension(y.shape[d], {y_strides[d], x_strides[axis]});
  }
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(y.as<T>(), x.as<const T>(), loop, args.threads);
  });
}

void run_expand(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const View* const inputs[1] = {&x};
  const RowLoop<2> loop = broadcast_loop(y, inputs);
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(y.as<T>(), x.as<const T>(), loop, args.threads);
  });
}

// Each part of concat and split is rows of the whole.
void run_concat(const KernelArgs& args) {
  const View& y = args.out[0];
  const Extents whole = extents_of(y, args.attributes<ConcatAttrs>().axis);
  std::int64_t begin = 0;
  for (const View& x : args.in) {
    const std::int64_t run = whole.outer == 0 ? 0 : element_count(x) / whole.outer;
    RowLoop<2> loop;
    loop.add_dimension(whole.outer, {whole.size * whole.inner, run});
    loop.add_dimension(run, {1, 1});
    with_word(x.dtype, [&](auto word) {
      using T = decltype(word);
      copy_strided(y.as<T>() + begin, x.as<const T>(), loop, args.threads);
    });
    begin += run;
  }
}

void run_split(const KernelArgs& args) {
  const View& x = args.in[0];
  const Extents whole = extents_of(x, args.attributes<SplitAttrs>().axis);
  std::int64_t begin = 0;
  for (const View& y : args.out) {
    const std::int64_t run = whole.outer == 0 ? 0 : element_count(y) / whole.outer;
    RowLoop<2> loop;
    loop.add_dimension(whole.outer, {run, whole.size * whole.inner});
    loop.add_dimension(run, {1, 1});
    with_word(x.dtype, [&](auto word) {
      using T = decltype(word);
      copy_strided(y.as<T>(), x.as<const T>() + begin, loop, args.threads);
    });
    begin += run;
  }
}

// --- slice, slice_backward ---

// Walks a slice of tensor `whole` together with the dense tensor `part` of the slice's shape. Returns the offset of
// the slice's first element.
TRIVET_INLINE std::int64_t slice_loop(const TensorDesc& whole, const TensorDesc& part, const SliceRange* ranges,
                                      int whole_index, RowLoop<2>& loop) {
  std::int64_t whole_strides[kMaxRank];
  std::int64_t part_strides[kMaxRank];
  dense_strides(whole, whole_strides);
  dense_strides(part, part_strides);
  std::int64_t first = 0;
  for (int d = 0; d < whole.rank; ++d) {
    first += ranges[d].start * whole_strides[d];
    std::int64_t stride[2];
    stride[whole_index] = ranges[d].step * whole_strides[d];
    stride[1 - whole_index] = part_strides[d];
    loop.add_dimension(part.shape[d], stride);
  }
  return first;
}

void run_slice(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  SliceRange ranges[kMaxRank];
  slice_ranges(args.attributes<SliceAttrs>(), x.rank, x.shape, ranges);
  RowLoop<2> loop;
  const std::int64_t first = slice_loop(x, y, ranges, kFrom, loop);
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(y.as<T>(), x.as<const T>() + first, loop, args.threads);
  });
}

void run_slice_backward(const KernelArgs& args) {
  const View& dy = args.in[0];
  const View& dx = args.out[0];
  SliceRange ranges[kMaxRank];
  slice_ranges(args.attributes<SliceBackwardAttrs>(), dx.rank, dx.shape, ranges);
  RowLoop<2> loop;
  const std::int64_t first = slice_loop(dx, dy, ranges, kTo, loop);
  with_word(dx.dtype, [&](auto word) {
    using T = decltype(word);
    fill(dx.as<T>(), T{0}, element_count(dx), args.threads);
    copy_strided(dx.as<T>() + first, dy.as<const T>(), loop, args.threads);
  });
}

// --- space_to_depth, depth_to_space ---

// Walks the pixels in the order of the larger image (N, H, block, W, block, C): tensor `fine` is that image, the other
// one has the block's rows and columns among its channels.
TRIVET_INLINE RowLoop<2> block_loop(const TensorDesc& fine, const DepthAttrs& attrs, int fine_index) {
  const std::int64_t block = attrs.blocksize;
  const std::int64_t height = fine.shape[1] / block;
  const std::int64_t width = fine.shape[2] / block;
  const std::int64_t channels = fine.shape[3];
  const bool dcr = attrs.mode == DepthOrder::dcr;
  const std::int64_t column_step = dcr ? channels : 1;  // among the coarse channels
  const std::int64_t sizes[6] = {fine.shape[0], height, block, width, block, channels};
  const std::int64_t pixel = block * block * channels;
  const std::int64_t coarse[6] = {height * width * pixel, width * pixel, block * column_step, pixel, column_step,
                                  dcr ? 1 : block * block};
  std::int64_t dense = element_count(fine);
  RowLoop<2> loop;
  for (int d = 0; d < 6; ++d) {
    if (sizes[d] == 0) return RowLoop<2>::empty();
    dense /= sizes[d];
    std::int64_t stride[2];
    stride[fine_index] = dense;
    stride[1 - fine_index] = coarse[d];
    loop.add_dimension(sizes[d], stride);
  }
  return loop;
}

template <int kFine>
void run_blocks(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const RowLoop<2> loop = block_loop(kFine == kTo ? y : x, args.attributes<DepthAttrs>(), kFine);
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(y.as<T>(), x.as<const T>(), loop, args.threads);
  });
}

// --- trilu ---

template <class T>
void trilu(const View& x, const View& y, const TriluAttrs& attrs, int threads) {
  const std::int64_t rows = x.shape[x.rank - 2];
  const std::int64_t columns = x.shape[x.rank - 1];
  const std::int64_t n = element_count(x);
  if (n == 0) return;
  // Beyond these no element changes sides, and sums cannot overflow.
  const std::int64_t k = attrs.k < -rows ? -rows : attrs.k > columns ? columns : attrs.k;
  const T* const from = x.as<const T>();
  T* const to = y.as<T>();
  parallel_pieces(n / columns, columns < 8192 ? 8192 / columns : 1, n, threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      std::int64_t edge = r % rows + k + (attrs.upper ? 0 : 1);  // the first column on the right side
                      edge = edge < 0 ? 0 : edge > columns ? columns : edge;
                      const std::int64_t first = attrs.upper ? edge : 0;
                      const std::int64_t last = attrs.upper ? columns : edge;
                      T* const row = to + r * columns;
                      for (std::int64_t j = 0; j < first; ++j) row[j] = T{0};
                      if (to != from) copy_elements(row + first, from + r * columns + first, last - first);
                      for (std::int64_t j = last; j < columns; ++j) row[j] = T{0};
                    }
                  });
}

void run_trilu(const KernelArgs& args) {
  with_word(args.in[0].dtype, [&](auto word) {
    trilu<decltype(word)>(args.in[0], args.out[0], args.attributes<TriluAttrs>(), args.threads);
  });
}

void run_full(const KernelArgs& args) {
  const View& y = args.out[0];
  const std::uint64_t bits = element_bits(y.dtype, args.attributes<FullAttrs>().value);
  with_word(y.dtype, [&](auto word) {
    using T = decltype(word);
    fill(y.as<T>(), word_of<T>(bits), element_count(y), args.threads);
  });
}

bool any_type(const KernelSpec&) { return true; }

constexpr KernelEntry kTable[] = {
    {"transpose", any_type, run_transpose},
    {"expand", any_type, run_expand},
    {"concat", any_type, run_concat},
    {"split", any_type, run_split},
    {"slice", any_type, run_slice},
    {"slice_backward", any_type, run_slice_backward},
    {"space_to_depth", any_type, run_blocks<kFrom>},
    {"depth_to_space", any_type, run_blocks<kTo>},
    {"trilu", any_type, run_trilu},
    {"full", any_type, run_full},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> shape_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
