// Numbers to integers of 8 bits: rounded to the nearest, ties to even, moved by the zero point and clamped. The bits of
// the result are the same for u8 and i8 but for the range.
#pragma once

#include "kernels/cuda/numbers.cuh"

namespace trivet::kernels::cuda {

// Integers of u8, i8 or i32, or zeros if there are none. They are read on the device.
struct ZeroPoint {
  const void* data = nullptr;
  DType type = DType::i8;

  ZeroPoint() = default;
  explicit ZeroPoint(const View& v) : data(v.data), type(v.dtype) {}

  TRIVET_DEVICE std::int32_t operator[](std::int64_t i) const {
    if (data == nullptr) return 0;
    if (type == DType::i32) return static_cast<const std::int32_t*>(data)[i];
    if (type == DType::u8) return static_cast<const std::uint8_t*>(data)[i];
    return static_cast<const std::int8_t*>(data)[i];
  }
};

// NaN gives the lowest.
TRIVET_DEVICE std::uint8_t quantized(float x, std::int32_t zero_point, bool is_unsigned) {
  const float low = static_cast<float>((is_unsigned ? 0 : -128) - zero_point);
  const float high = static_cast<float>((is_unsigned ? 255 : 127) - zero_point);
  const float above = x > low ? x : low;
  const float clamped = above < high ? above : high;
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(rintf(clamped)) + zero_point);
}

}  // namespace trivet::kernels::cuda
