// Linear layers and convolutions of 8-bit integers.
#include "kernels/cuda/families.h"
#include "kernels/cuda/int8.cuh"
#include "trivet/kernels/attrs_quantization.h"

namespace trivet::kernels::cuda {
namespace {

enum Input : std::size_t { kX, kXScale, kXZeroPoint, kW, kWScale, kBias, kYScale, kYZeroPoint };

Int8Result result_of(const KernelArgs& args, Activation activation) {
  const float* const y_scale = optional_input<float>(args, kYScale);
  return {args.in[kXScale].as<const float>(), args.in[kWScale].as<const float>(),
          optional_input<float>(args, kBias), y_scale,
          ZeroPoint(args.in[kXZeroPoint]),    y_scale != nullptr ? ZeroPoint(args.in[kYZeroPoint]) : ZeroPoint(),
          args.in[kX].dtype == DType::u8,     args.out[0].dtype == DType::u8,
          args.in[kWScale].rank > 0,          activation == Activation::relu};
}

template <bool kPacked, class Rows>
void launch(const KernelArgs& args, const Rows& x, const Int8Product& p, Activation activation) {
  const auto* const w = args.in[kW].as<const std::uint8_t>();
  auto* const sums = static_cast<std::int32_t*>(args.workspace);
  const Int8Result result = result_of(args, activation);
  const std::int64_t all = p.channels * p.groups;
  TRIVET_LAUNCH((sum_weights_kernel<kPacked>), dim3(row_blocks<kWarp>(all)), dim3(kBlock), 0, args.stream, w, sums, all,
                p.depth);
  const dim3 grid(static_cast<unsigned>((p.rows + kTileRows - 1) / kTileRows),
                  static_cast<unsigned>((p.channels + kTileChannels - 1) / kTileChannels),
                  static_cast<unsigned>(p.groups));
  const auto run = [&](auto out) {
    using Out = decltype(out);
    TRIVET_LAUNCH((int8_product_kernel<Rows, kPacked, Out>), grid, dim3(kBlock), 0, args.stream, x, w,
                  static_cast<const std::int32_t*>(sums), args.out[0].as<Out>(), p, result);
  };
  args.out[0].dtype == DType::f32 ? run(float{}) : run(std::uint8_t{});
}

// Rows of x and w are read 16 bytes at a time where all of them begin at multiples of 16 bytes.
template <class Rows>
void launch_product(const KernelArgs& args, const Rows& x, const Int8Product& p, Activation activation, bool packed) {
  if (p.rows * p.channels == 0) return;
  packed = packed && p.depth % kLoadBytes == 0 && is_aligned(args.in[kX].data) && is_aligned(args.in[kW].data);
  packed ? launch<true>(args, x, p, activation) : launch<false>(args, x, p, activation);
}

void run_linear(const KernelArgs& args) {
  const std::int64_t channels = args.in[kW].shape[0];
  const std::int64_t depth = args.in[kW].shape[1];
  const MatrixRows x{args.in[kX].as<const std::uint8_t>(), depth};
  launch_product(args, x, {args.in[kX].elements() / depth, channels, depth, 1},
                 args.attributes<LinearAttrs>().activation, true);
}

void run_conv2d(const KernelArgs& args) {
  const auto& attrs = args.attributes<ConvAttrs>();
  const View& x = args.in[kX];
  const View& w = args.in[kW];
  const View& y = args.out[0];
  const auto narrow_size = [](std::int64_t size) { return static_cast<std::int32_t>(size); };
  const std::int64_t depth = w.shape[1] * w.shape[2] * w.shape[3];
  const ConvolvedRows rows{x.as<const std::uint8_t>(),       depth,
                           narrow_size(x.shape[1]),          narrow_size(x.shape[2]),
                           narrow_size(x.shape[3]),          narrow_size(y.shape[1]),
                           narrow_size(y.shape[2]),          narrow_size(w.shape[2]),
                           narrow_size(w.shape[3]),          narrow_size(attrs.stride(0)),
                           narrow_size(attrs.stride(1)),     narrow_size(attrs.pad_before(0)),
                           narrow_size(attrs.pad_before(1)), narrow_size(attrs.dilation(0)),
                           narrow_size(attrs.dilation(1))};
  const Int8Product product{y.shape[0] * y.shape[1] * y.shape[2], w.shape[0] / attrs.groups, depth, attrs.groups};
  const bool packed = x.shape[3] % kLoadBytes == 0 && w.shape[3] % kLoadBytes == 0;
  launch_product(args, rows, product, attrs.activation, packed);
}

bool is_supported(const KernelSpec& spec) {
  const DType x = spec.in[kX].dtype;
  const DType y = spec.out[0].dtype;
  return (x == DType::u8 || x == DType::i8) && spec.in[kW].dtype == DType::i8 &&
         (y == DType::f32 || y == DType::u8 || y == DType::i8);
}

// Sizes fit 32 bits, and a grid has room for the groups.
bool can_convolve(const KernelSpec& spec) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  constexpr std::int64_t kMostGroups = 65535;
  const auto& attrs = spec.attributes<ConvAttrs>();
  bool fits = attrs.groups <= kMostGroups;
  for (int d = 1; d < 4; ++d) {
    fits = fits && spec.in[kX].shape[d] < kMost && spec.in[kW].shape[d] < kMost && spec.out[0].shape[d] < kMost;
  }
  for (int axis = 0; axis < 2; ++axis) {
    fits = fits && attrs.stride(axis) < kMost && attrs.pad_before(axis) < kMost && attrs.dilation(axis) < kMost;
  }
  return fits && is_supported(spec);
}

std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(spec.in[kW].shape[0]) * sizeof(std::int32_t);
}

constexpr KernelEntry kTable[] = {
    {"linear_int8", is_supported, run_linear, nullptr, workspace},
    {"conv2d_int8", can_convolve, run_conv2d, nullptr, workspace},
};

}  // namespace

std::span<const KernelEntry> int8_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
