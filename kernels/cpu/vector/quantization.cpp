// Numbers to integers of 8 bits and back.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rounding.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/attrs_quantization.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

// A tensor as (outer, channels, inner), where each channel has a scale of its own. One scale for all: one channel.
struct Channels {
  std::int64_t outer = 1, count = 1, inner = 1;

  Channels(const View& x, const View& scale, std::int64_t axis) {
    if (scale.rank == 0) {
      inner = x.elements();
      return;
    }
    const auto at = static_cast<int>(axis < 0 ? axis + x.rank : axis);
    for (int i = 0; i < x.rank; ++i) (i < at ? outer : i == at ? count : inner) *= x.shape[i];
  }
};

constexpr std::int64_t kPiece = 16 * 1024;  // elements

// Calls f(offset, n, channel) for rows of n elements with one scale, or with `channel` -1 for rows of n channels.
template <class F>
void for_each_row(const Channels& c, int threads, const F& f) {
  const bool last = c.inner == 1 && c.count > 1;
  const std::int64_t row = last ? c.count : c.inner;
  const std::int64_t rows = c.outer * (last ? 1 : c.count);
  const std::int64_t parts = (row + kPiece - 1) / kPiece;
  const std::int64_t grain = row < kPiece ? kPiece / (row > 0 ? row : 1) : 1;
  parallel_pieces(rows * parts, grain, rows * row, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t first = unit % parts * kPiece;
      const std::int64_t n = row - first < kPiece ? row - first : kPiece;
      f(unit / parts * row + first, n, last ? -1 - first : unit / parts % c.count);
    }
  });
}

std::int32_t integer(const View& x, std::int64_t i) {
  if (x.data == nullptr) return 0;
  if (x.dtype == DType::i32) return static_cast<const std::int32_t*>(x.data)[i];
  if (x.dtype == DType::u8) return static_cast<const std::uint8_t*>(x.data)[i];
  return static_cast<const std::int8_t*>(x.data)[i];
}

// A row of channels with a scale and a zero point each.
template <class T>
void quantize_channels(const T* __restrict x, const float* __restrict scale, const View& zero_point, std::int64_t first,
                       bool is_unsigned, std::uint8_t* __restrict y, std::int64_t n) {
  constexpr std::int64_t kBlock = 512;
  std::int32_t zeros[kBlock];
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t size = n - begin < kBlock ? n - begin : kBlock;
    for (std::int64_t i = 0; i < size; ++i) zeros[i] = integer(zero_point, first + begin + i);
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) {
      y[begin + i] = Quantizer(is_unsigned, zeros[i])(to_f32(x[begin + i]) / scale[begin + i]);
    }
  }
}

template <class T>
void quantize_as(const KernelArgs& args, const View& zero_point) {
  const View& out = args.out[0];
  const T* in = static_cast<const T*>(args.in[0].data);
  const float* scale = static_cast<const float*>(args.in[1].data);
  auto* result = static_cast<std::uint8_t*>(out.data);
  const bool is_unsigned = out.dtype == DType::u8;
  const Channels channels(args.in[0], args.in[1], args.attributes<QuantizeAttrs>().axis);
  for_each_row(channels, args.threads, [&](std::int64_t offset, std::int64_t n, std::int64_t channel) {
    const T* __restrict x = in + offset;
    std::uint8_t* __restrict y = result + offset;
    if (channel < 0) {
      const std::int64_t first = -1 - channel;
      quantize_channels(x, scale + first, zero_point, first, is_unsigned, y, n);
      return;
    }
    const Quantizer quantizer(is_unsigned, integer(zero_point, channel));
    const float divisor = scale[channel];
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = quantizer(to_f32(x[i]) / divisor);
  });
}

void quantize(const KernelArgs& args) {
  const View zero_point = args.in.size() > 2 ? args.in[2] : View{};
  with_compute_type(args.in[0].dtype, [&](auto element) { quantize_as<decltype(element)>(args, zero_point); });
}

// The difference of two i32 needs 33 bits.
[[gnu::always_inline]] inline float difference(std::int32_t x, std::int32_t zero) {
  return static_cast<float>(static_cast<double>(x) - static_cast<double>(zero));
}
[[gnu::always_inline]] inline float difference(std::uint8_t x, std::int32_t zero) {
  return static_cast<float>(x - zero);
}
[[gnu::always_inline]] inline float difference(std::int8_t x, std::int32_t zero) {
  return static_cast<float>(x - zero);
}

template <class T>
void dequantize_as(const KernelArgs& args, const View& zero_point) {
  const T* in = static_cast<const T*>(args.in[0].data);
  const float* scale = static_cast<const float*>(args.in[1].data);
  float* out = static_cast<float*>(args.out[0].data);
  const Channels channels(args.in[0], args.in[1], args.attributes<DequantizeAttrs>().axis);
  for_each_row(channels, args.threads, [&](std::int64_t offset, std::int64_t n, std::int64_t channel) {
    const T* __restrict x = in + offset;
    float* __restrict y = out + offset;
    if (channel < 0) {
      const std::int64_t first = -1 - channel;
      for (std::int64_t i = 0; i < n; ++i) {
        y[i] = difference(x[i], integer(zero_point, first + i)) * scale[first + i];
      }
      return;
    }
    const std::int32_t zero = integer(zero_point, channel);
    const float factor = scale[channel];
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = difference(x[i], zero) * factor;
  });
}

void dequantize(const KernelArgs& args) {
  const View zero_point = args.in.size() > 2 ? args.in[2] : View{};
  if (args.in[0].dtype == DType::i32) return dequantize_as<std::int32_t>(args, zero_point);
  if (args.in[0].dtype == DType::u8) return dequantize_as<std::uint8_t>(args, zero_point);
  dequantize_as<std::int8_t>(args, zero_point);
}

bool can_quantize(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && (spec.out[0].dtype == DType::u8 || spec.out[0].dtype == DType::i8);
}

bool can_dequantize(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return (type == DType::u8 || type == DType::i8 || type == DType::i32) && spec.out[0].dtype == DType::f32;
}

constexpr KernelEntry kKernels[] = {
    {"quantize_linear", can_quantize, quantize},
    {"dequantize_linear", can_dequantize, dequantize},
};

}  // namespace

std::span<const KernelEntry> quantization_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
