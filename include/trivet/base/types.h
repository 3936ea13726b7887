// Shapes, tensor types and host tensors.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/kernels/view.h"

namespace trivet {

using Shape = std::vector<std::int64_t>;

const char* dtype_name(DType t);  // "f32", "i64", "bool", ...
DType dtype_from_name(std::string_view name);

// Throws Error(graph) if the product passes 2^58 or a dimension is negative.
std::int64_t element_count(const Shape& shape);

std::string to_string(const Shape& shape);  // "[128,28,28,1]", "[]" for a scalar

struct TensorType {
  DType dtype = DType::f32;
  Shape shape;

  std::int64_t elements() const { return element_count(shape); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * dtype_size(dtype); }
  int rank() const { return static_cast<int>(shape.size()); }
  // Dimension counted from the end for negative i.
  std::int64_t dim(int i) const { return shape[static_cast<std::size_t>(i < 0 ? rank() + i : i)]; }
  kernels::TensorDesc desc() const;  // Error(graph) if the rank passes kMaxRank
  bool operator==(const TensorType&) const = default;
};

std::string to_string(const TensorType& type);  // "f32[128,10]"

// A dense tensor in host memory that owns its bytes.
struct Tensor {
  TensorType type;
  std::vector<std::byte> data;

  Tensor() = default;
  explicit Tensor(TensorType t) : type(std::move(t)), data(type.bytes()) {}

  // Error(internal) unless the values have as many bytes as the type.
  template <class T>
  static Tensor of(DType dtype, Shape shape, std::span<const T> values) {
    return of_bytes({dtype, std::move(shape)}, std::as_bytes(values));
  }
  static Tensor of_bytes(TensorType type, std::span<const std::byte> values);
  static Tensor scalar_f32(float v) { return of<float>(DType::f32, {}, std::span(&v, 1)); }
  static Tensor scalar_i64(std::int64_t v) { return of<std::int64_t>(DType::i64, {}, std::span(&v, 1)); }

  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data.data()), data.size() / sizeof(T)};
  }
  template <class T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
  }
  kernels::View view() { return make_view(data.data()); }
  // For kernel inputs only: the kernel interface has no const view.
  kernels::View view() const { return make_view(const_cast<std::byte*>(data.data())); }

 private:
  kernels::View make_view(void* p) const;
};

}  // namespace trivet
