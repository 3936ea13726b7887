// Inputs on their way to a device whose streams run beside the host: they are collected in pinned memory, uploaded as
// one piece on a stream of their own, and copied to their places by the step. There are two slots, so that while the
// device works with what one of them brought, the host fills the other and its upload goes on.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "trivet/exec/device.h"
#include "trivet/plan/plan.h"

namespace trivet {

class InputStaging {
 public:
  static constexpr std::size_t kSlots = 2;

  // Places of a plan's inputs in a slot, by name; and the bytes of all.
  struct Layout {
    std::map<std::string, std::size_t> offsets;
    std::size_t bytes = 0;
  };
  static Layout layout(const Plan& plan, std::size_t alignment);

  // Slots of so many bytes. Error(memory) if there is not enough.
  InputStaging(const Device& device, const Asynchronous& beside, std::size_t bytes);
  InputStaging(const InputStaging&) = delete;
  InputStaging& operator=(const InputStaging&) = delete;
  ~InputStaging();

  // Whether take() would have to wait for the device.
  bool must_wait(const void* holder) const;
  // The slot that `holder` has taken, or a free one, taken for it as soon as the device has read what was there.
  // Error(internal) if others hold all.
  std::size_t take(const void* holder);
  // Uploads the slot's first `bytes`; what is put on `stream` from now on comes after it.
  void upload(std::size_t slot, std::size_t bytes, Stream& stream);
  // The holder is done: what was put on `stream` until now reads the slot last.
  void release(std::size_t slot, Stream& stream);
  // Without having been read, if `holder` has one.
  void give_up(const void* holder);

  std::byte* host(std::size_t slot) const { return host_->data() + slot * bytes_; }
  const std::byte* on_device(std::size_t slot) const { return on_device_->data() + slot * bytes_; }

 private:
  struct Slot {
    const void* holder = nullptr;
    std::unique_ptr<Event> uploaded;
    std::unique_ptr<Event> read;
  };

  const Device& device_;
  std::size_t bytes_;
  std::unique_ptr<DeviceMemory> host_, on_device_;
  std::unique_ptr<Stream> stream_;
  std::array<Slot, kSlots> slots_;
  std::size_t next_ = 0;
};

}  // namespace trivet
