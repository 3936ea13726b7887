// Ops that move elements: transpose, expand, concat, split, slice, space_to_depth and back, trilu, full.
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/families.h"
#include "trivet/kernels/attrs_shape.h"

namespace trivet::kernels::cuda {
namespace {

void run_transpose(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const IntList& perm = args.attributes<TransposeAttrs>().perm;
  std::int64_t x_strides[kMaxRank], y_strides[kMaxRank];
  dense_strides(x, x_strides);
  dense_strides(y, y_strides);
  Loop<2> loop;
  for (int d = 0; d < y.rank; ++d) {
    const std::int64_t axis = perm.n == 0 ? y.rank - 1 - d : perm.v[d];
    loop.add(y.shape[d], {y_strides[d], x_strides[axis]});
  }
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(y.as<T>(), x.as<const T>(), loop, args.stream);
  });
}

void run_expand(const KernelArgs& args) {
  const TensorDesc* const inputs[1] = {&args.in[0]};
  const Loop<2> loop = broadcast_loop<2>(args.out[0], inputs);
  with_word(args.in[0].dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(args.out[0].as<T>(), args.in[0].as<const T>(), loop, args.stream);
  });
}

// Each part of concat and split is rows of the whole.
void run_concat(const KernelArgs& args) {
  const View& y = args.out[0];
  const Extents whole = extents_of(y, args.attributes<ConcatAttrs>().axis);
  std::int64_t begin = 0;
  for (const View& x : args.in) {
    const std::int64_t run = whole.outer == 0 ? 0 : x.elements() / whole.outer;
    Loop<2> loop;
    loop.add(whole.outer, {whole.size * whole.inner, run});
    loop.add(run, {1, 1});
    with_word(y.dtype, [&](auto word) {
      using T = decltype(word);
      copy_strided(y.as<T>() + begin, x.as<const T>(), loop, args.stream);
    });
    begin += run;
  }
}

void run_split(const KernelArgs& args) {
  const View& x = args.in[0];
  const Extents whole = extents_of(x, args.attributes<SplitAttrs>().axis);
  std::int64_t begin = 0;
  for (const View& y : args.out) {
    const std::int64_t run = whole.outer == 0 ? 0 : y.elements() / whole.outer;
    Loop<2> loop;
    loop.add(whole.outer, {run, whole.size * whole.inner});
    loop.add(run, {1, 1});
    with_word(x.dtype, [&](auto word) {
      using T = decltype(word);
      copy_strided(y.as<T>(), x.as<const T>() + begin, loop, args.stream);
    });
    begin += run;
  }
}

// Walks a slice of `whole` together with the dense tensor `part` of the slice's shape; `whole_index` says which of the
// two tensors of the loop is the whole.
struct SliceLoop {
  Loop<2> loop;
  std::int64_t first = 0;  // element of the whole

  SliceLoop(const SliceAttrs& attrs, const TensorDesc& whole, const TensorDesc& part, int whole_index) {
    SliceRange ranges[kMaxRank];
    slice_ranges(attrs, whole.rank, whole.shape, ranges);
    std::int64_t whole_strides[kMaxRank], part_strides[kMaxRank];
    dense_strides(whole, whole_strides);
    dense_strides(part, part_strides);
    for (int d = 0; d < whole.rank; ++d) {
      first += ranges[d].start * whole_strides[d];
      std::int64_t stride[2];
      stride[whole_index] = ranges[d].step * whole_strides[d];
      stride[1 - whole_index] = part_strides[d];
      loop.add(part.shape[d], stride);
    }
  }
};

void run_slice(const KernelArgs& args) {
  const SliceLoop slice(args.attributes<SliceAttrs>(), args.in[0], args.out[0], kFrom);
  with_word(args.in[0].dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(args.out[0].as<T>(), args.in[0].as<const T>() + slice.first, slice.loop, args.stream);
  });
}

void run_slice_backward(const KernelArgs& args) {
  const View& dx = args.out[0];
  const SliceLoop slice(args.attributes<SliceBackwardAttrs>(), dx, args.in[0], kTo);
  with_word(dx.dtype, [&](auto word) {
    using T = decltype(word);
    fill(dx.as<T>(), T{0}, dx.elements(), args.stream);
    copy_strided(dx.as<T>() + slice.first, args.in[0].as<const T>(), slice.loop, args.stream);
  });
}

// Walks the pixels in the order of the larger image (N, H, block, W, block, C): tensor `fine` is that image, the other
// one has the block's rows and columns among its channels.
Loop<2> block_loop(const TensorDesc& fine, const DepthAttrs& attrs, int fine_index) {
  const std::int64_t block = attrs.blocksize;
  const std::int64_t height = fine.shape[1] / block;
  const std::int64_t width = fine.shape[2] / block;
  const std::int64_t channels = fine.shape[3];
  const bool dcr = attrs.mode == DepthOrder::dcr;
  const std::int64_t column_step = dcr ? channels : 1;  // among the coarse channels
  const std::int64_t pixel = block * block * channels;
  const std::int64_t sizes[6] = {fine.shape[0], height, block, width, block, channels};
  const std::int64_t coarse[6] = {height * width * pixel, width * pixel, block * column_step, pixel, column_step,
                                  dcr ? 1 : block * block};
  std::int64_t dense[6];
  for (std::int64_t d = 5, stride = 1; d >= 0; stride *= sizes[d--]) dense[d] = stride;
  Loop<2> loop;
  for (int d = 0; d < 6; ++d) {
    std::int64_t stride[2];
    stride[fine_index] = dense[d];
    stride[1 - fine_index] = coarse[d];
    loop.add(sizes[d], stride);
  }
  return loop;
}

template <int kFine>
void run_blocks(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const Loop<2> loop = block_loop(kFine == kTo ? y : x, args.attributes<DepthAttrs>(), kFine);
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    copy_strided(y.as<T>(), x.as<const T>(), loop, args.stream);
  });
}

// The sides of a matrix's diagonal: element (row, column) stays if it lies at or beyond column - row = k. Packs without
// an element that stays are not read. y may be x.
struct Triangle {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t k;
  bool upper;
};
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2) trilu_kernel(const T* x, T* y, Triangle t, std::int64_t packs) {
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const Quotient at = divide(i * N, t.columns);
    const std::int64_t distance = at.rest - divide(at.quotient, t.rows).rest - t.k;
    Pack<T, N> pack;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) pack.v[k] = T{0};
    if (t.upper ? distance + N > 0 : distance <= 0) {
      const Pack<T, N> from = load_pack<N>(x + i * N);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) pack.v[k] = (t.upper ? distance + k >= 0 : distance + k <= 0) ? from.v[k] : T{0};
    }
    store_pack(y + i * N, pack);
  }
}

void run_trilu(const KernelArgs& args) {
  const View& x_view = args.in[0];
  const auto& attrs = args.attributes<TriluAttrs>();
  const std::int64_t n = x_view.elements();
  if (n == 0) return;
  const std::int64_t rows = x_view.dim(-2);
  const std::int64_t columns = x_view.dim(-1);
  // Beyond these no element changes sides, and sums cannot overflow.
  const std::int64_t k = attrs.k < -rows ? -rows : attrs.k > columns ? columns : attrs.k;
  const Triangle triangle{rows, columns, k, attrs.upper};
  with_word(x_view.dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = x_view.as<const T>();
    T* const y = args.out[0].as<T>();
    const auto launch = [&](auto size) {
      constexpr int kN = decltype(size)::value;
      TRIVET_LAUNCH((trilu_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, x, y, triangle,
                    n / kN);
    };
    const bool packed = columns % kPack<T> == 0 && is_aligned(x) && is_aligned(y);
    packed ? launch(Size<kPack<T>>()) : launch(Size<1>());
  });
}

void run_full(const KernelArgs& args) {
  const View& y = args.out[0];
  const std::uint64_t bits = element_bits(y.dtype, args.attributes<FullAttrs>().value);
  with_word(y.dtype, [&](auto word) {
    using T = decltype(word);
    fill(y.as<T>(), static_cast<T>(bits), y.elements(), args.stream);
  });
}

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

}  // namespace

std::span<const KernelEntry> shape_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
