// Loops of the element-wise families: y[i] = f(x[i], ...), with or without broadcasting, over any type of elements.
#pragma once

#include "kernels/cpu/vector/row_loop.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// Elements that one piece of a loop without broadcasting touches.
inline constexpr std::int64_t kMapGrain = 8192;

// `omp simd` tells the compiler that y may be x, but never x shifted. The pointers are parameters because a store of
// bytes might change captured ones, for all that the compiler knows.
template <class Out, class In, class F>
[[gnu::always_inline]] inline void unary_row(Out* y, const In* x, std::int64_t n, const F f) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

// y[i] = f(x[i]), where x is input 0.
template <class Out, class In, class F>
void map_unary(const KernelArgs& args, const F f) {
  const In* const x = args.in[0].as<const In>();
  Out* const y = args.out[0].as<Out>();
  const std::int64_t n = element_count(args.in[0]);
  parallel_pieces(n, kMapGrain, n, args.threads,
                  [=](std::int64_t begin, std::int64_t end) { unary_row(y + begin, x + begin, end - begin, f); });
}

// y[i] = f(x[i]) in float32, where x and y are f32 or bf16.
template <class F>
void map_float(const KernelArgs& args, const F f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_unary<T, T>(args, [=](T x) { return from_f32<T>(f(to_f32(x))); });
  });
}

template <int kStrideA, int kStrideB, class Out, class In, class F>
[[gnu::always_inline]] inline void binary_row(Out* y, const In* a, const In* b, std::int64_t n, const F f) {
  const In a0 = a[0];
  const In b0 = b[0];
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(kStrideA != 0 ? a[i] : a0, kStrideB != 0 ? b[i] : b0);
}

// y = f(a, b) with broadcasting.
template <class Out, class In, class F>
void map_binary(const KernelArgs& args, const F f) {
  const View& y_view = args.out[0];
  const View* const inputs[2] = {&args.in[0], &args.in[1]};
  const RowLoop<3> loop = broadcast_loop(y_view, inputs);
  const In* const a = inputs[0]->as<const In>();
  const In* const b = inputs[1]->as<const In>();
  Out* const y = y_view.as<Out>();
  const bool a_moves = loop.inner_stride(1) != 0;
  const bool b_moves = loop.inner_stride(2) != 0;
  loop.for_each_row(args.threads, [=](const std::int64_t* offsets, std::int64_t n) {
    if (a_moves && b_moves) {
      binary_row<1, 1>(y + offsets[0], a + offsets[1], b + offsets[2], n, f);
    } else if (a_moves) {
      binary_row<1, 0>(y + offsets[0], a + offsets[1], b + offsets[2], n, f);
    } else {
      binary_row<0, 1>(y + offsets[0], a + offsets[1], b + offsets[2], n, f);
    }
  });
}

// y = f(a, b) with broadcasting in float32, where a, b and y are f32 or bf16.
template <class F>
void map_float_binary(const KernelArgs& args, const F f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_binary<T, T>(args, [=](T a, T b) { return from_f32<T>(f(to_f32(a), to_f32(b))); });
  });
}

// dx[i] = f(dy[i], saved[i]), for the backward ops: all of one shape and type, f32 or bf16.
template <class F>
void map_backward(const KernelArgs& args, const F f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const dy = args.in[0].as<const T>();
    const T* const saved = args.in[1].as<const T>();
    T* const dx = args.out[0].as<T>();
    const std::int64_t n = element_count(args.in[0]);
    parallel_pieces(n, kMapGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
      binary_row<1, 1>(dx + begin, dy + begin, saved + begin, end - begin,
                       [=](T g, T s) { return from_f32<T>(f(to_f32(g), to_f32(s))); });
    });
  });
}

// Calls f(element) with a value of the integer type that holds one element: i8, i32, i64 or u8 (bool too).
template <class F>
[[gnu::always_inline]] inline void with_integer_type(DType type, const F& f) {
  switch (type) {
    case DType::i8:
      return f(std::int8_t{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    default:
      return f(std::uint8_t{});
  }
}

constexpr bool is_integer_type(DType type) {
  return type == DType::i8 || type == DType::i32 || type == DType::i64 || type == DType::u8;
}

// `supports` of the ops that compute in float32: all inputs and the output are f32, or all are bf16.
inline bool one_compute_type(const KernelSpec& spec) {
  for (std::size_t i = 0; i < spec.in.size(); ++i) {
    if (spec.in[i].dtype != spec.out[0].dtype) return false;
  }
  return is_compute_type(spec.out[0].dtype);
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
