// Passes over the operands and results of oneDNN's products.
#include "kernels/cpu/epilogue.h"

#include "kernels/cpu/vector/lanes.h"
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

// Sums less an offset as floats. The difference fits where the sum alone need not: unsigned numbers wrap.
struct ManySums : Many {
  typedef std::uint8_t Bytes __attribute__((vector_size(kVectorLanes)));

  [[gnu::always_inline]] static Float minus(const std::int32_t* sums, const std::int32_t* offset) {
    const Word sum = __builtin_bit_cast(Word, load(sums));
    const Word difference = offset == nullptr ? sum : sum - __builtin_bit_cast(Word, load(offset));
    return __builtin_convertvector(__builtin_bit_cast(Integer, difference), Float);
  }
  [[gnu::always_inline]] static Float minus(const float* sums, const std::int32_t* offset) {
    return offset == nullptr ? load(sums) : load(sums) - __builtin_convertvector(load(offset), Float);
  }
  [[gnu::always_inline]] static void store_bytes(std::uint8_t* y, Float v, const Quantizer& quantizer) {
    const Bytes bytes = __builtin_convertvector(quantizer.words<Word>(v), Bytes);
    __builtin_memcpy(y, &bytes, sizeof(bytes));
  }
};

struct OneSum : One {
  [[gnu::always_inline]] static float minus(const std::int32_t* sum, const std::int32_t* offset) {
    const std::uint32_t subtracted = offset == nullptr ? 0 : static_cast<std::uint32_t>(*offset);
    return static_cast<float>(static_cast<std::int32_t>(static_cast<std::uint32_t>(*sum) - subtracted));
  }
  [[gnu::always_inline]] static float minus(const float* sum, const std::int32_t* offset) {
    return offset == nullptr ? *sum : *sum - static_cast<float>(*offset);
  }
  [[gnu::always_inline]] static void store_bytes(std::uint8_t* y, float v, const Quantizer& quantizer) {
    *y = quantizer(v);
  }
};

// Some columns of some rows. What belongs to the columns is in registers.
template <class Lanes, bool kOffset, bool kBias, class S, class Store>
[[gnu::always_inline]] inline void result_columns(const Int8Result& p, const S* __restrict sums, std::int64_t rows,
                                                  std::int64_t columns, std::int64_t c, const Store& store) {
  using Float = typename Lanes::Float;
  const Float scale = Lanes::load(p.scale + c);
  const Float bias = kBias ? Lanes::load(p.bias + c) : Float{};
  const Float lowest = Float{} + (p.relu ? 0.0f : -__builtin_inff());
  const std::int32_t* const offset = kOffset ? p.offset + c : nullptr;
  for (std::int64_t r = 0; r < rows; ++r) {
    Float v = Lanes::minus(sums + r * columns + c, offset) * scale;
    if (kBias) v += bias;
    store(Lanes(), r * columns + c, v < lowest ? lowest : v);
  }
}

template <class S, bool kOffset, bool kBias, class Store>
void result_block(const Int8Result& p, const S* sums, std::int64_t rows, std::int64_t columns, const Store& store) {
  std::int64_t c = 0;
  for (; c + ManySums::kLanes <= columns; c += ManySums::kLanes) {
    result_columns<ManySums, kOffset, kBias>(p, sums, rows, columns, c, store);
  }
  for (; c < columns; ++c) result_columns<OneSum, kOffset, kBias>(p, sums, rows, columns, c, store);
}

// Blocks of rows that stay in the nearest cache from one vector of columns to the next.
template <class S, bool kOffset, bool kBias>
void result_rows(const Int8Result& p, const S* sums, void* y, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kBlock = 4096;  // sums
  const Quantizer quantizer(p.type == DType::u8, p.zero_point);
  const std::int64_t together = columns < kBlock ? kBlock / columns : 1;
  for (std::int64_t first = 0; first < rows; first += together) {
    const std::int64_t count = rows - first < together ? rows - first : together;
    const S* block = sums + first * columns;
    if (p.type == DType::f32) {
      float* out = static_cast<float*>(y) + first * columns;
      result_block<S, kOffset, kBias>(p, block, count, columns,
                                      [=](auto lanes, std::int64_t i, auto v) { lanes.store(out + i, v); });
    } else {
      std::uint8_t* out = static_cast<std::uint8_t*>(y) + first * columns;
      result_block<S, kOffset, kBias>(p, block, count, columns, [=](auto lanes, std::int64_t i, auto v) {
        lanes.store_bytes(out + i, v, quantizer);
      });
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
