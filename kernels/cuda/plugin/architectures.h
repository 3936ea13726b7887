// Which devices can run what was compiled for a list of architectures.
#pragma once

#include <string>
#include <string_view>

namespace trivet::kernels::cuda {

// `list`: CMAKE_CUDA_ARCHITECTURES with commas, "80-real,90a-real,120". Machine code ("-real") runs on devices of the
// same major version and no lower minor one, that of "90a" on 9.0 alone; an architecture without "-real" also has code
// from which the driver makes that of any later device.
bool runs_on(std::string_view list, int major, int minor);

// "sm_80, sm_90a, sm_120 and later"
std::string architectures_text(std::string_view list);

}  // namespace trivet::kernels::cuda
