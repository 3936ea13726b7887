// Kernels that matrix products need beside cuBLASLt.
#pragma once

#include <cstddef>
#include <cstdint>

#include "trivet/kernels/view.h"

namespace trivet::kernels::cuda {

// to[i] = bf16(from[i]), rounded to nearest even.
void round_to_bf16(const float* from, void* to, std::int64_t elements, void* stream);

// sums[c] = sum over the rows of x (rows, columns), f32 or bf16, in f32; f32 or bf16 sums. Always in the same order.
void column_sums(const View& x, std::int64_t rows, std::int64_t columns, void* partial, const View& sums, void* stream);
std::size_t column_sums_workspace(std::int64_t rows, std::int64_t columns);

}  // namespace trivet::kernels::cuda
