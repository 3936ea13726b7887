// One product of a convolution with the engine of cuDNN that is fastest on the device for its sizes.
#pragma once

#include <memory>

#include "kernels/cuda/plugin/convolution_plan.h"

namespace trivet::kernels::cuda {

class TunedConvolution {
 public:
  // Times up to 16 engines on the current device, unless that was done before on this kind of device with this version
  // of the library. Null if the library has no engine that may be used.
  static std::unique_ptr<TunedConvolution> make(const ConvShape& shape);
  // Throws std::runtime_error that names the shape if there is none.
  static std::unique_ptr<TunedConvolution> require(const ConvShape& shape);

  std::size_t workspace() const;
  void run(const ConvBuffers& buffers, void* workspace, void* stream) const;

 private:
  struct Device;
  explicit TunedConvolution(const ConvShape& shape);
  bool take(ConvEngine engine);
  bool choose(const ConvShape& shape);

  Device* device_;
  std::size_t most_workspace_;
  ConvGraph graph_;
  std::optional<ConvEngine> engine_;
  mutable std::optional<ConvPlan> plan_;
};

}  // namespace trivet::kernels::cuda
