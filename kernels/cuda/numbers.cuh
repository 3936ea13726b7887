// Element types on the device: loaded as f32, computed in f32, rounded when stored. Packs of 16 bytes.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/math/small_float.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

// ---- conversions ----

TRIVET_DEVICE float widen(float x) { return x; }

template <class T>
struct Narrow;

template <>
struct Narrow<float> {
  TRIVET_DEVICE static float of(float x) { return x; }
};

#if defined(__CUDACC__)
TRIVET_DEVICE float bits_to_float(std::uint32_t bits) { return __uint_as_float(bits); }
TRIVET_DEVICE std::uint32_t float_to_bits(float x) { return __float_as_uint(x); }

TRIVET_DEVICE float widen(BFloat16 x) { return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16); }
TRIVET_DEVICE float widen(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }

template <>
struct Narrow<BFloat16> {
  TRIVET_DEVICE static BFloat16 of(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }
};
template <>
struct Narrow<Float16> {
  TRIVET_DEVICE static Float16 of(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
};
#else
inline float bits_to_float(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline std::uint32_t float_to_bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }

inline float widen(BFloat16 x) { return to_f32(x); }
inline float widen(Float16 x) { return to_f32(x); }

template <>
struct Narrow<BFloat16> {
  static BFloat16 of(float x) { return from_f32<BFloat16>(x); }
};
template <>
struct Narrow<Float16> {
  static Float16 of(float x) { return from_f32<Float16>(x); }
};
#endif

template <class T>
TRIVET_DEVICE T narrow(float x) {
  return Narrow<T>::of(x);
}

// Of integers. Comparing an unsigned one with 0 is a warning.
template <class T>
inline constexpr bool kIsSigned = static_cast<T>(-1) < T{1};
template <class T>
TRIVET_DEVICE bool is_negative(T x) {
  if constexpr (kIsSigned<T>) return x < T{0};
  return false;
}

TRIVET_DEVICE float infinity() { return bits_to_float(0x7f800000u); }
TRIVET_DEVICE float not_a_number() { return bits_to_float(0x7fc00000u); }

// NaN if either is.
TRIVET_DEVICE float larger(float a, float b) { return a > b || a != a ? a : b; }
TRIVET_DEVICE float smaller(float a, float b) { return a < b || a != a ? a : b; }

// Limits x to [low, high]; NaN stays.
TRIVET_DEVICE float limited(float x, float low, float high) {
  const float y = x < low ? low : x;
  return y > high ? high : y;
}

// ---- packs ----

template <class T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));

// N elements that are read and written at once.
template <class T, int N = kPack<T>>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

template <int N, class T>
TRIVET_DEVICE Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, class T>
TRIVET_DEVICE void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// N elements as f32, and back. Of f32 a pack has four elements at most.
template <int N, class T>
TRIVET_DEVICE void load_floats(const T* from, float (&v)[N]) {
  constexpr int kStep = N < kPack<T> ? N : kPack<T>;
  TRIVET_UNROLL
  for (int first = 0; first < N; first += kStep) {
    const Pack<T, kStep> pack = load_pack<kStep>(from + first);
    TRIVET_UNROLL
    for (int k = 0; k < kStep; ++k) v[first + k] = widen(pack.v[k]);
  }
}
template <int N, class T>
TRIVET_DEVICE void store_floats(T* to, const float (&v)[N]) {
  constexpr int kStep = N < kPack<T> ? N : kPack<T>;
  TRIVET_UNROLL
  for (int first = 0; first < N; first += kStep) {
    Pack<T, kStep> pack;
    TRIVET_UNROLL
    for (int k = 0; k < kStep; ++k) pack.v[k] = narrow<T>(v[first + k]);
    store_pack(to + first, pack);
  }
}

// ---- host: dtypes ----

constexpr bool is_compute_type(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; }
constexpr bool is_integer_type(DType t) {
  return t == DType::i8 || t == DType::i32 || t == DType::i64 || t == DType::u8;
}

// Calls f(element) with a value of the type that holds one element: f32, bf16 or f16.
template <class F>
void with_compute_type(DType type, const F& f) {
  if (type == DType::bf16) {
    f(BFloat16{});
  } else if (type == DType::f16) {
    f(Float16{});
  } else {
    f(float{});
  }
}

// The same for i8, i32, i64 and u8 (bool too).
template <class F>
void with_integer_type(DType type, const F& f) {
  if (type == DType::i8) {
    f(std::int8_t{});
  } else if (type == DType::i32) {
    f(std::int32_t{});
  } else if (type == DType::i64) {
    f(std::int64_t{});
  } else {
    f(std::uint8_t{});
  }
}

// An unsigned integer as wide as the dtype's elements, for kernels that only move them.
template <class F>
void with_word(DType type, const F& f) {
  switch (dtype_size(type)) {
    case 1:
      return f(std::uint8_t{});
    case 2:
      return f(std::uint16_t{});
    case 4:
      return f(std::uint32_t{});
    default:
      return f(std::uint64_t{});
  }
}

inline bool is_aligned(const void* p, std::size_t bytes = 16) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

// An input that the node may lack.
template <class T>
const T* optional_input(const KernelArgs& args, std::size_t i) {
  return i < args.in.size() ? static_cast<const T*>(args.in[i].data) : nullptr;
}

// All inputs and the output have one type: f32, bf16 or f16.
inline bool one_compute_type(const KernelSpec& spec) {
  for (const TensorDesc& t : spec.in) {
    if (t.dtype != spec.out[0].dtype) return false;
  }
  return is_compute_type(spec.out[0].dtype);
}

inline bool any_type(const KernelSpec&) { return true; }

// Sizes of a tensor before, along and behind one dimension, which may count from the end.
struct Extents {
  std::int64_t outer = 1;
  std::int64_t size = 1;
  std::int64_t inner = 1;
};
inline Extents extents_of(const TensorDesc& t, std::int64_t axis_attribute) {
  const int axis = static_cast<int>(axis_attribute < 0 ? axis_attribute + t.rank : axis_attribute);
  Extents e;
  for (int d = 0; d < axis; ++d) e.outer *= t.shape[d];
  e.size = t.shape[axis];
  for (int d = axis + 1; d < t.rank; ++d) e.inner *= t.shape[d];
  return e;
}

}  // namespace trivet::kernels::cuda
