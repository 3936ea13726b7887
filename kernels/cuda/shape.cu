// Ops that move elements: transpose, expand, concat, split, slice, full.
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

void run_full(const KernelArgs& args) {
  const View& y = args.out[0];
  const std::uint64_t bits = element_bits(y.dtype, args.attributes<FullAttrs>().value);
  with_word(y.dtype, [&](auto word) {
    using T = decltype(word);
    fill(y.as<T>(), static_cast<T>(bits), y.elements(), args.stream);
  });
}

constexpr KernelEntry kTable[] = {
    {"transpose", any_type, run_transpose}, {"expand", any_type, run_expand},
    {"concat", any_type, run_concat},       {"split", any_type, run_split},
    {"slice", any_type, run_slice},         {"slice_backward", any_type, run_slice_backward},
    {"full", any_type, run_full},
};

}  // namespace

std::span<const KernelEntry> shape_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
