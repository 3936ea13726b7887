// Matrix products, shared by the kernels of float and 8-bit layers.
#pragma once

#include <memory>

#include "kernels/cpu/onednn.h"

namespace trivet::kernels::cpu {

// (x, w) -> x w^T without activation.
std::unique_ptr<onednn::Runnable> make_linear_product(const KernelSpec& spec);

}  // namespace trivet::kernels::cpu
