// matmul, linear and its gradients on the device, in f32 and bf16.
#pragma once

#include <string>
#include <string_view>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

// Null if it is no product.
const KernelEntry* find_product(std::string_view op);

// Of the library that computes them: results may differ between versions.
std::string products_version();

}  // namespace trivet::kernels::cuda
