#include "kernels/cuda/plugin/cudnn.h"

#include <dlfcn.h>

#include <utility>

#include "kernels/cuda/plugin/open_library.h"

namespace trivet::kernels::cuda {
namespace {

constexpr const char* kFile = "libcudnn.so.9";
constexpr std::size_t kOldest = 90800;  // the first that makes plans for a described device

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  if (!function) throw std::runtime_error(std::string("cuDNN cannot be used: ") + kFile + " has no function " + name);
}

Cudnn opened() {
  void* const library = open_library(kFile);
  if (!library) {
    throw std::runtime_error(std::string("cuDNN cannot be used: ") + kFile +
                             " was not found; name its folder in TRIVET_CUDA_LIBDIRS");
  }
  Cudnn result{};
  find(library, "cudnnGetVersion", result.get_version);
  find(library, "cudnnGetErrorString", result.error_string);
  find(library, "cudnnGetLastErrorString", result.last_error);
  find(library, "cudnnCreate", result.create);
  find(library, "cudnnSetStream", result.set_stream);
  find(library, "cudnnBackendCreateDescriptor", result.create_descriptor);
  find(library, "cudnnBackendDestroyDescriptor", result.destroy_descriptor);
  find(library, "cudnnBackendSetAttribute", result.set_attribute);
  find(library, "cudnnBackendGetAttribute", result.get_attribute);
  find(library, "cudnnBackendFinalize", result.finalize);
  find(library, "cudnnBackendExecute", result.execute);
  if (result.get_version() < kOldest) {
    throw std::runtime_error("cuDNN cannot be used: " + std::string(kFile) + " has version " +
                             std::to_string(result.get_version()) + ", expected " + std::to_string(kOldest) +
                             " or later");
  }
  return result;
}

std::string error_text(cudnnStatus_t status, const std::string& call) {
  char details[512] = {};
  cudnn().last_error(details, sizeof details);
  std::string text = call + ": " + cudnn().error_string(status);
  if (details[0] != '\0') text += std::string(" (") + details + ")";
  return text;
}

}  // namespace

const Cudnn& cudnn() {
  static const Cudnn functions = opened();
  return functions;
}

CudnnError::CudnnError(cudnnStatus_t status, const std::string& call) : std::runtime_error(error_text(status, call)) {}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  check_cudnn(cudnn().create_descriptor(type, &own_), "cudnnBackendCreateDescriptor");
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(own_, other.own_);
  return *this;
}

Descriptor::~Descriptor() {
  if (own_) cudnn().destroy_descriptor(own_);
}

std::int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t capacity,
                             void* values) const {
  std::int64_t count = 0;
  check_cudnn(cudnn().get_attribute(own_, name, type, capacity, &count, values), "cudnnBackendGetAttribute");
  return count;
}

std::int64_t Descriptor::number(cudnnBackendAttributeName_t name) const {
  std::int64_t value = 0;
  get(name, CUDNN_TYPE_INT64, 1, &value);
  return value;
}

}  // namespace trivet::kernels::cuda
