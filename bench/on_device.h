// Plans of one op on a device that runs beside the host, where a session's time would be that of its uploads: kernels
// are put on a stream one after the other, and the host waits once for all.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "trivet/exec/device.h"
#include "trivet/plan/plan.h"

namespace trivet::bench {

class KernelsOnDevice {
 public:
  KernelsOnDevice(std::shared_ptr<const Device> device, std::shared_ptr<const Plan> plan)
      : device_(std::move(device)), plan_(std::move(plan)), stream_(device_->make_stream()) {
    for (const PlannedValue& value : plan_->values)
      values_.push_back(device_->allocate(at_least_one(value.type.bytes())));
    for (const PlannedStep& step : plan_->steps) {
      launches_.push_back({views(step.inputs), views(step.outputs),
                           device_->allocate(at_least_one(step.workspace_bytes)),
                           device_->allocate(at_least_one(step.packed_bytes))});
    }
  }
  KernelsOnDevice(const KernelsOnDevice&) = delete;
  KernelsOnDevice& operator=(const KernelsOnDevice&) = delete;
  ~KernelsOnDevice() { stream_->synchronize(); }

  void set_input(const std::string& name, const Tensor& value) {
    const auto i = static_cast<std::size_t>(plan_->inputs.at(name));
    device_->upload(values_[i]->data(), value.data.data(), value.data.size(), *stream_);
    stream_->synchronize();
  }

  // All steps, so many times.
  void run(int times) {
    for (int t = 0; t < times; ++t) {
      for (std::size_t i = 0; i < launches_.size(); ++i) launch(i);
    }
    stream_->synchronize();
  }

 private:
  struct Launch {
    std::vector<kernels::View> in, out;
    std::unique_ptr<DeviceMemory> workspace, packed;
  };

  static std::size_t at_least_one(std::size_t bytes) { return std::max<std::size_t>(bytes, 1); }

  std::vector<kernels::View> views(const std::vector<int>& of) const {
    std::vector<kernels::View> result;
    for (const int i : of) {
      kernels::View view;
      if (i >= 0) {
        static_cast<kernels::TensorDesc&>(view) = plan_->values[static_cast<std::size_t>(i)].type.desc();
        view.data = values_[static_cast<std::size_t>(i)]->data();
      }
      result.push_back(view);
    }
    return result;
  }

  void launch(std::size_t i) {
    const PlannedStep& step = plan_->steps[i];
    const Launch& l = launches_[i];
    const kernels::KernelArgs args = {l.in,
                                      l.out,
                                      l.workspace->data(),
                                      step.attrs.data(),
                                      step.prepared.get(),
                                      plan_->threads,
                                      stream_->handle(),
                                      l.packed->data()};
    step.packs ? step.kernel->pack(args) : step.kernel->run(args);
  }

  std::shared_ptr<const Device> device_;
  std::shared_ptr<const Plan> plan_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::unique_ptr<DeviceMemory>> values_;
  std::vector<Launch> launches_;
};

// Bytes read plus bytes written, per second: the best of some copies of half a gigabyte.
inline double measured_copy(const Device& device) {
  constexpr std::size_t kBytes = std::size_t{512} << 20;
  constexpr int kCopies = 20;
  const auto from = device.allocate(kBytes), to = device.allocate(kBytes);
  const auto stream = device.make_stream();
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < kCopies; ++i) device.asynchronous()->copy(to->data(), from->data(), kBytes, *stream);
    stream->synchronize();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    best = std::max(best, 2.0 * kCopies * static_cast<double>(kBytes) / took.count());
  }
  return best;
}

}  // namespace trivet::bench
