// Passes over the operands and results of oneDNN's products, compiled for each instruction set (vector/epilogue.cpp).
#pragma once

#include <cstdint>

#include "trivet/kernels/view.h"

namespace trivet::kernels::cpu {

// Integer sums of products -> numbers: (sum - offset) * scale + bias for each column, ReLU if asked for, and the result
// as f32, or rounded to the nearest (ties to even), moved by the zero point and clamped to u8 or i8.
struct Int8Result {
  DType sums_type = DType::i32;          // or f32
  const std::int32_t* offset = nullptr;  // may be null: none
  const float* scale = nullptr;
  const float* bias = nullptr;  // may be null: none
  bool relu = false;
  DType type = DType::f32;  // or u8, i8
  std::int32_t zero_point = 0;
};

// Bits of the results do not depend on the number of threads.
struct Epilogue {
  // max(y, 0) in place, and NaN stays NaN; f32 or bf16. A pass of its own because oneDNN's fused ReLU makes 0 of NaN: a
  // network whose weights or data hold a NaN would then train on with a finite loss.
  void (*relu)(DType type, void* y, std::int64_t n, int threads);
  // sum += term, element by element.
  void (*add)(float* sum, const float* term, std::int64_t n, int threads);
  // Each row of y (rows, columns) = that of sums + bias; y and bias f32 or bf16, each.
  void (*add_bias)(const float* sums, DType bias_type, const void* bias, DType type, void* y, std::int64_t rows,
                   std::int64_t columns, int threads);
  // Between f32 and bf16.
  void (*convert)(DType from, const void* x, DType to, void* y, std::int64_t n, int threads);
  // y = x - zero_point, u8 or i8 to f32.
  void (*widen)(DType from, const void* x, std::int32_t zero_point, float* y, std::int64_t n, int threads);
  // Sums of the columns of x (rows, columns), f32 or bf16. `partial` has column_sum_floats() elements.
  void (*column_sums)(DType type, const void* x, std::int64_t rows, std::int64_t columns, float* partial, float* sums,
                      int threads);
  // Sums of the rows of w (rows, columns), i8.
  void (*row_sums)(const std::int8_t* w, std::int64_t rows, std::int64_t columns, std::int32_t* sums, int threads);
  void (*int8_result)(const Int8Result& result, const void* sums, void* y, std::int64_t rows, std::int64_t columns,
                      int threads);
};

inline constexpr std::int64_t kColumnSumRows = 1024;  // of one partial sum

[[gnu::always_inline]] inline std::int64_t column_sum_floats(std::int64_t rows, std::int64_t columns) {
  return (rows + kColumnSumRows - 1) / kColumnSumRows * columns;
}

// The one for best_isa().
const Epilogue& epilogue();

namespace baseline {
extern const Epilogue kEpilogue;
}
namespace avx2 {
extern const Epilogue kEpilogue;
}
namespace avx512 {
extern const Epilogue kEpilogue;
}

}  // namespace trivet::kernels::cpu
