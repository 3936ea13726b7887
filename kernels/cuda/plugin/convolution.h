// Convolutions and their gradients on the device through cuDNN, in f32 and bf16.
#pragma once

#include <string>
#include <string_view>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

// Null if the op is no convolution. Without the library the entry's prepare() says why it cannot be used.
const KernelEntry* find_convolution(std::string_view op);

// Of the library that computes them, "9.19.0": results may differ between versions. Empty if it cannot be used.
std::string convolutions_version();

}  // namespace trivet::kernels::cuda
