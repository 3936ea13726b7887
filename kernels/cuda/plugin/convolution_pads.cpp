#include "kernels/cuda/plugin/convolution_pads.h"

#include <algorithm>

namespace trivet::kernels::cuda {

EvenPads even_pads(const TensorDesc& x, ConvWindow& window) {
  EvenPads result;
  result.padded = x;
  const int axes = x.rank - 2;
  IntList pads;
  pads.n = 2 * axes;
  for (int i = 0; i < axes; ++i) {
    const std::int64_t before = window.pad_before(i), after = window.pad_after(i);
    pads.v[i] = pads.v[axes + i] = std::min(before, after);
    result.begin[static_cast<std::size_t>(i)] = before - pads.v[i];
    result.padded.shape[i + 1] += before + after - 2 * pads.v[i];
    result.needed = result.needed || before != after;
  }
  window.pads = pads;
  return result;
}

std::vector<cudaMemcpy3DParms> middle_copies(const EvenPads& pads, const TensorDesc& x, void* small, void* large,
                                             bool into) {
  // A copy has the bytes of a row, the rows of a slice, and slices: the images, or the planes of one volume. A sequence
  // is an image of one row.
  const bool volume = x.rank == 5;
  const int width = x.rank - 2, height = x.rank - 3;
  const auto size = [](const TensorDesc& t, int axis) {
    return static_cast<std::size_t>(axis > 0 ? t.shape[axis] : 1);
  };
  const auto begin = [&](int axis) {
    return axis > 0 ? static_cast<std::size_t>(pads.begin[static_cast<std::size_t>(axis - 1)]) : 0;
  };
  const std::size_t pixel = static_cast<std::size_t>(x.dim(-1)) * dtype_size(x.dtype);
  const auto rows = [&](const TensorDesc& t, void* data) {
    return cudaPitchedPtr{data, size(t, width) * pixel, size(t, width) * pixel, size(t, height)};
  };
  const auto images = static_cast<std::size_t>(x.shape[0]);
  cudaMemcpy3DParms copy{};
  copy.kind = cudaMemcpyDeviceToDevice;
  (into ? copy.dstPos : copy.srcPos) = {begin(width) * pixel, begin(height), volume ? begin(1) : 0};
  copy.extent = {size(x, width) * pixel, size(x, height), volume ? size(x, 1) : images};
  std::vector<cudaMemcpy3DParms> result;
  for (std::size_t i = 0; i < (volume ? images : 1); ++i) {
    const cudaPitchedPtr a = rows(x, static_cast<std::byte*>(small) + i * (x.bytes() / images));
    const cudaPitchedPtr b = rows(pads.padded, static_cast<std::byte*>(large) + i * (pads.padded.bytes() / images));
    copy.srcPtr = into ? a : b;
    copy.dstPtr = into ? b : a;
    result.push_back(copy);
  }
  return result;
}

}  // namespace trivet::kernels::cuda
