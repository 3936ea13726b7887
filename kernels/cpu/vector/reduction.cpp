// Reductions over any set of axes. After merging neighbouring dimensions there are two kinds. Either the innermost
// dimension is reduced: runs of consecutive elements become one number each. Or it is kept: rows are added up column
// by column. Both cut their work into pieces that depend on the shapes alone, and combine the pieces in order.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/reduce_plain.h"
#include "kernels/cpu/vector/registers.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/storage.h"
#include "kernels/cpu/vector/vector_math.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// --- what is accumulated: map() of each element, joined by step(). Total holds what is joined of many blocks, so that
// the error of a sum does not grow with its length. ---

struct Sum {
  using Total = double;
  using Plain = PlainSum;  // the same for integers
  static constexpr float kStart = 0.0f;
  static constexpr bool kShifted = false;
  template <class V>
  TRIVET_INLINE static V map(V x) {
    return x;
  }
  template <class V>
  TRIVET_INLINE static V step(V a, V x) {
    return a + x;
  }
};

struct SumOfSquares : Sum {
  using Plain = PlainSumOfSquares;
  template <class V>
  TRIVET_INLINE static V map(V x) {
    return x * x;
  }
};

struct SumOfMagnitudes : Sum {
  using Plain = PlainSumOfMagnitudes;
  TRIVET_INLINE static float map(float x) { return abs_f32(x); }
  TRIVET_INLINE static Vector map(Vector x) {
    return reinterpret_cast<Vector>(reinterpret_cast<BitVector>(x) & 0x7fffffffU);
  }
};

// Of e^(x - shift), each output having a shift of its own.
struct SumOfExponentials : Sum {
  static constexpr bool kShifted = true;
  TRIVET_INLINE static float map(float x) { return exp_f32(x); }
};

// A NaN wins over everything and stays. Bitwise |, because a branch for each element is guessed wrong too often.
struct Max {
  using Total = float;
  using Plain = PlainMax;
  static constexpr float kStart = -__builtin_inff();
  static constexpr bool kShifted = false;
  template <class V>
  TRIVET_INLINE static V map(V x) {
    return x;
  }
  TRIVET_INLINE static float step(float a, float x) {
    return (static_cast<int>(x > a) | static_cast<int>(x != x)) != 0 ? x : a;
  }
  TRIVET_INLINE static Vector step(Vector a, Vector x) { return ((x > a) | (x != x)) ? x : a; }
};

struct Min : Max {
  using Plain = PlainMin;
  static constexpr float kStart = __builtin_inff();
  TRIVET_INLINE static float step(float a, float x) {
    return (static_cast<int>(x < a) | static_cast<int>(x != x)) != 0 ? x : a;
  }
  TRIVET_INLINE static Vector step(Vector a, Vector x) { return ((x < a) | (x != x)) ? x : a; }
};

template <class Op>
struct Step {
  template <class V>
  TRIVET_INLINE V operator()(V a, V x) const {
    return Op::step(a, x);
  }
};

// --- how a reduction is cut up ---

// Sums run in float32 over at most this many elements of a run (this many rows of columns) before they join a total.
constexpr std::int64_t kBlock = 2048;
constexpr std::int64_t kBlockRows = 64;
// About as many elements as one piece reduces, at least as many rows, and columns at a time: few of few rows, for the
// threads' sake, and many of many rows, because memory is read faster the longer it is read in a row.
constexpr std::int64_t kPieceElements = 32768;
constexpr std::int64_t kPieceRows = 256;
constexpr std::int64_t kColumns = 1024;
constexpr std::int64_t kMostColumns = 4096;
// Columns of rows narrower than this are reduced kLanes rows at a time.
constexpr std::int64_t kNarrow = kColumns / kLanes;

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
  std::int64_t columns = kColumns;  // at a time
};

TRIVET_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

Reduction plan_reduction(const TensorDesc& x, const ReduceAttrs& attrs) {
  Reduction plan;
  split_dimensions(x, attrs, plan.kept, plan.reduced);
  plan.outputs = plan.kept.elements();
  const std::int64_t count = plan.reduced.elements();
  if (plan.outputs == 0 || count == 0) return plan;
  if (plan.reduced.rank() > 0) plan.run = plan.reduced.size(plan.reduced.rank() - 1);
  plan.innermost = plan.kept.rank() == 0 || (plan.reduced.rank() > 0 && plan.reduced.inner_stride(0) == 1);
  if (plan.innermost) {
    plan.per_run = ceil_div(plan.run, kBlock);
    plan.steps = count / plan.run * plan.per_run;
    plan.per_piece = ceil_div(kPieceElements, plan.run < kBlock ? plan.run : kBlock);
  } else {
    const std::int64_t width = plan.kept.size(plan.kept.rank() - 1);
    plan.steps = count;
    plan.per_piece = ceil_div(kPieceElements, width < kColumns ? width : kColumns);
    plan.per_piece = plan.per_piece < kPieceRows ? kPieceRows : plan.per_piece;
  }
  plan.pieces = ceil_div(plan.steps, plan.per_piece);
  if (plan.pieces >= 4) plan.columns = kMostColumns;
  return plan;
}

// --- from totals to results ---

enum class Finish { none, root, logarithm };

// Writes results: finish(total * scale) + shift[output]. Out of line, because every kind of reduction ends here.
struct Results {
  View y;
  double scale = 1;
  Finish finish = Finish::none;
  const float* shift = nullptr;  // null: 0

  template <class Total>
  [[gnu::noinline]] void write(std::int64_t first, const Total* totals, std::int64_t n) const {
    if (y.dtype == DType::bf16) {
      write_as(y.as<BFloat16>() + first, first, totals, n);
    } else {
      write_as(y.as<float>() + first, first, totals, n);
    }
  }

  template <class T, class Total>
  TRIVET_INLINE void write_as(T* to, std::int64_t first, const Total* totals, std::int64_t n) const {
    if (finish == Finish::none) {
      for (std::int64_t i = 0; i < n; ++i)
        to[i] = from_f32<T>(static_cast<float>(static_cast<double>(totals[i]) * scale));
    } else if (finish == Finish::root) {
      for (std::int64_t i = 0; i < n; ++i) {
        to[i] = from_f32<T>(static_cast<float>(__builtin_sqrt(static_cast<double>(totals[i]))));
      }
    } else {
      for (std::int64_t i = 0; i < n; ++i) {
        const float value = log_f32(static_cast<float>(totals[i]));
        to[i] = from_f32<T>(shift != nullptr ? value + shift[first + i] : value);
      }
    }
  }
};

// The shift of an output where its largest element is infinite or NaN must not make NaN of everything.
TRIVET_INLINE float finite_shift(float shift) { return abs_f32(shift) < detail::kInfinity ? shift : 0.0f; }

// Where totals go: to the results, or, if an output has several pieces, to their partial results.
template <class Op>
struct Sink {
  using Total = typename Op::Total;
  Results results;
  Total* partial = nullptr;  // (pieces, outputs)
  std::int64_t outputs = 0;

  TRIVET_INLINE void put(std::int64_t piece, std::int64_t first, const Total* totals, std::int64_t n) const {
    if (partial == nullptr) return results.write(first, totals, n);
    for (std::int64_t i = 0; i < n; ++i) partial[piece * outputs + first + i] = totals[i];
  }
};

// --- the innermost dimension is reduced ---

template <class Op, class T>
TRIVET_INLINE float reduce_block(const T* x, std::int64_t n, float shift) {
  if constexpr (Op::kShifted) {
    return row_costly_sum(n, [=](std::int64_t i) { return Op::map(to_f32(x[i]) - shift); });
  } else {
    float total = Op::kStart;
    std::int64_t i = 0;
    if (n >= kLanes) {
      Vector a[4];
      for (Vector& v : a) v = Vector{} + Op::kStart;
      for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
        for (int k = 0; k < 4; ++k) a[k] = Op::step(a[k], Op::map(load(x + i + k * kLanes)));
      }
      for (; i + kLanes <= n; i += kLanes) a[0] = Op::step(a[0], Op::map(load(x + i)));
      total = join_lanes(Op::step(Op::step(a[0], a[1]), Op::step(a[2], a[3])), Step<Op>{});
    }
    for (; i < n; ++i) total = Op::step(total, Op::map(to_f32(x[i])));
    return total;
  }
}

// All outputs, which are short rows one behind the other.
template <class Op, class T>
void reduce_short_rows(const T* x, std::int64_t rows, std::int64_t n, const Results& results, int threads) {
  const std::int64_t grain = kPieceElements / n / kLanes * kLanes;
  parallel_pieces(rows, grain, rows * n, threads, [=, &results](std::int64_t begin, std::int64_t end) {
    for_each_group(x, rows, n, begin, end, [=, &results](std::int64_t r, const T* group, std::int64_t count) {
      Vector totals[kLanes];
      fold_rows(totals, Vector{} + Op::kStart, group, n,
                [](int, Vector a, Vector v, std::int64_t) { return Op::step(a, Op::map(v)); });
      const Vector joined = join_rows<kLanes>(totals, Step<Op>{});
      float values[kLanes];
      __builtin_memcpy(values, &joined, sizeof(values));
      results.write(r, values, count);
    });
  });
}

// One piece of the output whose elements begin at `x`.
template <class Op, class T>
TRIVET_INLINE typename Op::Total reduce_runs(const Reduction& plan, const T* x, std::int64_t piece, float shift) {
  using Total = typename Op::Total;
  if (plan.steps == 1) return reduce_block<Op>(x, plan.run, shift);  // no divisions
  const std::int64_t first = piece * plan.per_piece;
  const std::int64_t last = first + plan.per_piece < plan.steps ? first + plan.per_piece : plan.steps;
  Total total = Op::kStart;
  for (std::int64_t step = first; step < last; ++step) {
    std::int64_t index[kMaxRank];
    std::int64_t offset[1];
    plan.reduced.seek(step / plan.per_run, plan.reduced.rank() - 1, index, offset);
    const std::int64_t skip = step % plan.per_run * kBlock;
    const std::int64_t n = plan.run - skip < kBlock ? plan.run - skip : kBlock;
    total = Op::step(total, static_cast<Total>(reduce_block<Op>(x + offset[0] + skip, n, shift)));
  }
  return total;
}

template <class Op, class T>
void reduce_innermost(const Reduction& plan, const T* x, const float* shift, const Sink<Op>& sink, int threads) {
  const std::int64_t count = plan.reduced.elements();
  if constexpr (!Op::kShifted) {
    if (plan.steps == 1 && plan.kept.rank() <= 1 && plan.run <= kShortRow) {
      return reduce_short_rows<Op>(x, plan.outputs, plan.run, sink.results, threads);
    }
  }
  const std::int64_t grain = plan.pieces > 1 || count >= kPieceElements ? 1 : kPieceElements / count;
  parallel_pieces(plan.outputs * plan.pieces, grain, plan.outputs * count, threads,
                  [&](std::int64_t begin, std::int64_t end) {
                    std::int64_t index[kMaxRank];
                    std::int64_t offset[1];
                    plan.kept.seek(begin / plan.pieces, plan.kept.rank(), index, offset);
                    std::int64_t output = begin / plan.pieces;
                    std::int64_t piece = begin % plan.pieces;
                    typename Op::Total totals[kLanes];  // of outputs whose results are written together
                    std::int64_t waiting = 0;
                    for (std::int64_t unit = begin; unit < end; ++unit) {
                      const float s = Op::kShifted ? finite_shift(shift[output]) : 0.0f;
                      totals[waiting++] = reduce_runs<Op>(plan, x + offset[0], piece, s);
                      if (plan.pieces > 1 || waiting == kLanes || unit + 1 == end) {
                        sink.put(piece, output + 1 - waiting, totals, waiting);
                        waiting = 0;
                      }
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
template <class Op, class T>
TRIVET_INLINE void add_rows(float* a, const T* x, std::int64_t stride, std::int64_t rows, std::int64_t n,
                            const float* shift) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* const row = x + r * stride;
    if constexpr (Op::kShifted) {
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) a[j] = Op::step(a[j], Op::map(to_f32(row[j]) - finite_shift(shift[j])));
    } else {
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) a[j] = Op::step(a[j], Op::map(to_f32(row[j])));
    }
    asm volatile("" ::: "memory");  // keeps the compiler from joining rows
  }
}

// Joins the float32 results of a block with the totals; column j of wide rows belongs to total j modulo n.
template <class Op>
TRIVET_INLINE void flush(typename Op::Total* totals, float* a, std::int64_t n, std::int64_t wide) {
  using Total = typename Op::Total;
  for (std::int64_t w = 0; w < wide; w += n) {
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) totals[j] = Op::step(totals[j], static_cast<Total>(a[w + j]));
  }
  for (std::int64_t j = 0; j < wide; ++j) a[j] = Op::kStart;
}

// Rows [first, last) of the n columns that begin at `x`. Consecutive narrow rows are taken as fewer wide ones: a row
// of 10 classes would leave most of a vector unused.
template <class Op, class T>
void reduce_columns(const Reduction& plan, const T* x, std::int64_t first, std::int64_t last, std::int64_t n,
                    const float* shift, typename Op::Total* totals) {
  const std::int64_t stride = plan.reduced.inner_stride(0);
  const std::int64_t fold = !Op::kShifted && stride == n && n <= kNarrow && last - first >= kLanes ? kLanes : 1;
  const std::int64_t wide = fold * n;
  alignas(64) float a[kMostColumns];
  for (std::int64_t j = 0; j < wide; ++j) a[j] = Op::kStart;
  for (std::int64_t j = 0; j < n; ++j) totals[j] = Op::kStart;
  for (std::int64_t row = first; row < last;) {
    std::int64_t index[kMaxRank];
    std::int64_t offset[1];
    plan.reduced.seek(row, plan.reduced.rank(), index, offset);
    std::int64_t rows = plan.run - row % plan.run;
    rows = rows < last - row ? rows : last - row;
    rows = rows < kBlockRows * fold ? rows : kBlockRows * fold;
    const T* const from = x + offset[0];
    const std::int64_t folded = rows / fold * fold;
    add_rows<Op>(a, from, wide == n ? stride : wide, folded / fold, wide, shift);
    add_rows<Op>(a, from + folded * stride, stride, rows - folded, n, shift);
    flush<Op>(totals, a, n, wide);
    row += rows;
  }
}

template <class Op, class T>
void reduce_outer(const Reduction& plan, const T* x, const float* shift, const Sink<Op>& sink, int threads) {
  const std::int64_t width = plan.kept.size(plan.kept.rank() - 1);
  const std::int64_t across = ceil_div(width, plan.columns);
  const std::int64_t outer = plan.outputs / width;
  const std::int64_t count = plan.reduced.elements();
  const std::int64_t unit_elements = count * (width < plan.columns ? width : plan.columns);
  const std::int64_t grain = unit_elements < kPieceElements ? kPieceElements / unit_elements : 1;
  parallel_pieces(
      outer * across * plan.pieces, grain, plan.outputs * count, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t unit = begin; unit < end; ++unit) {
          const std::int64_t column = unit % across * plan.columns;
          const std::int64_t piece = unit / across % plan.pieces;
          const std::int64_t row = unit / across / plan.pieces;
          std::int64_t index[kMaxRank];
          std::int64_t offset[1];
          plan.kept.seek(row, plan.kept.rank() - 1, index, offset);
          const std::int64_t first = piece * plan.per_piece;
          const std::int64_t last = first + plan.per_piece < plan.steps ? first + plan.per_piece : plan.steps;
          const std::int64_t n = width - column < plan.columns ? width - column : plan.columns;
          const std::int64_t output = row * width + column;
          typename Op::Total totals[kMostColumns];
          reduce_columns<Op>(plan, x + offset[0] + column, first, last, n, Op::kShifted ? shift + output : nullptr,
                             totals);
          sink.put(piece, output, totals, n);
        }
      });
}

// --- the ops ---

// Joins the pieces' results in order, row by row: taking one output after the other would jump through memory.
template <class Op>
void combine(const Sink<Op>& sink, std::int64_t pieces, int threads) {
  constexpr std::int64_t kOutputs = 256;
  const std::int64_t outputs = sink.outputs;
  parallel_pieces(outputs, kOutputs, outputs * pieces, threads, [=, &sink](std::int64_t begin, std::int64_t end) {
    typename Op::Total totals[kOutputs];
    const std::int64_t n = end - begin;
    for (std::int64_t i = 0; i < n; ++i) totals[i] = sink.partial[begin + i];
    for (std::int64_t p = 1; p < pieces; ++p) {
      const auto* const next = sink.partial + p * outputs + begin;
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) totals[i] = Op::step(totals[i], next[i]);
    }
    sink.results.write(begin, totals, n);
  });
}

template <class Op>
void reduce(const View& x, const ReduceAttrs& attrs, const Results& results, const float* shift, void* workspace,
            int threads) {
  using Total = typename Op::Total;
  const Reduction plan = plan_reduction(x, attrs);
  if (plan.steps == 0) {
    const Total nothing = Op::kStart;
    for (std::int64_t i = 0; i < plan.outputs; ++i) results.write(i, &nothing, 1);
    return;
  }
  const Sink<Op> sink{results, plan.pieces > 1 ? static_cast<Total*>(workspace) : nullptr, plan.outputs};
  with_compute_type(x.dtype, [&](auto element) {
    const auto* const data = x.as<const decltype(element)>();
    if (plan.innermost) {
      reduce_innermost<Op>(plan, data, shift, sink, threads);
    } else {
      reduce_outer<Op>(plan, data, shift, sink, threads);
    }
  });
  if (plan.pieces > 1) combine<Op>(sink, plan.pieces, threads);
}

// Partial results of all pieces, if there are several.
TRIVET_INLINE std::size_t partial_bytes(const TensorDesc& x, const ReduceAttrs& attrs) {
  const Reduction plan = plan_reduction(x, attrs);
  return plan.pieces > 1 ? static_cast<std::size_t>(plan.pieces * plan.outputs) * sizeof(double) : 0;
}

template <class Op, Finish kFinish = Finish::none>
void run_reduce(const KernelArgs& args) {
  const auto& attrs = args.attributes<ReduceAttrs>();
  if (!is_float(args.in[0].dtype)) return reduce_integers<typename Op::Plain>(args);
  reduce<Op>(args.in[0], attrs, {args.out[0], 1.0, kFinish, nullptr}, nullptr, args.workspace, args.threads);
}

void run_mean(const KernelArgs& args) {
  const std::int64_t outputs = element_count(args.out[0]);
  if (outputs == 0) return;
  const double count = static_cast<double>(element_count(args.in[0]) / outputs);
  reduce<Sum>(args.in[0], args.attributes<ReduceAttrs>(), {args.out[0], 1.0 / count, Finish::none, nullptr}, nullptr,
              args.workspace, args.threads);
}

// max + log(sum(e^(x - max))). The workspace begins with the outputs' largest elements.
void run_log_sum_exp(const KernelArgs& args) {
  const auto& attrs = args.attributes<ReduceAttrs>();
  const std::int64_t outputs = element_count(args.out[0]);
  View largest = args.out[0];
  largest.dtype = DType::f32;
  largest.data = args.workspace;
  void* const rest = static_cast<char*>(args.workspace) + aligned_floats(outputs);
  reduce<Max>(args.in[0], attrs, {largest, 1.0, Finish::none, nullptr}, nullptr, rest, args.threads);
  // Where the largest element is infinite, it or NaN is the result.
  float* const shift = largest.as<float>();
  reduce<SumOfExponentials>(args.in[0], attrs, {args.out[0], 1.0, Finish::logarithm, shift}, shift, rest, args.threads);
}

void run_squared_norm(const KernelArgs& args) {
  reduce<SumOfSquares>(args.in[0], {}, {args.out[0], 1.0, Finish::none, nullptr}, nullptr, args.workspace,
                       args.threads);
}

std::size_t reduce_workspace(const KernelSpec& spec, const Prepared*) {
  return is_float(spec.in[0].dtype) ? partial_bytes(spec.in[0], spec.attributes<ReduceAttrs>()) : 0;
}

std::size_t log_sum_exp_workspace(const KernelSpec& spec, const Prepared* prepared) {
  return aligned_floats(element_count(spec.out[0])) + reduce_workspace(spec, prepared);
}

std::size_t squared_norm_workspace(const KernelSpec& spec, const Prepared*) { return partial_bytes(spec.in[0], {}); }

bool floats(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }
bool numbers(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return is_compute_type(type) || type == DType::i32 || type == DType::i64;
}
bool bytes_too(const KernelSpec& spec) {
  return numbers(spec) || spec.in[0].dtype == DType::u8 || spec.in[0].dtype == DType::i8;
}

constexpr KernelEntry kTable[] = {
    {"reduce_sum", numbers, run_reduce<Sum>, nullptr, reduce_workspace},
    {"reduce_mean", floats, run_mean, nullptr, reduce_workspace},
    {"reduce_max", bytes_too, run_reduce<Max>, nullptr, reduce_workspace},
    {"reduce_min", bytes_too, run_reduce<Min>, nullptr, reduce_workspace},
    {"reduce_prod", numbers, run_product},
    {"reduce_l1", numbers, run_reduce<SumOfMagnitudes>, nullptr, reduce_workspace},
    {"reduce_l2", floats, run_reduce<SumOfSquares, Finish::root>, nullptr, reduce_workspace},
    {"reduce_sum_square", numbers, run_reduce<SumOfSquares>, nullptr, reduce_workspace},
    {"reduce_log_sum", floats, run_reduce<Sum, Finish::logarithm>, nullptr, reduce_workspace},
    {"reduce_log_sum_exp", floats, run_log_sum_exp, nullptr, log_sum_exp_workspace},
    {"squared_norm", floats, run_squared_norm, nullptr, squared_norm_workspace},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> reduction_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
