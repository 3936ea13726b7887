// Libraries that are opened when they are needed.
#pragma once

#include <dlfcn.h>

#include <string>

namespace trivet::kernels::cuda {

// By its name, as the loader knows or finds it, then in the toolkit's folder. Null if it is in neither.
inline void* open_library(const char* name) {
  if (void* library = ::dlopen(name, RTLD_LAZY | RTLD_LOCAL)) return library;
  return ::dlopen((std::string("/usr/local/cuda/lib64/") + name).c_str(), RTLD_LAZY | RTLD_LOCAL);
}

}  // namespace trivet::kernels::cuda
