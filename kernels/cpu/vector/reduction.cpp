// Reductions over any set of axes. After merging neighbouring dimensions there are two kinds. Either the innermost
// dimension is reduced: runs of consecutive elements become one number each. Or it is kept: rows are added up column
// by column. Both cut their work into pieces that depend on the shapes alone, and combine the pieces in order.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_loop.h"
#include "trivet/kernels/attrs_reduction.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vector __attribute__((vector_size(kLanes * 4)));

TRIVET_INLINE Vector load(const float* x) {
  Vector v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}

// --- what is accumulated: step() takes one more element, merge() joins two results ---

struct Sum {
  static constexpr float kStart = 0.0f;
  TRIVET_INLINE static float step(float a, float x) { return a + x; }
  TRIVET_INLINE static Vector step(Vector a, Vector x) { return a + x; }
  TRIVET_INLINE static Vector merge(Vector a, Vector b) { return a + b; }
  TRIVET_INLINE static double merge(double a, double b) { return a + b; }
};

struct SumOfSquares : Sum {
  TRIVET_INLINE static float step(float a, float x) { return a + x * x; }
  TRIVET_INLINE static Vector step(Vector a, Vector x) { return a + x * x; }
};

// A NaN wins over everything and stays. Bitwise |, because a branch for each element is guessed wrong too often.
struct Max {
  static constexpr float kStart = -__builtin_inff();
  TRIVET_INLINE static float step(float a, float x) {
    return (static_cast<int>(x > a) | static_cast<int>(x != x)) != 0 ? x : a;
  }
  TRIVET_INLINE static Vector step(Vector a, Vector x) { return ((x > a) | (x != x)) ? x : a; }
  TRIVET_INLINE static Vector merge(Vector a, Vector b) { return step(a, b); }
  TRIVET_INLINE static double merge(double a, double b) { return (b > a || b != b) ? b : a; }
};

struct Min {
  static constexpr float kStart = __builtin_inff();
  TRIVET_INLINE static float step(float a, float x) {
    return (static_cast<int>(x < a) | static_cast<int>(x != x)) != 0 ? x : a;
  }
  TRIVET_INLINE static Vector step(Vector a, Vector x) { return ((x < a) | (x != x)) ? x : a; }
  TRIVET_INLINE static Vector merge(Vector a, Vector b) { return step(a, b); }
  TRIVET_INLINE static double merge(double a, double b) { return (b < a || b != b) ? b : a; }
};

// --- how a reduction is cut up ---

// Sums run in float32 over at most this many elements of a run (this many rows of columns) before they are added to a
// float64, so that the error does not grow with the length.
constexpr std::int64_t kBlock = 2048;
constexpr std::int64_t kBlockRows = 64;
// About as many elements as one piece reduces, and columns at a time.
constexpr std::int64_t kPieceElements = 32768;
constexpr std::int64_t kColumns = 1024;
// Rows narrower than this are taken several at a time.
constexpr std::int64_t kNarrow = 64;

struct Reduction {
  RowLoop<1> kept;
  RowLoop<1> reduced;
  bool innermost = false;  // the innermost dimension is reduced
  std::int64_t outputs = 0;
  std::int64_t run = 1;        // size of the innermost reduced dimension
  std::int64_t per_run = 1;    // innermost: blocks in a run
  std::int64_t steps = 0;      // for each output, innermost: blocks; else rows
  std::int64_t per_piece = 1;  // steps in a piece
  std::int64_t pieces = 1;
};

TRIVET_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// `axes` empty: all.
Reduction plan_reduction(const TensorDesc& x, const IntList& axes) {
  bool is_reduced[kMaxRank];
  std::int64_t strides[kMaxRank];
  std::int64_t dense = 1;
  for (int d = x.rank - 1; d >= 0; --d) {
    is_reduced[d] = axes.n == 0;
    strides[d] = dense;
    dense *= x.shape[d];
  }
  for (int i = 0; i < axes.n; ++i) is_reduced[axes.v[i] < 0 ? axes.v[i] + x.rank : axes.v[i]] = true;
  Reduction plan;
  for (int d = 0; d < x.rank; ++d) {
    (is_reduced[d] ? plan.reduced : plan.kept).add_dimension(x.shape[d], {strides[d]});
  }
  plan.outputs = plan.kept.elements();
  const std::int64_t count = plan.reduced.elements();
  if (plan.outputs == 0 || count == 0) return plan;
  if (plan.reduced.rank() > 0) plan.run = plan.reduced.size(plan.reduced.rank() - 1);
  plan.innermost = plan.reduced.inner_stride(0) == 1;
  if (plan.innermost) {
    plan.per_run = ceil_div(plan.run, kBlock);
    plan.steps = count / plan.run * plan.per_run;
    plan.per_piece = ceil_div(kPieceElements, plan.run < kBlock ? plan.run : kBlock);
  } else {
    const std::int64_t width = plan.kept.size(plan.kept.rank() - 1);
    plan.steps = count;
    plan.per_piece = ceil_div(kPieceElements, width < kColumns ? width : kColumns);
  }
  plan.pieces = ceil_div(plan.steps, plan.per_piece);
  return plan;
}

// Partial results of all pieces, if there are several.
TRIVET_INLINE std::size_t partial_bytes(const Reduction& plan) {
  return plan.pieces > 1 ? static_cast<std::size_t>(plan.pieces * plan.outputs) * sizeof(double) : 0;
}

// --- the innermost dimension is reduced ---

template <class Op>
TRIVET_INLINE double reduce_block(const float* x, std::int64_t n) {
  double total = static_cast<double>(Op::kStart);
  std::int64_t i = 0;
  if (n >= kLanes) {
    Vector a[4];
    for (Vector& v : a) v = Vector{} + Op::kStart;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      for (int k = 0; k < 4; ++k) a[k] = Op::step(a[k], load(x + i + k * kLanes));
    }
    for (; i + kLanes <= n; i += kLanes) a[0] = Op::step(a[0], load(x + i));
    const Vector lanes = Op::merge(Op::merge(a[0], a[1]), Op::merge(a[2], a[3]));
    for (int k = 0; k < kLanes; ++k) total = Op::merge(total, static_cast<double>(lanes[k]));
  }
  float rest = Op::kStart;
  for (; i < n; ++i) rest = Op::step(rest, x[i]);
  return Op::merge(total, static_cast<double>(rest));
}

// One piece of the output whose elements begin at `x`.
template <class Op>
TRIVET_INLINE double reduce_runs(const Reduction& plan, const float* x, std::int64_t piece) {
  if (plan.steps == 1) return reduce_block<Op>(x, plan.run);  // short rows: no divisions
  const std::int64_t first = piece * plan.per_piece;
  const std::int64_t last = first + plan.per_piece < plan.steps ? first + plan.per_piece : plan.steps;
  double total = static_cast<double>(Op::kStart);
  for (std::int64_t step = first; step < last; ++step) {
    std::int64_t index[kMaxRank];
    std::int64_t offset[1];
    plan.reduced.seek(step / plan.per_run, plan.reduced.rank() - 1, index, offset);
    const std::int64_t skip = step % plan.per_run * kBlock;
    total =
        Op::merge(total, reduce_block<Op>(x + offset[0] + skip, plan.run - skip < kBlock ? plan.run - skip : kBlock));
  }
  return total;
}

// Output o's partial result of piece p becomes put(o, p, value).
template <class Op, class Put>
void for_each_run(const Reduction& plan, const float* x, int threads, const Put& put) {
  const std::int64_t count = plan.reduced.elements();
  const std::int64_t grain = plan.pieces > 1 || count >= kPieceElements ? 1 : kPieceElements / count;
  parallel_pieces(plan.outputs * plan.pieces, grain, plan.outputs * count, threads,
                  [&](std::int64_t begin, std::int64_t end) {
                    std::int64_t index[kMaxRank];
                    std::int64_t offset[1];
                    plan.kept.seek(begin / plan.pieces, plan.kept.rank(), index, offset);
                    std::int64_t output = begin / plan.pieces;
                    std::int64_t piece = begin % plan.pieces;
                    for (std::int64_t unit = begin; unit < end; ++unit) {
                      put(output, piece, reduce_runs<Op>(plan, x + offset[0], piece));
                      if (++piece == plan.pieces) {
                        piece = 0;
                        ++output;
                        plan.kept.advance(plan.kept.rank(), index, offset);
                      }
                    }
                  });
}

// --- the innermost dimension is kept ---

// a[j] takes x[j], x[stride + j], ...: `rows` rows of n columns. One row after the other: with several rows at once,
// which the compiler would like, memory is read in interleaved streams, and on rows of 512 bytes and more that was
// measured at less than half the bandwidth.
template <class Op>
TRIVET_INLINE void add_rows(float* a, const float* x, std::int64_t stride, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* const row = x + r * stride;
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) a[j] = Op::step(a[j], row[j]);
    asm volatile("" ::: "memory");  // keeps the compiler from joining rows
  }
}

// Joins the float32 results of a block with the totals; column j of wide rows belongs to total j modulo n.
template <class Op>
TRIVET_INLINE void flush(double* totals, float* a, std::int64_t n, std::int64_t wide) {
  for (std::int64_t w = 0; w < wide; w += n) {
    for (std::int64_t j = 0; j < n; ++j) totals[j] = Op::merge(totals[j], static_cast<double>(a[w + j]));
  }
  for (std::int64_t j = 0; j < wide; ++j) a[j] = Op::kStart;
}

// Rows [first, last) of the n columns that begin at `x`. Consecutive narrow rows are taken as fewer wide ones: a row
// of 10 classes would leave most of a vector unused.
template <class Op>
void reduce_columns(const Reduction& plan, const float* x, std::int64_t first, std::int64_t last, std::int64_t n,
                    double* totals) {
  const std::int64_t stride = plan.reduced.inner_stride(0);
  const std::int64_t fold = stride == n && n < kNarrow ? kNarrow / n : 1;
  const std::int64_t wide = fold * n;
  float a[kColumns];
  for (std::int64_t j = 0; j < wide; ++j) a[j] = Op::kStart;
  for (std::int64_t j = 0; j < n; ++j) totals[j] = static_cast<double>(Op::kStart);
  for (std::int64_t row = first; row < last;) {
    std::int64_t index[kMaxRank];
    std::int64_t offset[1];
    plan.reduced.seek(row, plan.reduced.rank(), index, offset);
    std::int64_t rows = plan.run - row % plan.run;
    rows = rows < last - row ? rows : last - row;
    rows = rows < kBlockRows * fold ? rows : kBlockRows * fold;
    const float* const from = x + offset[0];
    const std::int64_t folded = rows / fold * fold;
    add_rows<Op>(a, from, wide == n ? stride : wide, folded / fold, wide);
    add_rows<Op>(a, from + folded * stride, stride, rows - folded, n);
    flush<Op>(totals, a, n, wide);
    row += rows;
  }
}

template <class Op, class Put>
void for_each_column(const Reduction& plan, const float* x, int threads, const Put& put) {
  const std::int64_t width = plan.kept.size(plan.kept.rank() - 1);
  const std::int64_t across = ceil_div(width, kColumns);
  const std::int64_t outer = plan.outputs / width;
  const std::int64_t count = plan.reduced.elements();
  const std::int64_t unit_elements = count * (width < kColumns ? width : kColumns);
  const std::int64_t grain = unit_elements < kPieceElements ? kPieceElements / unit_elements : 1;
  parallel_pieces(
      outer * across * plan.pieces, grain, plan.outputs * count, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t unit = begin; unit < end; ++unit) {
          const std::int64_t column = unit % across * kColumns;
          const std::int64_t piece = unit / across % plan.pieces;
          const std::int64_t row = unit / across / plan.pieces;
          std::int64_t index[kMaxRank];
          std::int64_t offset[1];
          plan.kept.seek(row, plan.kept.rank() - 1, index, offset);
          const std::int64_t first = piece * plan.per_piece;
          const std::int64_t last = first + plan.per_piece < plan.steps ? first + plan.per_piece : plan.steps;
          const std::int64_t n = width - column < kColumns ? width - column : kColumns;
          double totals[kColumns];
          reduce_columns<Op>(plan, x + offset[0] + column, first, last, n, totals);
          for (std::int64_t j = 0; j < n; ++j) put(row * width + column + j, piece, totals[j]);
        }
      });
}

// --- the ops ---

// Joins the pieces' results in order, row by row: taking one output after the other would jump through memory.
template <class Op>
void combine(const double* partial, float* y, std::int64_t outputs, std::int64_t pieces, double scale, int threads) {
  constexpr std::int64_t kOutputs = 256;
  parallel_pieces(outputs, kOutputs, outputs * pieces, threads, [=](std::int64_t begin, std::int64_t end) {
    double totals[kOutputs];
    const std::int64_t n = end - begin;
    for (std::int64_t i = 0; i < n; ++i) totals[i] = partial[begin + i];
    for (std::int64_t p = 1; p < pieces; ++p) {
      const double* const next = partial + p * outputs + begin;
      for (std::int64_t i = 0; i < n; ++i) totals[i] = Op::merge(totals[i], next[i]);
    }
    for (std::int64_t i = 0; i < n; ++i) y[begin + i] = static_cast<float>(totals[i] * scale);
  });
}

template <class Op>
void reduce(const KernelArgs& args, const IntList& axes, double scale) {
  const View& x_view = args.in[0];
  const float* const x = x_view.as<const float>();
  float* const y = args.out[0].as<float>();
  double* const partial = static_cast<double*>(args.workspace);
  const Reduction plan = plan_reduction(x_view, axes);
  const std::int64_t outputs = plan.outputs;
  if (plan.steps == 0) {
    for (std::int64_t i = 0; i < outputs; ++i) y[i] = Op::kStart;
    return;
  }
  const bool direct = plan.pieces == 1;
  const auto put = [=](std::int64_t output, std::int64_t piece, double value) {
    if (direct) {
      y[output] = static_cast<float>(value * scale);
    } else {
      partial[piece * outputs + output] = value;
    }
  };
  if (plan.innermost) {
    for_each_run<Op>(plan, x, args.threads, put);
  } else {
    for_each_column<Op>(plan, x, args.threads, put);
  }
  if (!direct) combine<Op>(partial, y, outputs, plan.pieces, scale, args.threads);
}

template <class Op>
void run_reduce(const KernelArgs& args) {
  reduce<Op>(args, args.attributes<ReduceAttrs>().axes, 1.0);
}

void run_mean(const KernelArgs& args) {
  const std::int64_t outputs = element_count(args.out[0]);
  if (outputs == 0) return;
  const std::int64_t count = element_count(args.in[0]) / outputs;
  reduce<Sum>(args, args.attributes<ReduceAttrs>().axes, 1.0 / static_cast<double>(count));
}

void run_squared_norm(const KernelArgs& args) { reduce<SumOfSquares>(args, IntList{}, 1.0); }

std::size_t reduce_workspace(const KernelSpec& spec, const Prepared*) {
  return partial_bytes(plan_reduction(spec.in[0], spec.attributes<ReduceAttrs>().axes));
}

std::size_t squared_norm_workspace(const KernelSpec& spec, const Prepared*) {
  return partial_bytes(plan_reduction(spec.in[0], IntList{}));
}

// --- argmax ---

// The first index of `value` in x, or of a NaN if value is one. There must be one.
TRIVET_INLINE std::int64_t find_first(const float* x, std::int64_t n, float value) {
  const bool is_nan = value != value;
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (int k = 0; k < 4 * kLanes; ++k) {
      found |=
          static_cast<int>(x[i + k] == value) | (static_cast<int>(is_nan) & static_cast<int>(x[i + k] != x[i + k]));
    }
    if (found != 0) break;
  }
  while (!(x[i] == value || (is_nan && x[i] != x[i]))) ++i;
  return i;
}

void argmax_rows(const float* x, std::int64_t* y, std::int64_t rows, std::int64_t n, int threads) {
  const std::int64_t grain = n < kPieceElements ? kPieceElements / n : 1;
  parallel_pieces(rows, grain, rows * n, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      y[r] = find_first(x + r * n, n, static_cast<float>(reduce_block<Max>(x + r * n, n)));
    }
  });
}

// One block of columns: x[i * stride + j] for i < n.
TRIVET_INLINE void argmax_columns(const float* x, std::int64_t* y, std::int64_t n, std::int64_t stride,
                                  std::int64_t columns) {
  float best[kColumns];
  for (std::int64_t j = 0; j < columns; ++j) {
    best[j] = x[j];
    y[j] = 0;
  }
  for (std::int64_t i = 1; i < n; ++i) {
    const float* const row = x + i * stride;
#pragma omp simd
    for (std::int64_t j = 0; j < columns; ++j) {
      const float b = best[j];
      const int first_nan = static_cast<int>(row[j] != row[j]) & static_cast<int>(b == b);
      const bool better = (static_cast<int>(row[j] > b) | first_nan) != 0;
      best[j] = better ? row[j] : b;
      y[j] = better ? i : y[j];
    }
  }
}

void run_argmax(const KernelArgs& args) {
  const View& x_view = args.in[0];
  const float* const x = x_view.as<const float>();
  std::int64_t* const y = args.out[0].as<std::int64_t>();
  const std::int64_t given = args.attributes<ArgmaxAttrs>().axis;
  const int axis = static_cast<int>(given < 0 ? given + x_view.rank : given);
  std::int64_t outer = 1;
  for (int d = 0; d < axis; ++d) outer *= x_view.shape[d];
  std::int64_t inner = 1;
  for (int d = axis + 1; d < x_view.rank; ++d) inner *= x_view.shape[d];
  const std::int64_t n = x_view.shape[axis];
  if (inner == 1) return argmax_rows(x, y, outer, n, args.threads);
  const std::int64_t across = ceil_div(inner, kColumns);
  parallel_pieces(outer * across, 1, outer * n * inner, args.threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t o = unit / across;
      const std::int64_t j = unit % across * kColumns;
      argmax_columns(x + o * n * inner + j, y + o * inner + j, n, inner, inner - j < kColumns ? inner - j : kColumns);
    }
  });
}

bool f32_only(const KernelSpec& spec) { return spec.in[0].dtype == DType::f32 && spec.out[0].dtype == DType::f32; }
bool f32_to_i64(const KernelSpec& spec) { return spec.in[0].dtype == DType::f32 && spec.out[0].dtype == DType::i64; }

constexpr KernelEntry kTable[] = {
    {"reduce_sum", f32_only, run_reduce<Sum>, nullptr, reduce_workspace},
    {"reduce_mean", f32_only, run_mean, nullptr, reduce_workspace},
    {"reduce_max", f32_only, run_reduce<Max>, nullptr, reduce_workspace},
    {"reduce_min", f32_only, run_reduce<Min>, nullptr, reduce_workspace},
    {"squared_norm", f32_only, run_squared_norm, nullptr, squared_norm_workspace},
    {"argmax", f32_to_i64, run_argmax},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> reduction_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
