#include "trivet/base/types.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "trivet/base/error.h"

namespace trivet {
namespace {

constexpr std::array<std::pair<DType, const char*>, 9> kNames = {{{DType::f32, "f32"},
                                                                  {DType::f64, "f64"},
                                                                  {DType::i32, "i32"},
                                                                  {DType::i64, "i64"},
                                                                  {DType::u8, "u8"},
                                                                  {DType::boolean, "bool"},
                                                                  {DType::bf16, "bf16"},
                                                                  {DType::f16, "f16"},
                                                                  {DType::i8, "i8"}}};
constexpr std::int64_t kMaxElements = std::int64_t{1} << 58;  // times 8 bytes still fits 63 bits

}  // namespace

const char* dtype_name(DType t) {
  for (const auto& [type, name] : kNames) {
    if (type == t) return name;
  }
  return "?";
}

DType dtype_from_name(std::string_view name) {
  for (const auto& [type, text] : kNames) {
    if (name == text) return type;
  }
  throw Error(ErrorCode::graph, fmt::format("unknown dtype '{}'", name),
              "one of f32, bf16, f16, f64, i8, u8, i32, i64, bool");
}

std::int64_t element_count(const Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) {
    if (d < 0) throw Error(ErrorCode::graph, fmt::format("shape {} has a negative dimension", to_string(shape)));
    if (__builtin_mul_overflow(n, d, &n) || n > kMaxElements) {
      throw Error(ErrorCode::graph, fmt::format("shape {} has too many elements", to_string(shape)));
    }
  }
  return n;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

std::string to_string(const TensorType& type) { return dtype_name(type.dtype) + to_string(type.shape); }

kernels::TensorDesc TensorType::desc() const {
  if (rank() > kMaxRank) {
    throw Error(ErrorCode::graph,
                fmt::format("{} has rank {}, at most {} is possible", to_string(*this), rank(), kMaxRank));
  }
  kernels::TensorDesc d;
  d.dtype = dtype;
  d.rank = rank();
  for (int i = 0; i < d.rank; ++i) d.shape[i] = shape[static_cast<std::size_t>(i)];
  return d;
}

Tensor Tensor::of_bytes(TensorType type, std::span<const std::byte> values) {
  Tensor t(std::move(type));
  if (values.size() != t.data.size()) {
    throw Error(ErrorCode::internal,
                fmt::format("{} has {} bytes, given {}", to_string(t.type), t.data.size(), values.size()));
  }
  std::copy(values.begin(), values.end(), t.data.begin());
  return t;
}

kernels::View Tensor::make_view(void* p) const {
  kernels::View v;
  static_cast<kernels::TensorDesc&>(v) = type.desc();
  v.data = p;
  return v;
}

}  // namespace trivet
