// Ops that take indices. trivet/kernels/attrs_indexing.h has the rule for indices that are outside.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/copy.h"
#include "kernels/cpu/vector/storage.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_indexing.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

struct Indices {
  const std::int32_t* narrow = nullptr;
  const std::int64_t* wide = nullptr;

  explicit Indices(const View& v) {
    if (v.dtype == DType::i32) {
      narrow = v.as<const std::int32_t>();
    } else {
      wide = v.as<const std::int64_t>();
    }
  }
  TRIVET_INLINE std::int64_t operator[](std::int64_t i) const { return narrow != nullptr ? narrow[i] : wide[i]; }
};

// The element of `n` that an index names, or -1 where it is outside.
TRIVET_INLINE std::int64_t element_of(std::int64_t index, std::int64_t n) {
  const std::int64_t i = index < 0 ? index + n : index;
  return i >= 0 && i < n ? i : -1;
}
TRIVET_INLINE std::int64_t row_of(std::int64_t id, std::int64_t rows) { return id >= 0 && id < rows ? id : -1; }

// What is read outside.
TRIVET_INLINE std::uint64_t outside_bits(DType type, bool zero) {
  return zero || !is_float(type) ? 0 : element_bits(type, __builtin_nan(""));
}

constexpr std::int64_t kPieceElements = 8192;

// --- reading: embedding, gather, gather_nd ---

// Row r of y is row source(i, j) of x, or `outside` for -1, where r = i * per_item + j.
template <class F>
TRIVET_INLINE void copy_rows(const View& x_view, const View& y_view, std::int64_t items, std::int64_t per_item,
                             std::int64_t width, bool zero_outside, int threads, const F& source) {
  const std::int64_t rows = items * per_item;
  if (rows * width == 0) return;
  const std::uint64_t bits = outside_bits(x_view.dtype, zero_outside);
  with_word(x_view.dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = x_view.as<const T>();
    T* const y = y_view.as<T>();
    const T outside = word_of<T>(bits);
    const std::int64_t grain = width < kPieceElements ? kPieceElements / width : 1;
    parallel_pieces(rows, grain, rows * width, threads, [=](std::int64_t begin, std::int64_t end) {
      std::int64_t i = begin / per_item;
      std::int64_t j = begin % per_item;
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t from = source(i, j);
        if (++j == per_item) {
          j = 0;
          ++i;
        }
        if (width == 1) {
          y[r] = from >= 0 ? x[from] : outside;
        } else if (from >= 0) {
          copy_elements(y + r * width, x + from * width, width);
        } else {
          for (std::int64_t k = 0; k < width; ++k) y[r * width + k] = outside;
        }
      }
    });
  });
}

void run_embedding(const KernelArgs& args) {
  const View& table = args.in[0];
  const Indices ids(args.in[1]);
  const std::int64_t rows = table.shape[0];
  copy_rows(table, args.out[0], 1, element_count(args.in[1]), table.shape[1], false, args.threads,
            [=](std::int64_t, std::int64_t j) { return row_of(ids[j], rows); });
}

void run_gather(const KernelArgs& args) {
  const auto& attrs = args.attributes<GatherAttrs>();
  const Extents whole = extents_of(args.in[0], attrs.axis);
  const Indices indices(args.in[1]);
  const std::int64_t count = element_count(args.in[1]);
  copy_rows(args.in[0], args.out[0], whole.outer, count, whole.inner, attrs.zero_outside, args.threads,
            [=](std::int64_t o, std::int64_t j) {
              const std::int64_t i = element_of(indices[j], whole.size);
              return i < 0 ? i : o * whole.size + i;
            });
}

// Tuples of `depth` indices into x, as gather_nd and scatter_nd have them.
struct Tuples {
  Indices indices;
  int depth = 0;
  std::int64_t sizes[kMaxRank] = {};  // of the indexed dimensions
  std::int64_t rows = 1;              // of x in one batch item: the product of the sizes
  std::int64_t per_batch = 1;
  std::int64_t count = 1;
  std::int64_t width = 1;  // elements that one tuple names

  Tuples(const TensorDesc& x, const View& view, std::int64_t batch_dims) : indices(view) {
    const int batch = static_cast<int>(batch_dims);
    depth = static_cast<int>(view.shape[view.rank - 1]);
    for (int d = 0; d < depth; ++d) {
      sizes[d] = x.shape[batch + d];
      rows *= sizes[d];
    }
    for (int d = batch + depth; d < x.rank; ++d) width *= x.shape[d];
    for (int d = 0; d < view.rank - 1; ++d) {
      count *= view.shape[d];
      if (d >= batch) per_batch *= view.shape[d];
    }
  }

  // The row of x, or -1 where an index is outside.
  TRIVET_INLINE std::int64_t row(std::int64_t t) const {
    std::int64_t row = t / per_batch;
    for (int d = 0; d < depth; ++d) {
      const std::int64_t i = element_of(indices[t * depth + d], sizes[d]);
      if (i < 0) return -1;
      row = row * sizes[d] + i;
    }
    return row;
  }
};

void run_gather_nd(const KernelArgs& args) {
  const auto& attrs = args.attributes<GatherNdAttrs>();
  const Tuples tuples(args.in[0], args.in[1], attrs.batch_dims);
  copy_rows(args.in[0], args.out[0], 1, tuples.count, tuples.width, attrs.zero_outside, args.threads,
            [&tuples](std::int64_t, std::int64_t t) { return tuples.row(t); });
}

// --- sums over the places of each index: embedding_backward, gather_backward ---

constexpr std::int64_t kSumColumns = 256;
constexpr std::int64_t kSumRows = 64;  // in f32, before they are added to an f64: a frequent id has very many

// a[j] += x[j], or = for the first row.
template <class T>
TRIVET_INLINE void add_row(float* a, const T* x, std::int64_t n, bool first) {
  if (first) {
    for (std::int64_t j = 0; j < n; ++j) a[j] = to_f32(x[j]);
  } else {
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) a[j] += to_f32(x[j]);
  }
}

// The sum of the rows of dy at the places [first, last), in their order.
template <class T>
TRIVET_INLINE void sum_rows(T* to, const T* dy, std::int64_t width, const std::int64_t* first,
                            const std::int64_t* last) {
  if (last - first <= 1) {
    if (first == last) {
      __builtin_memset(to, 0, static_cast<std::size_t>(width) * sizeof(T));
    } else {
      copy_elements(to, dy + *first * width, width);
    }
    return;
  }
  for (std::int64_t c = 0; c < width; c += kSumColumns) {
    const std::int64_t n = width - c < kSumColumns ? width - c : kSumColumns;
    float block[kSumColumns];
    double totals[kSumColumns];
    for (const std::int64_t* begin = first; begin < last; begin += kSumRows) {
      const std::int64_t rows = last - begin < kSumRows ? last - begin : kSumRows;
      for (std::int64_t r = 0; r < rows; ++r) {
        if (begin + r + 8 < last) __builtin_prefetch(dy + begin[r + 8] * width + c);
        add_row(block, dy + begin[r] * width + c, n, r == 0);
        asm volatile("" ::: "memory");  // keeps the compiler from joining rows
      }
      for (std::int64_t j = 0; j < n; ++j) {
        totals[j] = begin == first ? static_cast<double>(block[j]) : totals[j] + static_cast<double>(block[j]);
      }
    }
    for (std::int64_t j = 0; j < n; ++j) to[c + j] = from_f32<T>(static_cast<float>(totals[j]));
  }
}

// Places are sorted by index (a stable counting sort), then each row of the result sums its own: no atomics, and an
// order that depends on nothing but the indices. dy: (outer, count, width), dx: (outer, size, width).
template <class T, class F>
void sum_by_index(const KernelArgs& args, const Extents& whole, std::int64_t count, const F& index_of) {
  const T* const dy = args.in[0].as<const T>();
  T* const dx = args.out[0].as<T>();
  const std::int64_t size = whole.size;
  const std::int64_t width = whole.inner;
  // After the sort, index i's places end at ends[i] and begin where those of i - 1 end.
  std::int64_t* const ends = static_cast<std::int64_t*>(args.workspace);
  std::int64_t* const places = ends + size;
  for (std::int64_t i = 0; i < size; ++i) ends[i] = 0;
  for (std::int64_t p = 0; p < count; ++p) {
    const std::int64_t i = index_of(p);
    if (i >= 0) ++ends[i];
  }
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t mine = ends[i];
    ends[i] = total;
    total += mine;
  }
  for (std::int64_t p = 0; p < count; ++p) {
    const std::int64_t i = index_of(p);
    if (i >= 0) places[ends[i]++] = p;
  }
  const std::int64_t grain = width < 2048 ? 2048 / (width + 1) + 1 : 1;
  parallel_pieces(whole.outer * size, grain, whole.outer * (size + count) * width, args.threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      const std::int64_t i = r % size;
                      const std::int64_t* const first = places + (i > 0 ? ends[i - 1] : 0);
                      sum_rows(dx + r * width, dy + r / size * count * width, width, first, places + ends[i]);
                    }
                  });
}

void run_embedding_backward(const KernelArgs& args) {
  const std::int64_t rows = args.out[0].shape[0];
  const Indices ids(args.in[1]);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    sum_by_index<decltype(element)>(args, {1, rows, args.out[0].shape[1]}, element_count(args.in[1]),
                                    [=](std::int64_t p) { return row_of(ids[p], rows); });
  });
}

void run_gather_backward(const KernelArgs& args) {
  const Extents whole = extents_of(args.out[0], args.attributes<GatherBackwardAttrs>().axis);
  const Indices indices(args.in[1]);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    sum_by_index<decltype(element)>(args, whole, element_count(args.in[1]),
                                    [=](std::int64_t p) { return element_of(indices[p], whole.size); });
  });
}

std::size_t embedding_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const std::int64_t rows = spec.attributes<EmbeddingBackwardAttrs>().rows;
  return static_cast<std::size_t>(rows + element_count(spec.in[1])) * sizeof(std::int64_t);
}

std::size_t gather_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const std::int64_t size = spec.attributes<GatherBackwardAttrs>().size;
  return static_cast<std::size_t>(size + element_count(spec.in[1])) * sizeof(std::int64_t);
}

// --- gather_elements, scatter_elements ---

// Lines along `axis`: all dimensions but that one, of the indices (tensor 0) and of x (tensor 1).
struct Lines {
  RowLoop<2> loop;
  std::int64_t length = 0;  // indices in a line
  std::int64_t step = 1;    // between them
  std::int64_t size = 0;    // elements of x in a line
  std::int64_t x_step = 1;

  Lines(const TensorDesc& indices, const TensorDesc& x, std::int64_t given_axis) {
    const int axis = static_cast<int>(given_axis < 0 ? given_axis + x.rank : given_axis);
    std::int64_t strides[kMaxRank];
    std::int64_t x_strides[kMaxRank];
    dense_strides(indices, strides);
    dense_strides(x, x_strides);
    for (int d = 0; d < x.rank; ++d) {
      if (d != axis) loop.add_dimension(indices.shape[d], {strides[d], x_strides[d]});
    }
    length = indices.shape[axis];
    step = strides[axis];
    size = x.shape[axis];
    x_step = x_strides[axis];
  }

  // Calls f(i, line, index) for each index at position i, in order along each line; `line` is where the line begins
  // in x, and -1 stands for outside. Lines that are not dense are taken side by side, many at a time.
  template <class F>
  TRIVET_INLINE void for_each(const Indices& indices, int threads, const F& f) const {
    if (length == 0) return;
    const std::int64_t along = loop.inner_stride(0);
    const std::int64_t x_along = loop.inner_stride(1);
    loop.for_each_row(
        threads,
        [&](const std::int64_t* offsets, std::int64_t n) {
          const auto visit = [&](std::int64_t k, std::int64_t j) {
            const std::int64_t i = offsets[0] + k * step + j * along;
            f(i, offsets[1] + j * x_along, element_of(indices[i], size));
          };
          if (step == 1) {
            for (std::int64_t j = 0; j < n; ++j) {
              for (std::int64_t k = 0; k < length; ++k) visit(k, j);
            }
          } else {
            for (std::int64_t k = 0; k < length; ++k) {
              for (std::int64_t j = 0; j < n; ++j) visit(k, j);
            }
          }
        },
        step == 1 || length < kNarrowest ? length : kNarrowest);
  }

  static constexpr std::int64_t kNarrowest = 32;
};

void run_gather_elements(const KernelArgs& args) {
  const auto& attrs = args.attributes<GatherAttrs>();
  const View& x_view = args.in[0];
  const Lines lines(args.in[1], x_view, attrs.axis);
  const std::uint64_t bits = outside_bits(x_view.dtype, attrs.zero_outside);
  with_word(x_view.dtype, [&](auto word) {
    using T = decltype(word);
    const T* const x = x_view.as<const T>();
    T* const y = args.out[0].as<T>();
    const T outside = word_of<T>(bits);
    lines.for_each(Indices(args.in[1]), args.threads, [&](std::int64_t i, std::int64_t line, std::int64_t index) {
      y[i] = index >= 0 ? x[line + index * lines.x_step] : outside;
    });
  });
}

struct Replace {
  template <class T>
  TRIVET_INLINE T operator()(T, T b) const {
    return b;
  }
};
struct Add {
  TRIVET_INLINE float operator()(float a, float b) const { return a + b; }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {  // wraps around
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
};
struct Mul {
  TRIVET_INLINE float operator()(float a, float b) const { return a * b; }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  }
};
struct Max {
  TRIVET_INLINE float operator()(float a, float b) const { return max_f32(a, b); }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  TRIVET_INLINE float operator()(float a, float b) const { return min_f32(a, b); }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// Calls f(join) with the function object of a reduction.
template <class F>
TRIVET_INLINE void with_reduction(ScatterReduction reduction, const F& f) {
  switch (reduction) {
    case ScatterReduction::mul:
      return f(Mul{});
    case ScatterReduction::max:
      return f(Max{});
    case ScatterReduction::min:
      return f(Min{});
    default:
      return f(Add{});
  }
}

template <class T>
void copy_all(T* to, const T* from, std::int64_t n, int threads) {
  if (to == from) return;
  parallel_pieces(n, 16384, n, threads, [=](std::int64_t begin, std::int64_t end) {
    __builtin_memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
  });
}

TRIVET_INLINE float value_of(float x) { return x; }
TRIVET_INLINE float value_of(BFloat16 x) { return to_f32(x); }
template <class T>
TRIVET_INLINE T value_of(T x) {
  return x;
}

// Copies x to y and joins the updates: body(y, updates, join) does the latter, value by value. Several updates of one
// bf16 are joined in f32, in a copy, and rounded once.
template <class Body>
TRIVET_INLINE void scatter(const KernelArgs& args, ScatterReduction reduction, const Body& body) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const View& updates = args.in[2];
  const std::int64_t n = element_count(x);
  const auto joined = [&](auto element) {
    using T = decltype(element);
    copy_all(y.as<T>(), x.as<const T>(), n, args.threads);
    with_reduction(reduction, [&](auto join) { body(y.as<T>(), updates.as<const T>(), join); });
  };
  if (reduction == ScatterReduction::none) {
    with_word(x.dtype, [&](auto word) {
      using T = decltype(word);
      copy_all(y.as<T>(), x.as<const T>(), n, args.threads);
      body(y.as<T>(), updates.as<const T>(), Replace{});
    });
  } else if (x.dtype == DType::bf16) {
    float* const sums = static_cast<float*>(args.workspace);
    const BFloat16* const from = x.as<const BFloat16>();
    BFloat16* const to = y.as<BFloat16>();
    parallel_pieces(n, 16384, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) sums[i] = to_f32(from[i]);
    });
    with_reduction(reduction, [&](auto join) { body(sums, updates.as<const BFloat16>(), join); });
    parallel_pieces(n, 16384, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = from_f32<BFloat16>(sums[i]);
    });
  } else if (x.dtype == DType::f32) {
    joined(float{});
  } else if (x.dtype == DType::i32) {
    joined(std::int32_t{});
  } else {
    joined(std::int64_t{});
  }
}

void run_scatter_elements(const KernelArgs& args) {
  const auto& attrs = args.attributes<ScatterElementsAttrs>();
  const Lines lines(args.in[1], args.in[0], attrs.axis);
  const Indices indices(args.in[1]);
  scatter(args, attrs.reduction, [&](auto* y, const auto* updates, auto join) {
    lines.for_each(indices, args.threads, [&](std::int64_t i, std::int64_t line, std::int64_t index) {
      if (index < 0) return;
      auto& target = y[line + index * lines.x_step];
      target = join(target, value_of(updates[i]));
    });
  });
}

// Cut along the columns, so that every piece applies all updates in their order.
void run_scatter_nd(const KernelArgs& args) {
  const auto& attrs = args.attributes<ScatterNdAttrs>();
  const Tuples tuples(args.in[0], args.in[1], attrs.batch_dims);
  const std::int64_t width = tuples.width;
  scatter(args, attrs.reduction, [&](auto* y, const auto* updates, auto join) {
    parallel_pieces(width, 512, tuples.count * width, args.threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = 0; t < tuples.count; ++t) {
        const std::int64_t row = tuples.row(t);
        if (row < 0) continue;
        auto* const to = y + row * width;
        const auto* const from = updates + t * width;
#pragma omp simd
        for (std::int64_t j = begin; j < end; ++j) to[j] = join(to[j], value_of(from[j]));
      }
    });
  });
}

template <class A>
std::size_t scatter_workspace(const KernelSpec& spec, const Prepared*) {
  const bool copies = spec.in[0].dtype == DType::bf16 && spec.attributes<A>().reduction != ScatterReduction::none;
  return copies ? static_cast<std::size_t>(element_count(spec.in[0])) * sizeof(float) : 0;
}

// --- one_hot, non_zero ---

void run_one_hot(const KernelArgs& args) {
  const auto& attrs = args.attributes<OneHotAttrs>();
  const View& y_view = args.out[0];
  const Extents whole = extents_of(y_view, attrs.axis);
  const Indices indices(args.in[0]);
  const std::int64_t count = whole.outer * whole.inner;
  const std::uint64_t on_bits = element_bits(y_view.dtype, attrs.on_value);
  const std::uint64_t off_bits = element_bits(y_view.dtype, attrs.off_value);
  with_word(y_view.dtype, [&](auto word) {
    using T = decltype(word);
    T* const y = y_view.as<T>();
    const T on = word_of<T>(on_bits);
    fill(y, word_of<T>(off_bits), element_count(y_view), args.threads);
    parallel_pieces(count, kPieceElements, count, args.threads, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t place = element_of(indices[i], whole.size);
        if (place >= 0) y[(i / whole.inner * whole.size + place) * whole.inner + i % whole.inner] = on;
      }
    });
  });
}

// Rows of the last dimension in a piece.
TRIVET_INLINE std::int64_t non_zero_grain(const TensorDesc& x) {
  const std::int64_t row = x.rank == 0 ? 1 : x.shape[x.rank - 1];
  return row < kPieceElements ? kPieceElements / (row + 1) + 1 : 1;
}

// Everything but a float's sign: -0 is zero.
TRIVET_INLINE std::uint64_t magnitude_mask(DType type) {
  const std::uint64_t all = ~std::uint64_t{0} >> (64 - 8 * dtype_size(type));
  return is_float(type) ? all >> 1 : all;
}

// Writes the indices of row r's elements that are not 0 to the columns from `column` on; returns the next column.
template <class T>
TRIVET_INLINE std::int64_t write_indices(const T* x, const View& view, std::int64_t r, std::int64_t row,
                                         std::uint64_t mask, std::int64_t* y, std::int64_t columns,
                                         std::int64_t column) {
  std::int64_t lead[kMaxRank];
  std::int64_t rest = r;
  for (int d = view.rank - 2; d >= 0; --d) {
    lead[d] = rest % view.shape[d];
    rest /= view.shape[d];
  }
  for (std::int64_t j = 0; j < row; ++j) {
    if ((x[r * row + j].bits & mask) == 0) continue;
    for (int d = 0; d + 1 < view.rank; ++d) y[d * columns + column] = lead[d];
    if (view.rank > 0) y[(view.rank - 1) * columns + column] = j;
    ++column;
  }
  return column;
}

template <class T>
void non_zero(const KernelArgs& args) {
  const View& x_view = args.in[0];
  const T* const x = x_view.as<const T>();
  std::int64_t* const y = args.out[0].as<std::int64_t>();
  const std::int64_t n = element_count(x_view);
  const std::uint64_t mask = magnitude_mask(x_view.dtype);
  const std::int64_t row = x_view.rank == 0 ? 1 : x_view.shape[x_view.rank - 1];
  const std::int64_t rows = n == 0 ? 0 : n / row;
  const std::int64_t grain = non_zero_grain(x_view);
  const std::int64_t pieces = (rows + grain - 1) / grain;
  std::int64_t* const begins = static_cast<std::int64_t*>(args.workspace);  // the first column of each piece
  parallel_pieces(rows, grain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
    std::int64_t count = 0;
    for (std::int64_t i = begin * row; i < end * row; ++i) count += (x[i].bits & mask) != 0 ? 1 : 0;
    begins[begin / grain] = count;
  });
  std::int64_t total = 0;
  for (std::int64_t p = 0; p < pieces; ++p) {
    const std::int64_t count = begins[p];
    begins[p] = total;
    total += count;
  }
  parallel_pieces(rows, grain, n, args.threads, [=, &x_view](std::int64_t begin, std::int64_t end) {
    std::int64_t column = begins[begin / grain];
    for (std::int64_t r = begin; r < end; ++r) column = write_indices(x, x_view, r, row, mask, y, n, column);
  });
  for (int d = 0; d < x_view.rank; ++d) fill(y + d * n + total, x_view.shape[d], n - total, args.threads);
  args.out[1].as<std::int64_t>()[0] = total;
}

void run_non_zero(const KernelArgs& args) {
  with_word(args.in[0].dtype, [&](auto word) { non_zero<decltype(word)>(args); });
}

std::size_t non_zero_workspace(const KernelSpec& spec, const Prepared*) {
  const TensorDesc& x = spec.in[0];
  const std::int64_t row = x.rank == 0 || x.shape[x.rank - 1] == 0 ? 1 : x.shape[x.rank - 1];
  return static_cast<std::size_t>(element_count(x) / row / non_zero_grain(x) + 1) * sizeof(std::int64_t);
}

// --- what is supported ---

bool any_type(const KernelSpec&) { return true; }
bool compute_type(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

template <class A>
bool scatter_types(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return spec.attributes<A>().reduction == ScatterReduction::none || is_compute_type(type) || type == DType::i32 ||
         type == DType::i64;
}

constexpr KernelEntry kTable[] = {
    {"embedding", any_type, run_embedding},
    {"embedding_backward", compute_type, run_embedding_backward, nullptr, embedding_backward_workspace},
    {"gather", any_type, run_gather},
    {"gather_backward", compute_type, run_gather_backward, nullptr, gather_backward_workspace},
    {"gather_elements", any_type, run_gather_elements},
    {"gather_nd", any_type, run_gather_nd},
    {"scatter_elements", scatter_types<ScatterElementsAttrs>, run_scatter_elements, nullptr,
     scatter_workspace<ScatterElementsAttrs>},
    {"scatter_nd", scatter_types<ScatterNdAttrs>, run_scatter_nd, nullptr, scatter_workspace<ScatterNdAttrs>},
    {"one_hot", any_type, run_one_hot},
    {"non_zero", any_type, run_non_zero, nullptr, non_zero_workspace},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> indexing_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
