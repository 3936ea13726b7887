// What the CPU's kernels are made with.
#pragma once

#include <string>

namespace trivet::kernels::cpu {

std::string onednn_version();  // "2.6.3"

}  // namespace trivet::kernels::cpu
