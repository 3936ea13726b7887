#include "kernels/cuda/plugin/libraries.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstring>
#include <string_view>

#include "kernels/cuda/plugin/matmul.h"
#include "kernels/cuda/plugin/open_library.h"

namespace trivet::kernels::cuda {
namespace {

template <std::size_t n>
void put(char (&to)[n], std::string_view text) {
  const std::size_t size = text.size() < n ? text.size() : n - 1;
  std::memcpy(to, text.data(), size);
  to[size] = '\0';
}

TrivetLibrary made(std::string_view name, std::string_view version, std::string_view place, bool required) {
  TrivetLibrary result{};
  put(result.name, name);
  put(result.version, version);
  put(result.place, place);
  result.required = required ? 1 : 0;
  return result;
}

std::string file_of(const void* symbol) {
  Dl_info info{};
  return ::dladdr(symbol, &info) != 0 && info.dli_fname ? info.dli_fname : "unknown place";
}

// The version as a library's own function gives it: cudnnGetVersion() as its result, the others through a pointer.
std::string version_of(void* function, std::string_view name) {
  if (name == "cuDNN") {
    const std::size_t v = reinterpret_cast<std::size_t (*)()>(function)();
    return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
  }
  if (name == "NVRTC") {
    int major = 0, minor = 0;
    reinterpret_cast<int (*)(int*, int*)>(function)(&major, &minor);
    return std::to_string(major) + "." + std::to_string(minor);
  }
  int v = 0;
  reinterpret_cast<int (*)(int*)>(function)(&v);
  if (name != "NCCL") return std::to_string(v);
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

TrivetLibrary optional(const char* name, const char* file, const char* version) {
  void* const library = open_library(file);
  if (!library) return made(name, "", std::string(file) + " was not found", false);
  void* const function = ::dlsym(library, version);
  if (!function) return made(name, "", std::string(file) + " has no function " + version, false);
  return made(name, version_of(function, name), file_of(function), false);
}

TrivetLibrary cudnn_library() {
#ifdef TRIVET_HAVE_CUDNN
  return optional("cuDNN", "libcudnn.so.9", "cudnnGetVersion");
#else
  return made("cuDNN", "", "the plug-in was built without cuDNN's headers", false);
#endif
}

TrivetLibrary nccl_library() {
#ifdef TRIVET_HAVE_NCCL
  return optional("NCCL", "libnccl.so.2", "ncclGetVersion");
#else
  return made("NCCL", "", "the plug-in was built without NCCL's headers", false);
#endif
}

TrivetLibrary driver() {
  void* const library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!library) return made("driver", "", "libcuda.so.1 was not found", true);
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0) {
    return made("driver", "", "libcuda.so.1 is there, but no driver answers", true);
  }
  void* const function = ::dlsym(library, "cuInit");
  return made("driver", "CUDA " + version_text(version), function ? file_of(function) : "libcuda.so.1", true);
}

TrivetLibrary cublas_lt() {
  return made("cuBLASLt", products_version(), file_of(reinterpret_cast<const void*>(&cublasLtGetVersion)), true);
}

}  // namespace

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::int32_t describe_libraries(TrivetLibrary* libraries, std::int32_t capacity) {
  int runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  const TrivetLibrary all[] = {
      driver(),
      made("CUDA runtime", version_text(runtime), "part of the plug-in", true),
      cublas_lt(),
      cudnn_library(),
      nccl_library(),
      optional("CUPTI", "libcupti.so.13", "cuptiGetVersion"),
      optional("NVRTC", "libnvrtc.so.13", "nvrtcVersion"),
  };
  std::int32_t count = 0;
  for (const TrivetLibrary& library : all) {
    if (count < capacity) libraries[count] = library;
    ++count;
  }
  return count;
}

}  // namespace trivet::kernels::cuda
