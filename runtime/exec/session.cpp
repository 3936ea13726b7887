#include "trivet/exec/session.h"

#include <fmt/format.h>

#include <cstring>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/exec/initialize.h"

namespace trivet {

std::size_t Arena::planned_bytes(const StateLayout& states, const std::vector<std::shared_ptr<const Plan>>& plans) {
  std::size_t bytes = states.bytes();
  std::size_t transient = 0;
  for (const auto& plan : plans) {
    if (!plan->twin_of) bytes += plan->constant_bytes;
    transient = std::max(transient, plan->transient_offset + plan->transient_bytes);
  }
  return bytes + transient;
}

Arena::Arena(std::shared_ptr<const Device> device, StateLayout states, std::vector<std::shared_ptr<const Plan>> plans)
    : device_(std::move(device)),
      states_(std::move(states)),
      plans_(std::move(plans)),
      stream_(device_->make_stream()) {
  memory_ = device_->allocate(planned_bytes(states_, plans_));
  transient_offset_ = states_.bytes();
  for (const auto& plan : plans_) {
    if (plan->state_bytes > states_.bytes()) {
      throw Error(ErrorCode::internal, fmt::format("plan '{}' was compiled for another layout of states", plan->name));
    }
    constant_offsets_.push_back(transient_offset_);
    if (plan->twin_of) continue;
    for (const auto& [offset, tensor] : plan->constants) {
      device_->upload(memory_->data() + transient_offset_ + offset, tensor.data.data(), tensor.data.size(), *stream_);
    }
    transient_offset_ += plan->constant_bytes;
  }
  stream_->synchronize();
}

std::byte* Arena::region(Region region, const Plan& plan) const {
  switch (region) {
    case Region::state:
      return memory_->data();
    case Region::transient:
      return memory_->data() + transient_offset_ + plan.transient_offset;
    case Region::constant:
      break;
  }
  const Plan* const owner = plan.twin_of ? plan.twin_of.get() : &plan;
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    if (plans_[i].get() == owner) return memory_->data() + constant_offsets_[i];
  }
  throw Error(ErrorCode::internal, fmt::format("the arena was not made for plan '{}'", plan.name));
}

void Arena::initialize(std::uint64_t seed) {
  for (const StateLayout::Slot& slot : states_.slots()) {
    Tensor host(slot.value.type);
    fill_initial(slot.value, seed, host.data);
    set_state(slot.value.name, host);
  }
}

std::byte* Arena::state_address(const std::string& name) const {
  const StateLayout::Slot* slot = states_.find(name);
  if (!slot) {
    std::vector<std::string> names;
    for (const auto& s : states_.slots()) names.push_back(s.value.name);
    const std::string near = nearest(name, names);
    throw Error(ErrorCode::graph, fmt::format("the model has no state '{}'", name),
                near.empty() ? std::string() : fmt::format("did you mean '{}'?", near));
  }
  return memory_->data() + slot->offset;
}

void Arena::set_state(const std::string& name, const TensorType& type, const void* host) {
  std::byte* address = state_address(name);
  const TensorType& expected = states_.find(name)->value.type;
  if (type != expected) {
    throw Error(ErrorCode::graph,
                fmt::format("state '{}' is {}, expected {}", name, to_string(type), to_string(expected)));
  }
  ++state_version_;
  device_->upload(address, host, type.bytes(), *stream_);
  stream_->synchronize();
}

void Arena::set_state(const std::string& name, const Tensor& value) { set_state(name, value.type, value.data.data()); }

Tensor Arena::get_state(const std::string& name) const {
  const std::byte* address = state_address(name);
  Tensor t(states_.find(name)->value.type);
  device_->download(t.data.data(), address, t.data.size(), *stream_);
  stream_->synchronize();
  return t;
}

Session::Session(std::shared_ptr<Arena> arena, std::shared_ptr<const Plan> plan, bool poison)
    : arena_(std::move(arena)), plan_(std::move(plan)), poison_(poison) {
  arena_->region(Region::constant, *plan_);  // throws if the arena was not made for this plan
  for (const PlannedStep& step : plan_->steps) {
    Launch launch{&step,
                  {},
                  {},
                  arena_->region(Region::transient, *plan_) + step.workspace_offset,
                  arena_->region(Region::constant, *plan_) + step.packed_offset};
    for (const int v : step.inputs) launch.in.push_back(v < 0 ? kernels::View{} : view(v));
    for (const int v : step.outputs) {
      launch.out.push_back(view(v));
      updates_states_ = updates_states_ || plan_->values[static_cast<std::size_t>(v)].region == Region::state;
    }
    launches_.push_back(std::move(launch));
  }
}

kernels::View Session::view(int value) const {
  const PlannedValue& p = plan_->values[static_cast<std::size_t>(value)];
  kernels::View v;
  static_cast<kernels::TensorDesc&>(v) = p.type.desc();
  v.data = arena_->region(p.region, *plan_) + p.offset;
  return v;
}

const PlannedValue& Session::named(const std::map<std::string, int>& names, const std::string& name,
                                   const char* what) const {
  const auto it = names.find(name);
  if (it == names.end())
    throw Error(ErrorCode::graph, fmt::format("plan '{}' has no {} '{}'", plan_->name, what, name));
  return plan_->values[static_cast<std::size_t>(it->second)];
}

void Session::set_input(const std::string& name, const void* data, std::size_t bytes) {
  const PlannedValue& p = named(plan_->inputs, name, "input");
  if (bytes != p.type.bytes()) {
    throw Error(ErrorCode::graph, fmt::format("input '{}' is {} ({} bytes), given {} bytes", name, to_string(p.type),
                                              p.type.bytes(), bytes));
  }
  arena_->device().upload(arena_->region(p.region, *plan_) + p.offset, data, bytes, arena_->stream());
}

void Session::refresh() {
  if (seen_version_ == arena_->state_version_) return;
  arena_->device().enter();
  for (std::size_t i = 0; i < plan_->first_repeated; ++i) launch(i);
  seen_version_ = arena_->state_version_;
}

void Session::run() {
  if (!plan_->twin_of) refresh();
  arena_->device().enter();
  for (std::size_t i = plan_->first_repeated; i < launches_.size(); ++i) launch(i);
  if (updates_states_) ++arena_->state_version_;
}

void Session::launch(std::size_t step) {
  const Launch& l = launches_[step];
  const kernels::KernelArgs args = {l.in,
                                    l.out,
                                    l.workspace,
                                    l.step->attrs.data(),
                                    l.step->prepared.get(),
                                    plan_->threads,
                                    arena_->stream().handle(),
                                    l.packed};
  l.step->packs ? l.step->kernel->pack(args) : l.step->kernel->run(args);
  if (poison_) poison_after(static_cast<int>(step));
}

void Session::poison_after(int step) const {
  std::byte* base = arena_->region(Region::transient, *plan_);
  if (!arena_->device().host_address(base)) return;
  for (const PlannedBuffer& b : plan_->buffers) {
    if (b.last == step) std::memset(base + b.offset, 0xFF, b.bytes);  // all ones is a NaN
  }
}

void Session::read_output(const std::string& name, void* data, std::size_t bytes) const {
  const PlannedValue& p = named(plan_->outputs, name, "output");
  if (bytes != p.type.bytes()) {
    throw Error(ErrorCode::graph, fmt::format("output '{}' is {} ({} bytes), asked for {} bytes", name,
                                              to_string(p.type), p.type.bytes(), bytes));
  }
  arena_->device().download(data, arena_->region(p.region, *plan_) + p.offset, bytes, arena_->stream());
  arena_->stream().synchronize();
}

Tensor Session::output(const std::string& name) const {
  Tensor t(named(plan_->outputs, name, "output").type);
  read_output(name, t.data.data(), t.data.size());
  return t;
}

float Session::scalar(const std::string& name) const {
  float value = 0;
  read_output(name, &value, sizeof value);
  return value;
}

}  // namespace trivet
