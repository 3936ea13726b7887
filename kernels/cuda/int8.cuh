// Products of 8-bit integers with exact sums of 32 bits: y = (x - zero point) w^T, scaled. Bound: 2 M N K operations,
// four products an instruction (dp4a); the tensor cores, which are faster by an order of magnitude, are not used. x is
// read once for each 64 channels and w once for each 64 rows, from the caches.
#pragma once

#include "kernels/cuda/loop.cuh"
#include "kernels/cuda/quantization.cuh"
#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

inline constexpr int kTileRows = 64;
inline constexpr int kTileChannels = 64;
inline constexpr int kTileWords = 16;               // of four products each
inline constexpr int kTileStride = kTileWords + 1;  // keeps rows in different banks
inline constexpr int kWordBytes = 4;
inline constexpr int kLoadBytes = 16;

using Words = Pack<std::int32_t, 4>;

// `count` bytes at `from`, as words; those behind are 0.
template <bool kPacked>
TRIVET_DEVICE Words load_bytes(const std::uint8_t* from, std::int64_t count) {
  Words words{};
  if constexpr (kPacked) {
    if (count > 0) words = *reinterpret_cast<const Words*>(from);
  } else {
    TRIVET_UNROLL
    for (int b = 0; b < kLoadBytes; ++b) {
      const std::uint32_t byte = b < count ? from[b] : 0u;
      words.v[b / kWordBytes] |= static_cast<std::int32_t>(byte << (8 * (b % kWordBytes)));
    }
  }
  return words;
}

// The rows of a matrix (rows, depth).
struct MatrixRows {
  const std::uint8_t* x;
  std::int64_t depth;

  struct Row {
    const std::uint8_t* from;
  };
  TRIVET_DEVICE Row row(std::int64_t r, std::int64_t) const { return {x + r * depth}; }
  template <bool kPacked>
  TRIVET_DEVICE Words load(const Row& row, std::int64_t k, std::uint32_t) const {
    return load_bytes<kPacked>(row.from + k, depth - k);
  }
};

// The rows that a convolution multiplies: for each pixel of the result the taps (kernel rows, kernel columns, channels
// of the group) of x (N, H, W, C). What is outside of the image is the zero point.
struct ConvolvedRows {
  const std::uint8_t* x;
  std::int64_t depth;
  std::int32_t height, width, channels;  // of x
  std::int32_t out_height, out_width;
  std::int32_t kernel_width, group_channels;
  std::int32_t stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;

  struct Row {
    const std::uint8_t* image;
    std::int32_t y, x;
  };
  TRIVET_DEVICE Row row(std::int64_t r, std::int64_t group) const {
    const Quotient line = divide(r, out_width);
    const Quotient image = divide(line.quotient, out_height);
    return {x + image.quotient * height * width * channels + group * group_channels,
            static_cast<std::int32_t>(image.rest) * stride_y - pad_y,
            static_cast<std::int32_t>(line.rest) * stride_x - pad_x};
  }
  TRIVET_DEVICE std::int64_t pixel(std::int32_t iy, std::int32_t ix) const {
    const bool inside = iy >= 0 && iy < height && ix >= 0 && ix < width;
    return inside ? (std::int64_t{iy} * width + ix) * channels : -1;
  }
  template <bool kPacked>
  TRIVET_DEVICE Words load(const Row& row, std::int64_t k, std::uint32_t zero) const {
    const Quotient tap = divide(k, group_channels);
    const Quotient place = divide(tap.quotient, kernel_width);
    auto channel = static_cast<std::int32_t>(tap.rest);
    auto kx = static_cast<std::int32_t>(place.rest);
    auto ky = static_cast<std::int32_t>(place.quotient);
    Words words{};
    if constexpr (kPacked) {
      const std::int64_t at = k < depth ? pixel(row.y + ky * dilation_y, row.x + kx * dilation_x) : -1;
      const auto outside = static_cast<std::int32_t>(zero * 0x01010101u);
      TRIVET_UNROLL
      for (int w = 0; w < kWordBytes; ++w) words.v[w] = outside;
      if (at >= 0) words = *reinterpret_cast<const Words*>(row.image + at + channel);
    } else {
      TRIVET_UNROLL
      for (int b = 0; b < kLoadBytes; ++b) {
        const std::int64_t at = k + b < depth ? pixel(row.y + ky * dilation_y, row.x + kx * dilation_x) : -1;
        const std::uint32_t byte = at >= 0 ? row.image[at + channel] : zero;
        words.v[b / kWordBytes] |= static_cast<std::int32_t>(byte << (8 * (b % kWordBytes)));
        if (++channel < group_channels) continue;
        channel = 0;
        if (++kx < kernel_width) continue;
        kx = 0;
        ++ky;
      }
    }
    return words;
  }
};

// What becomes of the sums; scales and zero points are read on the device.
struct Int8Result {
  const float* x_scale;
  const float* w_scale;
  const float* bias;     // or null
  const float* y_scale;  // or null: y is f32
  ZeroPoint x_zero;
  ZeroPoint y_zero;
  bool x_unsigned;
  bool y_unsigned;
  bool scale_for_each_channel;
  bool relu;

  // u8 is moved into the range of i8.
  TRIVET_DEVICE std::int32_t moved_zero() const { return x_zero[0] - (x_unsigned ? 128 : 0); }
  // In units of y's scale.
  TRIVET_DEVICE float operator()(std::int32_t sum, std::int64_t channel) const {
    const float unit = y_scale != nullptr ? *y_scale : 1.0f;
    const float scale = *x_scale * w_scale[scale_for_each_channel ? channel : 0] / unit;
    float v = static_cast<float>(sum) * scale;
    if (bias != nullptr) v += bias[channel] / unit;
    return relu && v < 0.0f ? 0.0f : v;
  }
};

struct Int8Product {
  std::int64_t rows;
  std::int64_t channels;  // of one group
  std::int64_t depth;
  std::int64_t groups;
};

// The sum of each row of w, a warp for each.
template <bool kPacked>
__global__ void __launch_bounds__(kBlock, 2)
    sum_weights_kernel(const std::uint8_t* w, std::int32_t* sums, std::int64_t rows, std::int64_t depth) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t r = first_row<kWarp>(); r < rows; r += row_step<kWarp>()) {
    std::int32_t sum = 0;
    for (std::int64_t k = std::int64_t{lane} * kLoadBytes; k < depth; k += kWarp * kLoadBytes) {
      const Words words = load_bytes<kPacked>(w + r * depth + k, depth - k);
      TRIVET_UNROLL
      for (int i = 0; i < 4; ++i) sum = __dp4a(words.v[i], 0x01010101, sum);
    }
    sum = join_warp(sum, Plus{});
    if (lane == 0) sums[r] = sum;
  }
}

TRIVET_DEVICE void keep_words(std::int32_t* tile, int row, int first, const Words& words, std::uint32_t flip) {
  TRIVET_UNROLL
  for (int i = 0; i < 4; ++i) {
    tile[row * kTileStride + first + i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(words.v[i]) ^ flip);
  }
}

// A block computes 64 rows of 64 channels of a group, a thread 4 x 4 of them, 64 products at a time; each thread
// fetches 16 bytes of both tiles. sum (x - zero) w = sum x w - zero sum w, with x moved into the range of i8 where it
// is u8.
template <class Rows, bool kPacked, class Out>
__global__ void __launch_bounds__(kBlock, 2)
    int8_product_kernel(const __grid_constant__ Rows x, const std::uint8_t* w, const std::int32_t* weight_sums, Out* y,
                        Int8Product p, const __grid_constant__ Int8Result result) {
  TRIVET_SHARED(std::int32_t, x_tile, kTileRows * kTileStride);
  TRIVET_SHARED(std::int32_t, w_tile, kTileChannels * kTileStride);
  const int across = static_cast<int>(threadIdx.x) % 16;
  const int down = static_cast<int>(threadIdx.x) / 16;
  const int fetched = static_cast<int>(threadIdx.x) / 4;
  const int word = static_cast<int>(threadIdx.x) % 4 * 4;
  const std::int64_t group = blockIdx.z;
  const std::int64_t row = std::int64_t{blockIdx.x} * kTileRows;
  const std::int64_t channel = std::int64_t{blockIdx.y} * kTileChannels;
  const bool has_row = row + fetched < p.rows;
  const bool has_channel = channel + fetched < p.channels;
  const auto from = x.row(has_row ? row + fetched : 0, group);
  const std::uint8_t* const weights = w + (group * p.channels + (has_channel ? channel + fetched : 0)) * p.depth;
  const std::uint32_t flip = result.x_unsigned ? 0x80808080u : 0u;
  const std::uint32_t zero = static_cast<std::uint32_t>(result.x_zero[0]) & 0xFFu;
  std::int32_t sums[4][4] = {};
  for (std::int64_t k = 0; k < p.depth; k += kTileWords * kWordBytes) {
    const std::int64_t mine = k + word * kWordBytes;
    const Words of_x = mine < p.depth ? x.template load<kPacked>(from, mine, zero) : Words{};
    const Words of_w = load_bytes<kPacked>(weights + mine, has_channel ? p.depth - mine : 0);
    __syncthreads();  // the tiles before have been read
    keep_words(x_tile, fetched, word, of_x, flip);
    keep_words(w_tile, fetched, word, of_w, 0u);
    __syncthreads();
    TRIVET_UNROLL
    for (int i = 0; i < kTileWords; ++i) {
      std::int32_t a[4], b[4];
      TRIVET_UNROLL
      for (int j = 0; j < 4; ++j) {
        a[j] = x_tile[(down + 16 * j) * kTileStride + i];
        b[j] = w_tile[(across + 16 * j) * kTileStride + i];
      }
      TRIVET_UNROLL
      for (int r = 0; r < 4; ++r) {
        TRIVET_UNROLL
        for (int c = 0; c < 4; ++c) sums[r][c] = __dp4a(a[r], b[c], sums[r][c]);
      }
    }
  }
  const std::int32_t moved = result.moved_zero();
  TRIVET_UNROLL
  for (int c = 0; c < 4; ++c) {
    const std::int64_t in_group = channel + across + 16 * c;
    if (in_group >= p.channels) continue;
    const std::int64_t to = group * p.channels + in_group;
    const std::int32_t lost = moved * weight_sums[to];
    TRIVET_UNROLL
    for (int r = 0; r < 4; ++r) {
      const std::int64_t at = row + down + 16 * r;
      if (at >= p.rows) continue;
      const float v = result(sums[r][c] - lost, to);
      Out* const place = y + at * p.channels * p.groups + to;
      if constexpr (sizeof(Out) == sizeof(float)) {
        *place = v;
      } else {
        *place = quantized(v, result.y_zero[0], result.y_unsigned);
      }
    }
  }
}

}  // namespace trivet::kernels::cuda
