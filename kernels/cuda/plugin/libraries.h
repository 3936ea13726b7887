// The driver and the libraries that the plug-in opens when they are needed.
#pragma once

#include <cstdint>
#include <string>

#include "trivet/kernels/plugin.h"

namespace trivet::kernels::cuda {

// "13.0" of 13000.
std::string version_text(int version);

// Function of the table.
std::int32_t describe_libraries(TrivetLibrary* libraries, std::int32_t capacity);

}  // namespace trivet::kernels::cuda
