#include "kernels/cuda/plugin/tuned_convolution.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/plugin/cuda_check.h"
#include "kernels/cuda/plugin/pieces.h"
#include "kernels/cuda/plugin/timing.h"
#include "kernels/cuda/plugin/tuning_cache.h"

namespace trivet::kernels::cuda {
namespace {

// Of the largest type that x, w or y may have.
std::size_t most_bytes(const ConvShape& shape, const std::vector<std::int64_t>& sizes) {
  std::size_t result = std::max(dtype_size(shape.type), dtype_size(shape.result));
  for (const std::int64_t size : sizes) result *= static_cast<std::size_t>(size);
  return result;
}

}  // namespace

// A handle has one stream at a time, so that runs of several threads take turns.
struct TunedConvolution::Device {
  cudnnHandle_t handle = nullptr;
  std::mutex mutex;

  // Made when first needed, never destroyed: at the end of a program CUDA may be gone before.
  static Device& current() {
    static std::mutex mutex;
    static auto& devices = *new std::map<int, Device>;
    int number = 0;
    check(cudaGetDevice(&number), "cudaGetDevice");
    const std::lock_guard lock(mutex);
    Device& device = devices[number];
    if (!device.handle) check_cudnn(cudnn().create(&device.handle), "cudnnCreate");
    return device;
  }
};

TunedConvolution::TunedConvolution(const ConvShape& shape)
    : device_(&Device::current()), most_workspace_(most_workspace(shape)), graph_(shape, {device_->handle, nullptr}) {}

std::unique_ptr<TunedConvolution> TunedConvolution::make(const ConvShape& shape) {
  Device::current();  // its errors are not about the shape
  try {
    std::unique_ptr<TunedConvolution> result(new TunedConvolution(shape));
    return result->choose(shape) ? std::move(result) : nullptr;
  } catch (const CudnnError&) {
    return nullptr;
  }
}

std::unique_ptr<TunedConvolution> TunedConvolution::require(const ConvShape& shape) {
  std::unique_ptr<TunedConvolution> result = make(shape);
  if (!result) {
    throw std::runtime_error("cuDNN " + std::to_string(cudnn().get_version()) +
                             " has no engine with repeatable bits and sums in f32 for the " + shape.text() +
                             "; try another size, or run on device: cpu");
  }
  return result;
}

// False if the engine does not work for the sizes after all, or wants too much memory.
bool TunedConvolution::take(ConvEngine engine) try {
  ConvPlan plan = graph_.plan(engine);
  if (plan.workspace() > most_workspace_) return false;
  plan_.reset();
  engine_.emplace(std::move(engine));
  plan_.emplace(std::move(plan));
  return true;
} catch (const CudnnError&) {
  return false;
}

bool TunedConvolution::choose(const ConvShape& shape) {
  TuningCache& cache = TuningCache::of_this_device("cudnn-" + std::to_string(cudnn().get_version()));
  if (const auto known = cache.find(shape.key())) {
    if (std::optional<ConvEngine> engine = graph_.engine(*known); engine && take(std::move(*engine))) return true;
  }
  const Scratch x(most_bytes(shape, shape.x)), w(most_bytes(shape, shape.w)), y(most_bytes(shape, shape.y));
  const Scratch bias(static_cast<std::size_t>(shape.y.back()) * sizeof(float));
  const bool memory = x.data() && w.data() && y.data() && bias.data();
  Timer timer;
  float best = 1e30F;
  std::string first, fastest;
  for (ConvEngine& engine : graph_.engines(kCandidates)) {
    const std::string text = engine.text;
    if (!take(std::move(engine))) continue;
    if (first.empty()) first = text;
    const Scratch scratch(workspace());
    if (!memory || !scratch.data()) break;
    const ConvBuffers buffers = {x.data(), w.data(), y.data(), shape.bias ? bias.data() : nullptr};
    try {
      const float ms = timer.shortest([&](cudaStream_t stream) { run(buffers, scratch.data(), stream); });
      if (ms < best) {
        best = ms;
        fastest = text;
      }
    } catch (const CudnnError&) {
      // An engine that the library offers and then refuses.
    }
  }
  if (first.empty()) return false;
  std::optional<ConvEngine> chosen = graph_.engine(fastest.empty() ? first : fastest);
  if (!chosen || !take(std::move(*chosen))) return false;
  if (!fastest.empty()) cache.remember(shape.key(), fastest);
  return true;
}

std::size_t TunedConvolution::workspace() const {
  return plan_->workspace() == 0 ? 0 : plan_->workspace() + kLibraryAlignment;
}

void TunedConvolution::run(const ConvBuffers& buffers, void* workspace, void* stream) const {
  const std::lock_guard lock(device_->mutex);
  check_cudnn(cudnn().set_stream(device_->handle, static_cast<cudaStream_t>(stream)), "cudnnSetStream");
  plan_->run(device_->handle, buffers, aligned_workspace(workspace));
}

}  // namespace trivet::kernels::cuda
