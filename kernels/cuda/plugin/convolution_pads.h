// Pads of a convolution that differ between the sides of an axis, which cuDNN does not have.
#pragma once

#include <driver_types.h>

#include <array>
#include <cstdint>
#include <vector>

#include "trivet/kernels/attrs_convolution.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels::cuda {

// They are those of a larger input: `padded`, in which x begins at `begin` (of each spatial axis) and zeros are around
// it.
struct EvenPads {
  TensorDesc padded;
  std::array<std::int64_t, 3> begin{};
  bool needed = false;
};
// Makes the window's pads alike.
EvenPads even_pads(const TensorDesc& x, ConvWindow& window);

// The copies of x (at `small`) into the middle of the larger input, or from there to x.
std::vector<cudaMemcpy3DParms> middle_copies(const EvenPads& pads, const TensorDesc& x, void* small, void* large,
                                             bool into);

}  // namespace trivet::kernels::cuda
