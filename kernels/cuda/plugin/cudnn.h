// cuDNN 9 through its backend interface (operation graphs), opened when it is first needed.
#pragma once

#include <cudnn_backend.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace trivet::kernels::cuda {

// The functions of libcudnn.so.9 that are called.
struct Cudnn {
  decltype(&cudnnGetVersion) get_version;
  decltype(&cudnnGetErrorString) error_string;
  decltype(&cudnnGetLastErrorString) last_error;
  decltype(&cudnnCreate) create;
  decltype(&cudnnSetStream) set_stream;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor;
  decltype(&cudnnBackendSetAttribute) set_attribute;
  decltype(&cudnnBackendGetAttribute) get_attribute;
  decltype(&cudnnBackendFinalize) finalize;
  decltype(&cudnnBackendExecute) execute;
};

// Opened once for the whole program. Throws std::runtime_error that says why it cannot be used.
const Cudnn& cudnn();

class CudnnError : public std::runtime_error {
 public:
  CudnnError(cudnnStatus_t status, const std::string& call);
};

inline void check_cudnn(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnError(status, call);
}

// A descriptor of the backend: attributes are set, then it is finalized and no longer changes.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept : own_(other.own_) { other.own_ = nullptr; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
    check_cudnn(cudnn().set_attribute(own_, name, type, count, values), "cudnnBackendSetAttribute");
  }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const auto& value) {
    set(name, type, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, std::int64_t value) { set(name, CUDNN_TYPE_INT64, value); }
  void set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
    set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.own_);
  }
  void finalize(const char* what) { check_cudnn(cudnn().finalize(own_), what); }

  // How many values there are. Up to `capacity` of them are written; descriptors among them must have been made before.
  std::int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t capacity,
                   void* values) const;
  std::int64_t number(cudnnBackendAttributeName_t name) const;

  cudnnBackendDescriptor_t own() const { return own_; }

 private:
  cudnnBackendDescriptor_t own_ = nullptr;
};

}  // namespace trivet::kernels::cuda
