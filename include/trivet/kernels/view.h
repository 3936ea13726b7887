// Plain views: what a kernel sees of a tensor. No ownership, no graph, no exceptions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trivet {

// bf16: the upper half of an f32 (8 bits of exponent, 7 of fraction). f16: IEEE 754 binary16.
enum class DType : std::uint8_t { f32, f64, i32, i64, u8, boolean, bf16, f16, i8 };

inline constexpr int kMaxRank = 8;

constexpr std::size_t dtype_size(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
    case DType::boolean:
    case DType::i8:
      return 1;
  }
  return 0;
}

constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f64 || t == DType::bf16 || t == DType::f16; }

namespace kernels {

inline constexpr int kMaxListSize = 2 * kMaxRank;  // a pair for each dimension
inline constexpr int kMaxTextSize = 64;

// Lists and texts of attribute structs.
struct IntList {
  int n = 0;
  std::int64_t v[kMaxListSize] = {};
};
struct NumberList {
  int n = 0;
  double v[kMaxListSize] = {};
};
struct Text {
  char v[kMaxTextSize] = {};  // ends with a zero
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
