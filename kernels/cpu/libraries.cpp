#include "trivet/kernels/libraries.h"

#include <dnnl.hpp>

namespace trivet::kernels::cpu {

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

}  // namespace trivet::kernels::cpu
