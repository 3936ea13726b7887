// Convolutions as oneDNN sees them, shared by the kernels of float and 8-bit convolutions.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cpu/onednn.h"
#include "trivet/kernels/attrs_convolution.h"

namespace trivet::kernels::cpu {

// One convolution, as all three of its products see it. oneDNN names sizes in the order (N, C, spatial axes) and
// ([groups,] O, C, spatial axes) whatever the layout.
struct ConvProblem {
  dnnl::memory::desc x, w, y;  // as they lie in the plan's buffers
  dnnl::memory::desc w_any;    // for the primitive to choose; of x's type, or i8 beside integers
  dnnl::memory::dims strides, dilations, pads_before, pads_after;
  dnnl::memory::dim depth = 0;     // input channels of one group
  dnnl::memory::dim channels = 0;  // output channels of one group
  dnnl::memory::dim taps = 0;
};

ConvProblem conv_problem(const TensorDesc& x, const TensorDesc& w, const TensorDesc& y, const ConvWindow& window);

dnnl::convolution_forward::primitive_desc conv_forward_desc(const ConvProblem& problem, const dnnl::memory::desc& bias,
                                                            const dnnl::primitive_attr& attr = onednn::attributes());

// (x, w) -> y without activation, from the attributes of conv2d.
std::unique_ptr<onednn::Runnable> make_conv_product(const KernelSpec& spec);

// conv2d of a tile with fixed weights by Winograd's algorithm; null where that does not pay or cannot be done.
std::unique_ptr<onednn::Runnable> make_winograd(const KernelSpec& spec, Activation activation);

// (x, dy) -> dw, and db if there is a second output; convolution_weights.cpp.
std::unique_ptr<onednn::Runnable> make_conv_backward_weights(const KernelSpec& spec);

}  // namespace trivet::kernels::cpu
