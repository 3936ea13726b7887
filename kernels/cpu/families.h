// The tables of the CPU's kernels, one for each file of kernels/cpu/vector (once for each instruction set) and of
// kernels/cpu. registry.cpp searches them.
#pragma once

#include <span>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu {

#define TRIVET_VECTOR_FAMILIES(isa)                         \
  namespace isa {                                           \
  std::span<const KernelEntry> elementwise_kernels();       \
  std::span<const KernelEntry> reduction_kernels();         \
  std::span<const KernelEntry> shape_kernels();             \
  std::span<const KernelEntry> padding_kernels();           \
  std::span<const KernelEntry> pooling_kernels();           \
  std::span<const KernelEntry> normalization_kernels();     \
  std::span<const KernelEntry> row_normalization_kernels(); \
  std::span<const KernelEntry> softmax_kernels();           \
  std::span<const KernelEntry> loss_kernels();              \
  std::span<const KernelEntry> pointwise_loss_kernels();    \
  std::span<const KernelEntry> random_kernels();            \
  std::span<const KernelEntry> optimizer_kernels();         \
  std::span<const KernelEntry> unary_kernels();             \
  std::span<const KernelEntry> activation_kernels();        \
  std::span<const KernelEntry> indexing_kernels();          \
  std::span<const KernelEntry> sorting_kernels();           \
  std::span<const KernelEntry> resize_kernels();            \
  std::span<const KernelEntry> recurrent_kernels();         \
  std::span<const KernelEntry> attention_kernels();         \
  std::span<const KernelEntry> quantization_kernels();      \
  std::span<const KernelEntry> ranks_kernels();             \
  }
TRIVET_VECTOR_FAMILIES(baseline)
TRIVET_VECTOR_FAMILIES(avx2)
TRIVET_VECTOR_FAMILIES(avx512)
#undef TRIVET_VECTOR_FAMILIES

std::span<const KernelEntry> matrix_kernels();       // oneDNN
std::span<const KernelEntry> convolution_kernels();  // oneDNN
std::span<const KernelEntry> int8_kernels();         // oneDNN

}  // namespace trivet::kernels::cpu
