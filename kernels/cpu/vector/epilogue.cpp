// Passes over the operands and results of oneDNN's products.
#include "kernels/cpu/epilogue.h"

#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rounding.h"
#include "kernels/cpu/vector/storage.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr std::int64_t kPiece = 16 * 1024;  // elements

template <class F>
void for_each_range(std::int64_t n, int threads, const F& f) {
  parallel_pieces(n, kPiece, n, threads, f);
}

void relu(DType type, void* y, std::int64_t n, int threads) {
  with_compute_type(type, [&](auto element) {
    using T = decltype(element);
    T* values = static_cast<T*>(y);
    for_each_range(n, threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        const float v = to_f32(values[i]);
        values[i] = from_f32<T>(v < 0.0f ? 0.0f : v);
      }
    });
  });
}

void add(float* sum, const float* term, std::int64_t n, int threads) {
  for_each_range(n, threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) sum[i] += term[i];
  });
}

void add_bias(const float* sums, DType bias_type, const void* bias, DType type, void* y, std::int64_t rows,
              std::int64_t columns, int threads) {
  with_compute_type(type, [&](auto element) {
    with_compute_type(bias_type, [&](auto bias_element) {
      using T = decltype(element);
      using B = decltype(bias_element);
      const B* __restrict b = static_cast<const B*>(bias);
      const std::int64_t grain = columns < kPiece ? kPiece / columns : 1;
      parallel_pieces(rows, grain, rows * columns, threads, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          const float* __restrict from = sums + r * columns;
          T* __restrict row = static_cast<T*>(y) + r * columns;
#pragma omp simd
          for (std::int64_t c = 0; c < columns; ++c) row[c] = from_f32<T>(from[c] + to_f32(b[c]));
        }
      });
    });
  });
}

template <class From, class To>
void convert_elements(const void* x, void* y, std::int64_t n, int threads) {
  const From* __restrict in = static_cast<const From*>(x);
  To* __restrict out = static_cast<To*>(y);
  for_each_range(n, threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) out[i] = from_f32<To>(to_f32(in[i]));
  });
}

void convert(DType from, const void* x, DType to, void* y, std::int64_t n, int threads) {
  with_compute_type(from, [&](auto in) {
    with_compute_type(to, [&](auto out) { convert_elements<decltype(in), decltype(out)>(x, y, n, threads); });
  });
}

template <class T>
void widen_elements(const void* x, std::int32_t zero_point, float* __restrict y, std::int64_t n, int threads) {
  const T* __restrict in = static_cast<const T*>(x);
  for_each_range(n, threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(in[i] - zero_point);
  });
}

void widen(DType from, const void* x, std::int32_t zero_point, float* y, std::int64_t n, int threads) {
  if (from == DType::u8) {
    widen_elements<std::uint8_t>(x, zero_point, y, n, threads);
  } else {
    widen_elements<std::int8_t>(x, zero_point, y, n, threads);
  }
}

// A sum is made of partial sums over kColumnSumRows rows, kSumColumns columns at a time, so that tall and wide matrices
// both keep all threads busy and long sums stay exact.
constexpr std::int64_t kSumColumns = 128;

// Rows [0, rows) of `columns` <= kSumColumns columns; neighbouring rows lie `step` elements apart.
template <class T>
void sum_block(const T* __restrict x, std::int64_t rows, std::int64_t columns, std::int64_t step,
               float* __restrict sums) {
  float total[kSumColumns];
  for (std::int64_t c = 0; c < columns; ++c) total[c] = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* __restrict row = x + r * step;
    asm volatile("" ::: "memory");  // or the compiler takes several rows at once and shuffles
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) total[c] += to_f32(row[c]);
  }
  for (std::int64_t c = 0; c < columns; ++c) sums[c] = total[c];
}

// Narrow rows are taken together: a row of 10 numbers would leave most of a vector empty.
template <class T>
void sum_narrow_block(const T* __restrict x, std::int64_t rows, std::int64_t columns, float* __restrict sums) {
  const std::int64_t together = kSumColumns / columns;
  float wide[kSumColumns];
  sum_block(x, rows / together, together * columns, together * columns, wide);
  const std::int64_t rest = rows / together * together;
  for (std::int64_t c = 0; c < columns; ++c) {
    float sum = 0;
    for (std::int64_t k = 0; k < together; ++k) sum += wide[k * columns + c];
    for (std::int64_t r = rest; r < rows; ++r) sum += to_f32(x[r * columns + c]);
    sums[c] = sum;
  }
}

void column_sums(DType type, const void* x, std::int64_t rows, std::int64_t columns, float* partial, float* sums,
                 int threads) {
  const std::int64_t blocks = (columns + kSumColumns - 1) / kSumColumns;
  const std::int64_t shards = (rows + kColumnSumRows - 1) / kColumnSumRows;
  with_compute_type(type, [&](auto element) {
    using T = decltype(element);
    const T* values = static_cast<const T*>(x);
    parallel_pieces(shards * blocks, 1, rows * columns, threads, [=](std::int64_t piece, std::int64_t) {
      const std::int64_t first_row = piece / blocks * kColumnSumRows;
      const std::int64_t first = piece % blocks * kSumColumns;
      const std::int64_t count = rows - first_row < kColumnSumRows ? rows - first_row : kColumnSumRows;
      const std::int64_t width = columns - first < kSumColumns ? columns - first : kSumColumns;
      const T* block = values + first_row * columns + first;
      float* out = partial + piece / blocks * columns + first;
      if (2 * columns <= kSumColumns) {
        sum_narrow_block(block, count, columns, out);
      } else {
        sum_block(block, count, width, columns, out);
      }
    });
  });
  for (std::int64_t c = 0; c < columns; ++c) sums[c] = partial[c];
  for (std::int64_t s = 1; s < shards; ++s) {
    for (std::int64_t c = 0; c < columns; ++c) sums[c] += partial[s * columns + c];
  }
}

void row_sums(const std::int8_t* w, std::int64_t rows, std::int64_t columns, std::int32_t* sums, int threads) {
  const std::int64_t grain = columns < kPiece ? kPiece / columns : 1;
  parallel_pieces(rows, grain, rows * columns, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int8_t* __restrict row = w + r * columns;
      std::int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t c = 0; c < columns; ++c) sum += row[c];
      sums[r] = sum;
    }
  });
}

[[gnu::always_inline]] inline float sum_minus(std::int32_t sum, std::int32_t offset) {
  // The difference fits where the sum alone need not: unsigned numbers wrap.
  return static_cast<float>(
      static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) - static_cast<std::uint32_t>(offset)));
}
[[gnu::always_inline]] inline float sum_minus(float sum, std::int32_t offset) {
  return sum - static_cast<float>(offset);
}

// One row. The flags are templates, or the loop would hold branches.
template <class S, bool kOffset, bool kBias, class Store>
[[gnu::always_inline]] inline void result_row(const Int8Result& p, const S* __restrict sums, std::int64_t columns,
                                              const Store& store) {
  const float lowest = p.relu ? 0.0f : -__builtin_inff();
  // Bytes may be stored to anything: what the loop reads is out of their reach only in local pointers.
  const float* __restrict scale = p.scale;
  const float* __restrict bias = p.bias;
  const std::int32_t* __restrict offset = p.offset;
#pragma omp simd
  for (std::int64_t c = 0; c < columns; ++c) {
    float v = sum_minus(sums[c], kOffset ? offset[c] : 0) * scale[c];
    if (kBias) v += bias[c];
    store(c, v < lowest ? lowest : v);
  }
}

template <class S, bool kOffset, bool kBias>
void result_rows(const Int8Result& p, const S* sums, void* y, std::int64_t rows, std::int64_t columns) {
  const Quantizer quantizer(p.type == DType::u8, p.zero_point);
  const float y_scale = p.y_scale;
  for (std::int64_t r = 0; r < rows; ++r) {
    const S* row = sums + r * columns;
    if (p.type == DType::f32) {
      float* __restrict out = static_cast<float*>(y) + r * columns;
      result_row<S, kOffset, kBias>(p, row, columns, [=](std::int64_t c, float v) { out[c] = v; });
    } else {
      std::uint8_t* __restrict out = static_cast<std::uint8_t*>(y) + r * columns;
      result_row<S, kOffset, kBias>(p, row, columns, [=](std::int64_t c, float v) { out[c] = quantizer(v / y_scale); });
    }
  }
}

template <class S>
void choose_result_rows(const Int8Result& p, const void* sums, void* y, std::int64_t rows, std::int64_t columns) {
  const S* in = static_cast<const S*>(sums);
  if (p.offset != nullptr) {
    if (p.bias != nullptr) return result_rows<S, true, true>(p, in, y, rows, columns);
    return result_rows<S, true, false>(p, in, y, rows, columns);
  }
  if (p.bias != nullptr) return result_rows<S, false, true>(p, in, y, rows, columns);
  return result_rows<S, false, false>(p, in, y, rows, columns);
}

void int8_result(const Int8Result& p, const void* sums, void* y, std::int64_t rows, std::int64_t columns, int threads) {
  const std::int64_t grain = columns < kPiece ? kPiece / columns : 1;
  const std::int64_t size = p.type == DType::f32 ? 4 : 1;
  parallel_pieces(rows, grain, rows * columns, threads, [&](std::int64_t begin, std::int64_t end) {
    const char* in = static_cast<const char*>(sums) + begin * columns * 4;
    char* out = static_cast<char*>(y) + begin * columns * size;
    if (p.sums_type == DType::f32) {
      choose_result_rows<float>(p, in, out, end - begin, columns);
    } else {
      choose_result_rows<std::int32_t>(p, in, out, end - begin, columns);
    }
  });
}

}  // namespace

constexpr Epilogue kTable = {relu, add, add_bias, convert, widen, column_sums, row_sums, int8_result};
const Epilogue kEpilogue = kTable;

}  // namespace trivet::kernels::cpu::TRIVET_ISA
