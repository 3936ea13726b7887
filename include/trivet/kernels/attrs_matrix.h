// Attributes of the matrix products.
#pragma once

#include <cstdint>

namespace trivet::kernels {

// What is applied to the result of a product or convolution before it is stored.
enum class Activation : std::int32_t { none, relu };

// The dtype of the gradients of weights and bias: that of the activations, or f32 where the weights are f32 and the
// activations bf16.
enum class GradientType : std::int32_t { same, f32 };

// matmul: c = op(a) op(b), where op transposes the last two axes if asked to.
struct MatmulAttrs {
  bool transpose_a = false;
  bool transpose_b = false;
};

// linear: y = activation(x w^T + bias).
struct LinearAttrs {
  Activation activation = Activation::none;
};

struct LinearBackwardWeightsAttrs {
  GradientType dtype = GradientType::same;
  bool bias = false;  // the gradient of the bias is a second output
};

}  // namespace trivet::kernels
