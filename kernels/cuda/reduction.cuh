// Reductions over any set of axes. Bound: every element read once; results and the sums of pieces are little beside it.
// After merging neighbouring dimensions either the innermost one is reduced: groups of threads take runs of consecutive
// elements. Or it is kept: threads side by side add up rows (columns.cuh). Many elements for one output are cut into
// pieces that depend on the shapes alone, and these are joined in their order by a second kernel.
#pragma once

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/loop.cuh"

namespace trivet::kernels::cuda {

enum class Reduce { sum, magnitudes, squares, exponentials, largest, smallest };
enum class Finish { none, root, logarithm };

TRIVET_DEVICE float reduce_start(Reduce op) {
  return op == Reduce::largest ? -infinity() : op == Reduce::smallest ? infinity() : 0.0f;
}

// Calls take(join) with the function (total, element, shift) -> total of the op: one choice for all elements of a pack,
// because a choice for each makes more branches than the hardware can keep track of.
template <class F>
TRIVET_DEVICE void with_join(Reduce op, const F& take) {
  switch (op) {
    case Reduce::sum:
      return take([](float a, float v, float) { return a + v; });
    case Reduce::magnitudes:
      return take([](float a, float v, float) { return a + fabsf(v); });
    case Reduce::squares:
      return take([](float a, float v, float) { return a + v * v; });
    case Reduce::exponentials:
      return take([](float a, float v, float shift) { return a + expf(v - shift); });
    case Reduce::largest:
      return take([](float a, float v, float) { return larger(a, v); });
    case Reduce::smallest:
      return take([](float a, float v, float) { return smaller(a, v); });
  }
}

struct JoinBy {
  Reduce op;
  TRIVET_DEVICE float operator()(float a, float b) const {
    return op == Reduce::largest ? larger(a, b) : op == Reduce::smallest ? smaller(a, b) : a + b;
  }
  TRIVET_DEVICE double operator()(double a, double b) const {
    if (op == Reduce::largest) return a > b || a != a ? a : b;
    if (op == Reduce::smallest) return a < b || a != a ? a : b;
    return a + b;
  }
};

// Where results go: finish(total * scale), with the shift added to a logarithm. With several pieces totals go to
// `partial`, (outputs, pieces).
struct Results {
  void* y;
  DType dtype;
  double scale;
  Finish finish;
  const float* shift;  // of each output, or null
  float* partial;      // or null
  std::int64_t pieces;

  TRIVET_DEVICE float shift_of(std::int64_t output) const {
    if (shift == nullptr) return 0.0f;
    const float s = shift[output];
    return fabsf(s) < infinity() ? s : 0.0f;  // an infinite largest element must not make NaN of all
  }
  TRIVET_DEVICE void store(std::int64_t output, double total) const {
    float value = static_cast<float>(total * scale);
    if (finish == Finish::root) value = static_cast<float>(sqrt(total));
    if (finish == Finish::logarithm) {
      value = logf(static_cast<float>(total));
      if (shift != nullptr) value += shift[output];
    }
    if (dtype == DType::bf16) {
      static_cast<BFloat16*>(y)[output] = narrow<BFloat16>(value);
    } else if (dtype == DType::f16) {
      static_cast<Float16*>(y)[output] = narrow<Float16>(value);
    } else {
      static_cast<float*>(y)[output] = value;
    }
  }
  TRIVET_DEVICE void put(std::int64_t output, std::int64_t piece, float total) const {
    if (partial != nullptr) {
      partial[output * pieces + piece] = total;
    } else {
      store(output, static_cast<double>(total));
    }
  }
};

// Runs along the innermost dimension, which is cut into steps of N elements.
struct Runs {
  std::int64_t outputs;
  std::int64_t run;      // elements of the innermost dimension
  std::int64_t per_run;  // steps in it
  std::int64_t steps;    // of an output
  std::int64_t per_piece;
  std::int64_t pieces;
};

template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    reduce_runs_kernel(const T* x, const __grid_constant__ Loop<1> kept, const __grid_constant__ Loop<1> reduced,
                       Runs runs, Results results, Reduce op) {
  const int lane = static_cast<int>(threadIdx.x) % kGroup;
  for (std::int64_t unit = first_row<kGroup>(); unit < runs.outputs * runs.pieces; unit += row_step<kGroup>()) {
    const Quotient at = divide(unit, runs.pieces);
    std::int64_t base[1];
    locate(kept, kept.rank, at.quotient, base);
    const float shift = results.shift_of(at.quotient);
    const std::int64_t first = at.rest * runs.per_piece;
    const std::int64_t last = first + runs.per_piece < runs.steps ? first + runs.per_piece : runs.steps;
    float total = reduce_start(op);
    for (std::int64_t step = first + lane; step < last; step += kGroup) {
      const Quotient in_run = reduced.rank > 1 ? divide(step, runs.per_run) : Quotient{0, step};
      std::int64_t offset[1];
      locate(reduced, reduced.rank - 1, in_run.quotient, offset);
      const T* const from = x + base[0] + offset[0];
      const std::int64_t i = in_run.rest * N;
      if (i + N <= runs.run) {
        float v[N];
        load_floats(from + i, v);
        with_join(op, [&](auto join) {
          TRIVET_UNROLL
          for (int k = 0; k < N; ++k) total = join(total, v[k], shift);
        });
      } else {
        with_join(op, [&](auto join) {
          for (std::int64_t j = i; j < runs.run; ++j) total = join(total, widen(from[j]), shift);
        });
      }
    }
    total = join_group<kGroup>(total, reduce_start(op), JoinBy{op});
    if (lane == 0) results.put(at.quotient, at.rest, total);
  }
}

// Columns of the innermost kept dimension, (outer, rows, columns) with any strides. Blocks (tile, piece, outer).
template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    reduce_columns_kernel(const T* x, const __grid_constant__ Loop<1> kept, const __grid_constant__ Loop<1> reduced,
                          ColumnLayout layout, Results results, Reduce op) {
  TRIVET_SHARED(float, scratch, kBlock* N);
  const ColumnPlace at(layout, N);
  const bool inside = at.column < layout.columns;
  const std::int64_t outer = kept.elements / layout.columns;
  for (std::int64_t o = blockIdx.z; o < outer; o += gridDim.z) {
    std::int64_t base[1];
    locate(kept, kept.rank - 1, o, base);
    const std::int64_t output = o * layout.columns + at.column;
    float total[N], shift[N];
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      total[k] = reduce_start(op);
      shift[k] = inside ? results.shift_of(output + k) : 0.0f;
    }
    for (std::int64_t r = at.first + at.strand; inside && r < at.last; r += layout.strands) {
      std::int64_t offset[1];
      locate(reduced, reduced.rank, r, offset);
      float v[N];
      load_floats(x + base[0] + offset[0] + at.column, v);
      with_join(op, [&](auto join) {
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) total[k] = join(total[k], v[k], shift[k]);
      });
    }
    join_strands(total, layout, at, scratch, JoinBy{op});
    if (!inside || at.strand != 0) continue;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) results.put(output + k, at.piece, total[k]);
  }
}

// ---- integers and products: a warp for each output, in 64 bits ----

enum class PlainReduce { sum, magnitudes, squares, largest, smallest, product };

TRIVET_DEVICE std::int64_t plain_start(PlainReduce op, std::int64_t) {
  switch (op) {
    case PlainReduce::largest:
      return std::int64_t{1} << 63;
    case PlainReduce::smallest:
      return ~(std::int64_t{1} << 63);
    case PlainReduce::product:
      return 1;
    default:
      return 0;
  }
}
TRIVET_DEVICE double plain_start(PlainReduce, double) { return 1; }

// Integers wrap around.
struct PlainJoin {
  PlainReduce op;
  TRIVET_DEVICE std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    const auto left = static_cast<std::uint64_t>(a);
    const auto right = static_cast<std::uint64_t>(b);
    switch (op) {
      case PlainReduce::largest:
        return a > b ? a : b;
      case PlainReduce::smallest:
        return a < b ? a : b;
      case PlainReduce::product:
        return static_cast<std::int64_t>(left * right);
      default:
        return static_cast<std::int64_t>(left + right);
    }
  }
  TRIVET_DEVICE double operator()(double a, double b) const { return a * b; }
};

TRIVET_DEVICE double plain_value(PlainReduce, float x) { return static_cast<double>(x); }
TRIVET_DEVICE double plain_value(PlainReduce, BFloat16 x) { return static_cast<double>(widen(x)); }
TRIVET_DEVICE double plain_value(PlainReduce, Float16 x) { return static_cast<double>(widen(x)); }
template <class T>
TRIVET_DEVICE std::int64_t plain_value(PlainReduce op, T x) {
  const auto v = static_cast<std::uint64_t>(x);
  if (op == PlainReduce::magnitudes && is_negative(x)) return static_cast<std::int64_t>(std::uint64_t{0} - v);
  return static_cast<std::int64_t>(op == PlainReduce::squares ? v * v : v);
}

TRIVET_DEVICE void plain_store(float* y, double total) { *y = static_cast<float>(total); }
TRIVET_DEVICE void plain_store(BFloat16* y, double total) { *y = narrow<BFloat16>(static_cast<float>(total)); }
TRIVET_DEVICE void plain_store(Float16* y, double total) { *y = narrow<Float16>(static_cast<float>(total)); }
template <class T>
TRIVET_DEVICE void plain_store(T* y, std::int64_t total) {
  *y = static_cast<T>(total);
}

template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    reduce_plain_kernel(const T* x, T* y, const __grid_constant__ Loop<1> kept, const __grid_constant__ Loop<1> reduced,
                        PlainReduce op) {
  using Total = decltype(plain_value(op, T{}));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const PlainJoin join{op};
  for (std::int64_t output = first_row<kWarp>(); output < kept.elements; output += row_step<kWarp>()) {
    std::int64_t base[1];
    locate(kept, kept.rank, output, base);
    Total total = plain_start(op, Total{});
    for (std::int64_t i = lane; i < reduced.elements; i += kWarp) {
      std::int64_t offset[1];
      locate(reduced, reduced.rank, i, offset);
      total = join(total, plain_value(op, x[base[0] + offset[0]]));
    }
    total = join_warp(total, join);
    if (lane == 0) plain_store(y + output, total);
  }
}

}  // namespace trivet::kernels::cuda
