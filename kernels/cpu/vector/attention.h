// Kernels of the attention family that are not in attention.cpp, which has the table.
#pragma once

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// rotary.cpp
void run_rotary_embedding(const KernelArgs& args);
void run_rotary_embedding_backward(const KernelArgs& args);
std::size_t rotary_embedding_workspace(const KernelSpec& spec, const Prepared* prepared);

}  // namespace trivet::kernels::cpu::TRIVET_ISA
