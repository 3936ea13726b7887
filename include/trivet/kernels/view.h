// Plain views: what a kernel sees of a tensor. No ownership, no graph, no exceptions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trivet {

enum class DType : std::uint8_t { f32, f64, i32, i64, u8, boolean };

inline constexpr int kMaxRank = 8;

constexpr std::size_t dtype_size(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::u8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f64; }

namespace kernels {

// A list of up to kMaxRank integers, for attribute structs.
struct IntList {
  int n = 0;
  std::int64_t v[kMaxRank] = {};
};

// Type and shape of a dense row-major tensor. Rank 0 is a scalar with one element.
struct TensorDesc {
  DType dtype = DType::f32;
  int rank = 0;
  std::int64_t shape[kMaxRank] = {};

  constexpr std::int64_t elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  constexpr std::size_t bytes() const { return static_cast<std::size_t>(elements()) * dtype_size(dtype); }
  // Dimension counted from the end for negative i: dim(-1) is the innermost one.
  constexpr std::int64_t dim(int i) const { return shape[i < 0 ? rank + i : i]; }
};

// A TensorDesc with its memory. Every buffer of a plan is dense, so a view needs no strides; ops that read
// with a stride (slice, transpose) compute it from the shapes.
struct View : TensorDesc {
  void* data = nullptr;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace kernels
}  // namespace trivet
