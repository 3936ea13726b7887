// The tables of the CUDA kernels, one for each .cu file. registry.cpp searches them; nvcc compiles them for the
// plug-in, the C++ compiler for the simulator.
#pragma once

#include <span>
#include <string_view>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

std::span<const KernelEntry> elementwise_kernels();
std::span<const KernelEntry> unary_kernels();
std::span<const KernelEntry> activation_kernels();
std::span<const KernelEntry> cast_kernels();
std::span<const KernelEntry> softmax_kernels();
std::span<const KernelEntry> loss_kernels();
std::span<const KernelEntry> pointwise_loss_kernels();
std::span<const KernelEntry> norm_rows_kernels();
std::span<const KernelEntry> batch_norm_kernels();
std::span<const KernelEntry> reduction_kernels();
std::span<const KernelEntry> optimizer_kernels();
std::span<const KernelEntry> shape_kernels();
std::span<const KernelEntry> padding_kernels();
std::span<const KernelEntry> group_norm_kernels();
std::span<const KernelEntry> indexing_kernels();
std::span<const KernelEntry> scatter_kernels();
std::span<const KernelEntry> cumulative_kernels();
std::span<const KernelEntry> sorting_kernels();
std::span<const KernelEntry> resize_kernels();
std::span<const KernelEntry> quantization_kernels();
std::span<const KernelEntry> int8_kernels();
std::span<const KernelEntry> lstm_kernels();
std::span<const KernelEntry> gru_kernels();
std::span<const KernelEntry> pooling_kernels();
std::span<const KernelEntry> random_kernels();
std::span<const KernelEntry> rotary_kernels();
std::span<const KernelEntry> attention_kernels();

// The kernel of an op, or null.
const KernelEntry* find(std::string_view op);

}  // namespace trivet::kernels::cuda
