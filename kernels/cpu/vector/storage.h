// Kernels for every float type: elements are loaded as f32, computed in f32 and rounded when they are stored.
#pragma once

#include "kernels/math/small_float.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// The type of an element in memory.
template <DType kType>
struct Storage {
  using Type = std::uint8_t;  // u8, bool
};
template <>
struct Storage<DType::f32> {
  using Type = float;
};
template <>
struct Storage<DType::f64> {
  using Type = double;
};
template <>
struct Storage<DType::i32> {
  using Type = std::int32_t;
};
template <>
struct Storage<DType::i64> {
  using Type = std::int64_t;
};
template <>
struct Storage<DType::bf16> {
  using Type = BFloat16;
};
template <>
struct Storage<DType::f16> {
  using Type = Float16;
};
template <>
struct Storage<DType::i8> {
  using Type = std::int8_t;
};

// Calls f(element) with a value of the type that holds one element, f32 or bf16: the types that ops compute on.
//   with_compute_type(x.dtype, [&](auto element) { using T = decltype(element); run<T>(args); });
template <class F>
[[gnu::always_inline]] inline void with_compute_type(DType type, const F& f) {
  if (type == DType::bf16) {
    f(BFloat16{});
  } else {
    f(float{});
  }
}

constexpr bool is_compute_type(DType type) { return type == DType::f32 || type == DType::bf16; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
