// Attributes of quantisation and of the products on 8-bit integers.
#pragma once

#include <cstdint>

#include "trivet/kernels/attrs_convolution.h"

namespace trivet::kernels {

enum class QuantizedType : std::int32_t { u8, i8 };

struct QuantizeAttrs {
  std::int64_t axis = -1;  // of the channels, where scale has one number for each
  QuantizedType dtype = QuantizedType::u8;
};

struct DequantizeAttrs {
  std::int64_t axis = -1;
};

}  // namespace trivet::kernels
