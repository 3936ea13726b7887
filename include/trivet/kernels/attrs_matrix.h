// Attributes of the matrix products.
#pragma once

#include <cstdint>

namespace trivet::kernels {

// What is applied to the result of a product or convolution before it is stored.
enum class Activation : std::int32_t { none, relu };

// matmul: c = op(a) op(b), where op transposes the last two axes if asked to.
struct MatmulAttrs {
  bool transpose_a = false;
  bool transpose_b = false;
};

// linear: y = activation(x w^T + bias).
struct LinearAttrs {
  Activation activation = Activation::none;
};

}  // namespace trivet::kernels
