// Element-wise kernels: y[i] = f(x[i], ...), with or without broadcasting. Bound: every element of the inputs is read
// once (a broadcast one from the caches after the first time) and every element of y is written once. A thread moves 16
// bytes of the widest operand at a time, neighbours take neighbours, and there is nothing else to win: a kernel that
// adds two numbers for twelve bytes waits for memory. y may be an input.
#pragma once

#include "kernels/cuda/loop.cuh"

namespace trivet::kernels::cuda {

// ---- without broadcasting ----

template <class Out, class In>
inline constexpr int kMapPack = kPack<Out> < kPack<In> ? kPack<Out> : kPack<In>;

template <class Out, class In, class F>
__global__ void __launch_bounds__(kBlock, 2) map_kernel(const In* x, Out* y, std::int64_t n, std::int64_t packs, F f) {
  constexpr int kN = kMapPack<Out, In>;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const Pack<In, kN> in = load_pack<kN>(x + i * kN);
    Pack<Out, kN> out;
    TRIVET_UNROLL
    for (int k = 0; k < kN; ++k) out.v[k] = f(in.v[k]);
    store_pack(y + i * kN, out);
  }
  for (std::int64_t i = packs * kN + global_thread(); i < n; i += global_threads()) y[i] = f(x[i]);
}

template <class Out, class In, class F>
__global__ void __launch_bounds__(kBlock, 2)
    map_pair_kernel(const In* a, const In* b, Out* y, std::int64_t n, std::int64_t packs, F f) {
  constexpr int kN = kMapPack<Out, In>;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const Pack<In, kN> left = load_pack<kN>(a + i * kN);
    const Pack<In, kN> right = load_pack<kN>(b + i * kN);
    Pack<Out, kN> out;
    TRIVET_UNROLL
    for (int k = 0; k < kN; ++k) out.v[k] = f(left.v[k], right.v[k]);
    store_pack(y + i * kN, out);
  }
  for (std::int64_t i = packs * kN + global_thread(); i < n; i += global_threads()) y[i] = f(a[i], b[i]);
}

// y = f(x) for input 0.
template <class Out, class In, class F>
void map(const KernelArgs& args, const F& f) {
  const In* const x = args.in[0].as<const In>();
  Out* const y = args.out[0].as<Out>();
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  constexpr int kN = kMapPack<Out, In>;
  const std::int64_t packs = is_aligned(x) && is_aligned(y) ? n / kN : 0;
  TRIVET_LAUNCH((map_kernel<Out, In, F>), dim3(blocks_for(packs > 0 ? packs : n)), dim3(kBlock), 0, args.stream, x, y,
                n, packs, f);
}

// y = f(a, b) for inputs 0 and 1 of the output's shape.
template <class Out, class In, class F>
void map_pair(const KernelArgs& args, const F& f) {
  const In* const a = args.in[0].as<const In>();
  const In* const b = args.in[1].as<const In>();
  Out* const y = args.out[0].as<Out>();
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  constexpr int kN = kMapPack<Out, In>;
  const std::int64_t packs = is_aligned(a) && is_aligned(b) && is_aligned(y) ? n / kN : 0;
  TRIVET_LAUNCH((map_pair_kernel<Out, In, F>), dim3(blocks_for(packs > 0 ? packs : n)), dim3(kBlock), 0, args.stream, a,
                b, y, n, packs, f);
}

// ---- with broadcasting ----

// N elements from element `first` of a row of `n` on; those behind its end are not read. Step 0: one for all.
template <int N, class T>
TRIVET_DEVICE Pack<T, N> load_part(const T* row, std::int64_t first, std::int64_t n, std::int64_t step) {
  Pack<T, N> pack;
  if (step == 0) {
    const T value = *row;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) pack.v[k] = value;
  } else if (first + N <= n) {
    pack = load_pack<N>(row + first);
  } else {
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) pack.v[k] = first + k < n ? row[first + k] : row[first];
  }
  return pack;
}

template <int N, class T>
TRIVET_DEVICE void store_part(T* row, std::int64_t first, std::int64_t n, const Pack<T, N>& pack) {
  if (first + N <= n) {
    store_pack(row + first, pack);
  } else {
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      if (first + k < n) row[first + k] = pack.v[k];
    }
  }
}

// How the innermost dimension is cut into parts of N elements.
struct Parts {
  std::int64_t row = 1;
  std::int64_t per_row = 1;
  std::int64_t items = 0;

  template <int N>
  Parts(const Loop<N>& loop, int pack) : row(loop.row()) {
    per_row = (row + pack - 1) / pack;
    items = row == 0 ? 0 : loop.elements / row * per_row;
  }
};

// True if parts of `pack` elements can be read and written at once in all tensors.
template <int N>
bool packs_fit(const Loop<N>& loop, int pack, const void* const (&data)[N], const std::size_t (&sizes)[N]) {
  for (int k = 0; k < N; ++k) {
    if (loop.inner_stride(k) == 0) continue;
    if (!is_aligned(data[k], sizes[k] * static_cast<std::size_t>(pack))) return false;
    for (int d = 0; d + 1 < loop.rank; ++d) {
      if (loop.stride[k][d] % pack != 0) return false;
    }
  }
  return true;
}

template <int N, class Out, class In, class F>
__global__ void __launch_bounds__(kBlock, 2)
    map_broadcast_kernel(const In* a, const In* b, Out* y, const __grid_constant__ Loop<3> loop, Parts parts,
                         std::int64_t step_a, std::int64_t step_b, F f) {
  for (std::int64_t i = global_thread(); i < parts.items; i += global_threads()) {
    const Quotient at = divide(i, parts.per_row);
    std::int64_t offset[3];
    locate(loop, loop.rank - 1, at.quotient, offset);
    const std::int64_t first = at.rest * N;
    const Pack<In, N> left = load_part<N>(a + offset[1], first, parts.row, step_a);
    const Pack<In, N> right = load_part<N>(b + offset[2], first, parts.row, step_b);
    Pack<Out, N> out;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) out.v[k] = f(left.v[k], right.v[k]);
    store_part<N>(y + offset[0], first, parts.row, out);
  }
}

template <int N, class Out, class In, class F>
void launch_broadcast(const KernelArgs& args, const Loop<3>& loop, const F& f) {
  const Parts parts(loop, N);
  if (parts.items == 0) return;
  TRIVET_LAUNCH((map_broadcast_kernel<N, Out, In, F>), dim3(blocks_for(parts.items)), dim3(kBlock), 0, args.stream,
                args.in[0].as<const In>(), args.in[1].as<const In>(), args.out[0].as<Out>(), loop, parts,
                loop.inner_stride(1), loop.inner_stride(2), f);
}

// y = f(a, b) with broadcasting.
template <class Out, class In, class F>
void map_broadcast(const KernelArgs& args, const F& f) {
  const TensorDesc* const inputs[2] = {&args.in[0], &args.in[1]};
  const Loop<3> loop = broadcast_loop<3>(args.out[0], inputs);
  if (loop.elements == 0) return;
  constexpr int kN = kMapPack<Out, In>;
  if (packs_fit<3>(loop, kN, {args.out[0].data, args.in[0].data, args.in[1].data},
                   {sizeof(Out), sizeof(In), sizeof(In)})) {
    launch_broadcast<kN, Out, In>(args, loop, f);
  } else {
    launch_broadcast<1, Out, In>(args, loop, f);
  }
}

// ---- functions of f32 on any float type ----

template <class F>
struct InFloat {
  F f;
  template <class T>
  TRIVET_DEVICE T operator()(T x) const {
    return narrow<T>(f(widen(x)));
  }
  template <class T>
  TRIVET_DEVICE T operator()(T a, T b) const {
    return narrow<T>(f(widen(a), widen(b)));
  }
};

template <class F>
void map_float(const KernelArgs& args, const F& f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map<T, T>(args, InFloat<F>{f});
  });
}

template <class F>
void map_float_pair(const KernelArgs& args, const F& f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_pair<T, T>(args, InFloat<F>{f});
  });
}

template <class F>
void map_float_broadcast(const KernelArgs& args, const F& f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_broadcast<T, T>(args, InFloat<F>{f});
  });
}

}  // namespace trivet::kernels::cuda
