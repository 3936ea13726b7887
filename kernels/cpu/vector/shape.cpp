#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_loop.h"
#include "trivet/kernels/attrs_shape.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// Elements are moved as words of their size; may_alias, because they were written as floats or integers.
struct [[gnu::may_alias]] Word1 {
  std::uint8_t bits;
};
struct [[gnu::may_alias]] Word2 {
  std::uint16_t bits;
};
struct [[gnu::may_alias]] Word4 {
  std::uint32_t bits;
};
struct [[gnu::may_alias]] Word8 {
  std::uint64_t bits;
};

// Calls f with a word of the dtype's size.
template <class F>
TRIVET_INLINE void with_word(DType type, const F& f) {
  switch (dtype_size(type)) {
    case 1:
      return f(Word1{});
    case 2:
      return f(Word2{});
    case 4:
      return f(Word4{});
    default:
      return f(Word8{});
  }
}

// --- one copy for all: from any strides to any strides ---

constexpr int kTo = 0;
constexpr int kFrom = 1;
constexpr std::int64_t kTile = 16;

template <class T>
TRIVET_INLINE void copy_row(T* to, std::int64_t to_stride, const T* from, std::int64_t from_stride, std::int64_t n) {
  if (to_stride == 1 && from_stride == 1) {
    __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else if (to_stride == 1 && from_stride == 0) {
    const T value = *from;
    for (std::int64_t i = 0; i < n; ++i) to[i] = value;
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

// to[r * to_stride + c] = from[c * from_stride + r] for 4 x 4 elements of 4 bytes, in registers.
TRIVET_INLINE void transpose_4x4(Word4* to, std::int64_t to_stride, const Word4* from, std::int64_t from_stride) {
  typedef std::uint32_t Vector __attribute__((vector_size(16)));
  Vector in[4];
  for (int c = 0; c < 4; ++c) __builtin_memcpy(&in[c], from + c * from_stride, sizeof(Vector));
  const Vector low01 = __builtin_shuffle(in[0], in[1], Vector{0, 4, 1, 5});
  const Vector high01 = __builtin_shuffle(in[0], in[1], Vector{2, 6, 3, 7});
  const Vector low23 = __builtin_shuffle(in[2], in[3], Vector{0, 4, 1, 5});
  const Vector high23 = __builtin_shuffle(in[2], in[3], Vector{2, 6, 3, 7});
  const Vector out[4] = {
      __builtin_shuffle(low01, low23, Vector{0, 1, 4, 5}), __builtin_shuffle(low01, low23, Vector{2, 3, 6, 7}),
      __builtin_shuffle(high01, high23, Vector{0, 1, 4, 5}), __builtin_shuffle(high01, high23, Vector{2, 3, 6, 7})};
  for (int r = 0; r < 4; ++r) __builtin_memcpy(to + r * to_stride, &out[r], sizeof(Vector));
}

template <class T>
TRIVET_INLINE void transpose_tile(T* to, std::int64_t to_stride, const T* from, std::int64_t from_stride,
                                  std::int64_t rows, std::int64_t columns) {
  if constexpr (sizeof(T) == 4) {
    if (rows == kTile && columns == kTile) {
      for (std::int64_t r = 0; r < kTile; r += 4) {
        for (std::int64_t c = 0; c < kTile; c += 4) {
          transpose_4x4(to + r * to_stride + c, to_stride, from + c * from_stride + r, from_stride);
        }
      }
      return;
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[r * to_stride + c] = from[c * from_stride + r];
  }
}

// The output is dense along the last dimension, the input along dimension `dense_from`: by tiles of both, so that
// each cache line that is touched is used whole.
template <class T>
void copy_tiled(T* to, const T* from, RowLoop<2> loop, int dense_from, int threads) {
  const std::int64_t elements = loop.elements();
  const std::int64_t rows = loop.size(dense_from);
  const std::int64_t columns = loop.size(loop.rank() - 1);
  const std::int64_t to_stride = loop.stride(dense_from, kTo);
  const std::int64_t from_stride = loop.stride(loop.rank() - 1, kFrom);
  loop.remove_dimension(loop.rank() - 1);
  loop.remove_dimension(dense_from);
  const std::int64_t down = (rows + kTile - 1) / kTile;
  const std::int64_t across = (columns + kTile - 1) / kTile;
  parallel_pieces(loop.elements() * across * down, 32, elements, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      std::int64_t index[kMaxRank];
      std::int64_t offsets[2];
      loop.seek(tile / (across * down), loop.rank(), index, offsets);
      const std::int64_t r = tile / across % down * kTile;
      const std::int64_t c = tile % across * kTile;
      transpose_tile(to + offsets[kTo] + r * to_stride + c, to_stride, from + offsets[kFrom] + c * from_stride + r,
                     from_stride, rows - r < kTile ? rows - r : kTile, columns - c < kTile ? columns - c : kTile);
    }
  });
}

template <class T>
void copy_strided(T* to, const T* from, const RowLoop<2>& loop, int threads) {
  if (loop.elements() == 0) return;
  if (loop.inner_stride(kTo) == 1 && loop.inner_stride(kFrom) > 1) {
    for (int d = 0; d + 1 < loop.rank(); ++d) {
      if (loop.stride(d, kFrom) == 1) return copy_tiled(to, from, loop, d, threads);
    }
  }
  const std::int64_t to_stride = loop.inner_stride(kTo);
  const std::int64_t from_stride = loop.inner_stride(kFrom);
  loop.for_each_row(threads, [=](const std::int64_t* offsets, std::int64_t n) {
    copy_row(to + offsets[kTo], to_stride, from + offsets[kFrom], from_stride, n);
  });
}

template <class T>
void fill(T* to, T value, std::int64_t n, int threads) {
  parallel_pieces(n, 16384, n, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] = value;
  });
}

// Strides of a dense tensor.
TRIVET_INLINE void dense_strides(const TensorDesc& t, std::int64_t* strides) {
  std::int64_t stride = 1;
  for (int d = t.rank - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= t.shape[d];
  }
}

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

void run_concat(const KernelArgs& args) {
  const View& y = args.out[0];
  const std::int64_t given = args.attributes<ConcatAttrs>().axis;
  const int axis = static_cast<int>(given < 0 ? given + y.rank : given);
  std::int64_t outer = 1;
  for (int d = 0; d < axis; ++d) outer *= y.shape[d];
  std::int64_t inner = 1;
  for (int d = axis + 1; d < y.rank; ++d) inner *= y.shape[d];
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < args.in.size(); ++i) {
    const View& x = args.in[i];
    const std::int64_t run = x.shape[axis] * inner;
    RowLoop<2> loop;
    loop.add_dimension(outer, {y.shape[axis] * inner, run});
    loop.add_dimension(run, {1, 1});
    with_word(x.dtype, [&](auto word) {
      using T = decltype(word);
      copy_strided(y.as<T>() + begin, x.as<const T>(), loop, args.threads);
    });
    begin += run;
  }
}

// --- slice, slice_backward, pad ---

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

template <class T>
void pad(const KernelArgs& args, T value) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const auto& attrs = args.attributes<PadAttrs>();
  SliceRange ranges[kMaxRank];
  for (int d = 0; d < x.rank; ++d) ranges[d] = {0, 1, x.shape[d]};
  for (int i = 0; i < attrs.pads.n / 2; ++i) {
    const std::int64_t axis = attrs.axes.n == 0 ? i : attrs.axes.v[i] < 0 ? attrs.axes.v[i] + x.rank : attrs.axes.v[i];
    ranges[axis].start = attrs.pads.v[i];
  }
  RowLoop<2> loop;
  const std::int64_t first = slice_loop(y, x, ranges, kTo, loop);
  fill(y.as<T>(), value, element_count(y), args.threads);
  copy_strided(y.as<T>() + first, x.as<const T>(), loop, args.threads);
}

void run_pad(const KernelArgs& args) {
  const double value = args.attributes<PadAttrs>().value;
  switch (args.in[0].dtype) {
    case DType::i32:
      return pad(args, Word4{static_cast<std::uint32_t>(static_cast<std::int32_t>(value))});
    case DType::i64:
      return pad(args, Word8{static_cast<std::uint64_t>(static_cast<std::int64_t>(value))});
    case DType::u8:
      return pad(args, Word1{static_cast<std::uint8_t>(value)});
    default:
      return pad(args, __builtin_bit_cast(Word4, static_cast<float>(value)));
  }
}

// --- embedding ---

// Row of the table, or -1 for an id outside of it.
template <class Id>
TRIVET_INLINE std::int64_t row_of(Id id, std::int64_t rows) {
  const auto row = static_cast<std::int64_t>(id);
  return row >= 0 && row < rows ? row : -1;
}

template <class Id>
void embedding(const KernelArgs& args) {
  const View& table_view = args.in[0];
  const View& ids_view = args.in[1];
  const float* const table = table_view.as<const float>();
  const Id* const ids = ids_view.as<const Id>();
  float* const y = args.out[0].as<float>();
  const std::int64_t rows = table_view.shape[0];
  const std::int64_t width = table_view.shape[1];
  const std::int64_t n = element_count(ids_view);
  const std::int64_t grain = width < 8192 ? 8192 / (width + 1) + 1 : 1;
  parallel_pieces(n, grain, n * width, args.threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = row_of(ids[i], rows);
      float* const to = y + i * width;
      if (row >= 0) {
        __builtin_memcpy(to, table + row * width, static_cast<std::size_t>(width) * sizeof(float));
      } else {
        for (std::int64_t j = 0; j < width; ++j) to[j] = __builtin_nanf("");
      }
    }
  });
}

void run_embedding(const KernelArgs& args) {
  if (args.in[1].dtype == DType::i32) return embedding<std::int32_t>(args);
  embedding<std::int64_t>(args);
}

// Sums of dy over the positions that hold one id, in order. In float64, because a frequent id has very many.
constexpr std::int64_t kSumColumns = 64;
TRIVET_INLINE void sum_positions(float* to, const float* dy, std::int64_t width, const std::int64_t* first,
                                 const std::int64_t* last) {
  for (std::int64_t c = 0; c < width; c += kSumColumns) {
    const std::int64_t n = width - c < kSumColumns ? width - c : kSumColumns;
    double sums[kSumColumns] = {};
    for (const std::int64_t* p = first; p != last; ++p) {
      const float* const from = dy + *p * width + c;
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) sums[j] += static_cast<double>(from[j]);
    }
    for (std::int64_t j = 0; j < n; ++j) to[c + j] = static_cast<float>(sums[j]);
  }
}

// Positions are sorted by id (a stable counting sort), then each row of the table sums its own: no atomics, and an
// order that depends on nothing but the ids.
template <class Id>
void embedding_backward(const KernelArgs& args) {
  const View& ids_view = args.in[1];
  const float* const dy = args.in[0].as<const float>();
  const Id* const ids = ids_view.as<const Id>();
  float* const dtable = args.out[0].as<float>();
  const std::int64_t rows = args.out[0].shape[0];
  const std::int64_t width = args.out[0].shape[1];
  const std::int64_t n = element_count(ids_view);

  // After the sort, row r's positions end at ends[r] and begin where row r - 1's end.
  std::int64_t* const ends = static_cast<std::int64_t*>(args.workspace);
  std::int64_t* const positions = ends + rows;
  for (std::int64_t r = 0; r < rows; ++r) ends[r] = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = row_of(ids[i], rows);
    if (row >= 0) ++ends[row];
  }
  std::int64_t total = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t count = ends[r];
    ends[r] = total;
    total += count;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = row_of(ids[i], rows);
    if (row >= 0) positions[ends[row]++] = i;
  }
  parallel_pieces(rows, 32, (rows + n) * width, args.threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t first = r > 0 ? ends[r - 1] : 0;
      sum_positions(dtable + r * width, dy, width, positions + first, positions + ends[r]);
    }
  });
}

void run_embedding_backward(const KernelArgs& args) {
  if (args.in[1].dtype == DType::i32) return embedding_backward<std::int32_t>(args);
  embedding_backward<std::int64_t>(args);
}

std::size_t embedding_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const std::int64_t rows = spec.attributes<EmbeddingBackwardAttrs>().rows;
  return static_cast<std::size_t>(rows + element_count(spec.in[1])) * sizeof(std::int64_t);
}

void run_full(const KernelArgs& args) {
  const View& y = args.out[0];
  fill(y.as<float>(), static_cast<float>(args.attributes<FullAttrs>().value), element_count(y), args.threads);
}

// --- what is supported ---

bool any_type(const KernelSpec&) { return true; }

bool pad_types(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return type == DType::f32 || type == DType::i32 || type == DType::i64 || type == DType::u8;
}

bool embedding_types(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::f32 && (spec.in[1].dtype == DType::i32 || spec.in[1].dtype == DType::i64);
}

bool f32_out(const KernelSpec& spec) { return spec.out[0].dtype == DType::f32; }

constexpr KernelEntry kTable[] = {
    {"transpose", any_type, run_transpose},
    {"expand", any_type, run_expand},
    {"concat", any_type, run_concat},
    {"slice", any_type, run_slice},
    {"slice_backward", any_type, run_slice_backward},
    {"pad", pad_types, run_pad},
    {"embedding", embedding_types, run_embedding},
    {"embedding_backward", embedding_types, run_embedding_backward, nullptr, embedding_backward_workspace},
    {"full", f32_out, run_full},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> shape_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
