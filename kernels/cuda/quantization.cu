// Numbers to integers of 8 bits and back. Bound: x read once and y written once; scales and zero points come from the
// caches.
#include "kernels/cuda/families.h"
#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/quantization.cuh"
#include "kernels/cuda/rows.cuh"
#include "trivet/kernels/attrs_quantization.h"

namespace trivet::kernels::cuda {
namespace {

// A tensor as (outer, count, inner), where each of `count` channels has a scale and a zero point of its own. One scale
// for all: one channel.
struct Channels {
  std::int64_t count = 1;
  std::int64_t inner = 1;
  const float* scale = nullptr;
  ZeroPoint zero;

  Channels(const KernelArgs& args, std::int64_t axis) : scale(args.in[1].as<const float>()) {
    const View& x = args.in[0];
    if (args.in.size() > 2) zero = ZeroPoint(args.in[2]);
    if (args.in[1].rank == 0) {
      inner = x.elements();
      return;
    }
    const Extents e = extents_of(x, axis);
    count = e.size;
    inner = e.inner;
  }
  // Whether n neighbouring elements, from a multiple of n on, have one channel or n neighbouring ones.
  bool fits(int n) const { return count == 1 || inner % n == 0 || (inner == 1 && count % n == 0); }
};

// y = f(x, scale, zero point), in packs of N elements and then one by one.
template <int N, class Out, class In, class F>
__global__ void __launch_bounds__(kBlock, 2)
    map_channels_kernel(const In* x, Out* y, std::int64_t n, std::int64_t packs, const __grid_constant__ Channels c,
                        F f) {
  const int step = c.inner == 1 && c.count > 1 ? 1 : 0;
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    const std::int64_t channel = divide(divide(i * N, c.inner).quotient, c.count).rest;
    const Pack<In, N> in = load_pack<N>(x + i * N);
    Pack<Out, N> out;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) out.v[k] = f(in.v[k], c.scale[channel + k * step], c.zero[channel + k * step]);
    store_pack(y + i * N, out);
  }
  for (std::int64_t i = packs * N + global_thread(); i < n; i += global_threads()) {
    const std::int64_t channel = divide(divide(i, c.inner).quotient, c.count).rest;
    y[i] = f(x[i], c.scale[channel], c.zero[channel]);
  }
}

// The wider of the two is moved 16 bytes at a time.
template <class Out, class In, class F>
void map_channels(const KernelArgs& args, const Channels& channels, const F& f) {
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  constexpr int kN = kPack<In> < kPack<Out> ? kPack<In> : kPack<Out>;
  const In* const x = args.in[0].as<const In>();
  Out* const y = args.out[0].as<Out>();
  const std::int64_t packs = channels.fits(kN) && is_aligned(x) && is_aligned(y) ? n / kN : 0;
  TRIVET_LAUNCH((map_channels_kernel<kN, Out, In, F>), dim3(blocks_for(packs > 0 ? packs : n)), dim3(kBlock), 0,
                args.stream, x, y, n, packs, channels, f);
}

struct Quantize {
  bool is_unsigned;
  template <class T>
  TRIVET_DEVICE std::uint8_t operator()(T x, float scale, std::int32_t zero) const {
    return quantized(widen(x) / scale, zero, is_unsigned);
  }
};

// The difference of two i32 needs 33 bits.
struct Dequantize {
  template <class T>
  TRIVET_DEVICE float operator()(T x, float scale, std::int32_t zero) const {
    if constexpr (sizeof(T) == 4) {
      return static_cast<float>(static_cast<double>(x) - static_cast<double>(zero)) * scale;
    } else {
      return static_cast<float>(static_cast<std::int32_t>(x) - zero) * scale;
    }
  }
};

void run_quantize(const KernelArgs& args) {
  const Channels channels(args, args.attributes<QuantizeAttrs>().axis);
  const Quantize quantize{args.out[0].dtype == DType::u8};
  with_compute_type(args.in[0].dtype,
                    [&](auto element) { map_channels<std::uint8_t, decltype(element)>(args, channels, quantize); });
}

void run_dequantize(const KernelArgs& args) {
  const Channels channels(args, args.attributes<DequantizeAttrs>().axis);
  switch (args.in[0].dtype) {
    case DType::i32:
      return map_channels<float, std::int32_t>(args, channels, Dequantize{});
    case DType::u8:
      return map_channels<float, std::uint8_t>(args, channels, Dequantize{});
    default:
      return map_channels<float, std::int8_t>(args, channels, Dequantize{});
  }
}

bool can_quantize(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && (spec.out[0].dtype == DType::u8 || spec.out[0].dtype == DType::i8);
}
bool can_dequantize(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return (type == DType::u8 || type == DType::i8 || type == DType::i32) && spec.out[0].dtype == DType::f32;
}

constexpr KernelEntry kTable[] = {
    {"quantize_linear", can_quantize, run_quantize},
    {"dequantize_linear", can_dequantize, run_dequantize},
};

}  // namespace

std::span<const KernelEntry> quantization_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
