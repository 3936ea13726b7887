// Host tensors of floats in another width.
#pragma once

#include <span>

#include "trivet/base/types.h"

namespace trivet {

// The values in `to`, rounded to the nearest, ties to even; what lies beyond the largest number becomes infinite.
// Both dtypes are f32, bf16 or f16, else Error(graph). The bytes may lie at any address.
Tensor float_cast(const TensorType& type, std::span<const std::byte> bytes, DType to);

}  // namespace trivet
