#include "runtime/exec/staging.h"

#include "trivet/base/error.h"

namespace trivet {
namespace {

std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

InputStaging::Layout InputStaging::layout(const Plan& plan, std::size_t alignment) {
  Layout result;
  for (const auto& [name, value] : plan.inputs) {
    result.offsets[name] = result.bytes;
    result.bytes += round_up(plan.values[static_cast<std::size_t>(value)].type.bytes(), alignment);
  }
  return result;
}

InputStaging::InputStaging(const Device& device, const Asynchronous& beside, std::size_t bytes)
    : device_(device),
      bytes_(bytes),
      host_(beside.allocate_pinned(kSlots * bytes)),
      on_device_(device.allocate(kSlots * bytes)),
      stream_(device.make_stream()) {
  for (Slot& slot : slots_) {
    slot.uploaded = beside.make_event();
    slot.read = beside.make_event();
  }
}

InputStaging::~InputStaging() {
  try {
    stream_->synchronize();
  } catch (const std::exception&) {
    // The device has failed, and whoever waits for a result of it is told so.
  }
}

bool InputStaging::must_wait(const void* holder) const {
  for (const Slot& slot : slots_) {
    if (slot.holder == holder) return false;
  }
  const Slot& next = slots_[slots_[next_].holder ? (next_ + 1) % kSlots : next_];
  return !next.holder && !next.read->reached();
}

std::size_t InputStaging::take(const void* holder) {
  for (std::size_t i = 0; i < kSlots; ++i) {
    if (slots_[i].holder == holder) return i;
  }
  for (std::size_t tried = 0; tried < kSlots; ++tried) {
    const std::size_t i = next_;
    next_ = (next_ + 1) % kSlots;
    if (slots_[i].holder) continue;
    slots_[i].read->synchronize();
    slots_[i].holder = holder;
    return i;
  }
  throw Error(ErrorCode::internal, "more than two sessions of an arena were given inputs and did not run");
}

void InputStaging::upload(std::size_t slot, std::size_t bytes, Stream& stream) {
  if (bytes == 0) return;
  device_.upload(on_device_->data() + slot * bytes_, host(slot), bytes, *stream_);
  slots_[slot].uploaded->record(*stream_);
  slots_[slot].uploaded->hold(stream);
}

void InputStaging::release(std::size_t slot, Stream& stream) {
  slots_[slot].read->record(stream);
  slots_[slot].holder = nullptr;
}

void InputStaging::give_up(const void* holder) {
  for (Slot& slot : slots_) {
    if (slot.holder == holder) slot.holder = nullptr;
  }
}

}  // namespace trivet
