#include "trivet/exec/session.h"

#include <fmt/format.h>

#include <cstring>

#include "runtime/exec/staging.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/exec/initialize.h"
#include "trivet/kernels/attrs_ranks.h"

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
  if (const Asynchronous* beside = device_->asynchronous()) {
    const std::size_t slots = staging_bytes(*device_, plans_);
    staging_ = std::make_unique<InputStaging>(*device_, *beside, slots / InputStaging::kSlots);
  }
}

std::size_t Arena::staging_bytes(const Device& device, const std::vector<std::shared_ptr<const Plan>>& plans) {
  if (!device.asynchronous()) return 0;
  std::size_t inputs = 0;
  for (const auto& plan : plans) {
    inputs = std::max(inputs, InputStaging::layout(*plan, device.alignment()).bytes);
  }
  return InputStaging::kSlots * inputs;
}

Arena::~Arena() {
  if (!device_->asynchronous()) return;
  try {
    stream_->synchronize();  // what still runs uses the memory
  } catch (const std::exception&) {
    // The device has failed, and whoever waits for a result of it is told so.
  }
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
    if (slot.value.memory == MemoryClass::data) continue;
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
  wait();
}

void Arena::set_state(const std::string& name, const Tensor& value) { set_state(name, value.type, value.data.data()); }

void Arena::set_state_rows(const std::string& name, std::int64_t first, std::int64_t count, const void* host) {
  std::byte* address = state_address(name);
  const TensorType& type = states_.find(name)->value.type;
  if (type.rank() == 0 || first < 0 || count < 0 || first > type.dim(0) - count) {
    throw Error(ErrorCode::internal,
                fmt::format("state '{}' is {}, without {} rows from {} on", name, to_string(type), count, first));
  }
  if (count == 0) return;
  const std::size_t row = type.bytes() / static_cast<std::size_t>(type.dim(0));
  ++state_version_;
  device_->upload(address + static_cast<std::size_t>(first) * row, host, static_cast<std::size_t>(count) * row,
                  *stream_);
  wait();
}

Tensor Arena::get_state(const std::string& name) const {
  const std::byte* address = state_address(name);
  Tensor t(states_.find(name)->value.type);
  device_->download(t.data.data(), address, t.data.size(), *stream_);
  wait();
  return t;
}

void Arena::wait() const {
  if (collectives_) collectives_->settle();
  stream_->synchronize();
}

Session::Ranks Session::part_of(const PlannedStep& step) {
  const std::string& op = step.op;
  if (op.find("_ranks_") == std::string::npos || step.attributes<kernels::SumRanksAttrs>().ranks == 1)
    return Ranks::none;
  if (op == "sum_ranks_start") return Ranks::start_sum;
  if (op == "reduce_ranks_start") return Ranks::start_reduce;
  if (op == "sum_ranks_wait" || op == "reduce_ranks_wait" || op == "reduce_ranks_sent") return Ranks::wait;
  if (op == "broadcast_ranks_send") return Ranks::send;
  if (op == "broadcast_ranks_receive") return Ranks::receive;
  return Ranks::none;
}

Session::Session(std::shared_ptr<Arena> arena, std::shared_ptr<const Plan> plan, bool poison)
    : arena_(std::move(arena)), plan_(std::move(plan)), poison_(poison) {
  arena_->region(Region::constant, *plan_);  // throws if the arena was not made for this plan
  for (const PlannedStep& step : plan_->steps) {
    Launch launch{&step,
                  part_of(step),
                  {},
                  {},
                  arena_->region(Region::transient, *plan_) + step.workspace_offset,
                  arena_->region(Region::constant, *plan_) + step.packed_offset};
    for (const int v : step.inputs) launch.in.push_back(v < 0 ? kernels::View{} : view(v));
    for (const int v : step.outputs) {
      launch.out.push_back(view(v));
      updates_states_ = updates_states_ || plan_->values[static_cast<std::size_t>(v)].region == Region::state;
    }
    has_ranks_ = has_ranks_ || launch.ranks != Ranks::none;
    launches_.push_back(std::move(launch));
  }
  if (!arena_->staging_) return;
  InputStaging::Layout layout = InputStaging::layout(*plan_, arena_->device().alignment());
  staged_ = std::move(layout.offsets);
  staged_bytes_ = layout.bytes;
  segments_ = segments();
  recordings_.resize(InputStaging::kSlots);
}

// A sum in its own place: there is nothing to be done here.
bool Session::puts_nothing(const Launch& launch) {
  if (launch.ranks == Ranks::none || launch.out.size() > launch.in.size()) return false;
  return std::equal(launch.out.begin(), launch.out.end(), launch.in.begin(),
                    [](const kernels::View& out, const kernels::View& in) { return out.data == in.data; });
}

// A sum is waited for before its launch, all else is told to the others after it.
std::vector<Session::Segment> Session::segments() const {
  std::vector<Segment> result;
  std::size_t begin = plan_->first_repeated;
  for (std::size_t i = begin; i < launches_.size(); ++i) {
    if (launches_[i].ranks == Ranks::none) continue;
    const std::size_t end = launches_[i].ranks == Ranks::wait ? i : i + 1;
    result.push_back({begin, end, &launches_[i]});
    begin = end;
  }
  result.push_back({begin, launches_.size(), nullptr});
  return result;
}

Session::~Session() {
  if (arena_->staging_) arena_->staging_->give_up(this);
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
  if (InputStaging* staging = arena_->staging_.get()) {
    if (arena_->collectives_ && staging->must_wait(this)) arena_->collectives_->settle();
    if (bytes > 0) std::memcpy(staging->host(staging->take(this)) + staged_.at(name), data, bytes);
    return;
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
  if (const Asynchronous* beside = arena_->device().asynchronous()) {
    run_beside_the_host(*beside);
  } else {
    for (std::size_t i = plan_->first_repeated; i < launches_.size(); ++i) launch(i);
  }
  if (has_ranks_) arena_->collectives_->finish(arena_->stream());
  if (updates_states_) ++arena_->state_version_;
}

void Session::run_beside_the_host(const Asynchronous& beside) {
  InputStaging& staging = *arena_->staging_;
  Stream& stream = arena_->stream();
  const std::size_t slot = staging.take(this);
  staging.upload(slot, staged_bytes_, stream);
  // What kernels load when they are used first cannot be recorded.
  if (!has_run_) {
    put_on_stream(beside, slot);
    has_run_ = true;
  } else {
    if (recordings_[slot].empty()) recordings_[slot] = record(beside, slot);
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      if (recordings_[slot][i]) recordings_[slot][i]->launch(stream);
      if (segments_[i].told) tell_ranks(*segments_[i].told);
    }
  }
  staging.release(slot, stream);
}

void Session::put_inputs(const Asynchronous& beside, std::size_t slot) {
  for (const auto& [name, offset] : staged_) {
    const PlannedValue& p = named(plan_->inputs, name, "input");
    beside.copy(arena_->region(p.region, *plan_) + p.offset, arena_->staging_->on_device(slot) + offset, p.type.bytes(),
                arena_->stream());
  }
}

void Session::put_on_stream(const Asynchronous& beside, std::size_t slot) {
  put_inputs(beside, slot);
  for (std::size_t i = plan_->first_repeated; i < launches_.size(); ++i) launch(i);
}

std::vector<std::unique_ptr<Recording>> Session::record(const Asynchronous& beside, std::size_t slot) {
  std::vector<std::unique_ptr<Recording>> result;
  for (const Segment& segment : segments_) {
    const auto first = launches_.begin() + static_cast<std::ptrdiff_t>(segment.begin);
    const auto last = launches_.begin() + static_cast<std::ptrdiff_t>(segment.end);
    const bool has_inputs = result.empty() && !staged_.empty();
    if (!has_inputs && std::all_of(first, last, puts_nothing)) {
      result.emplace_back();
      continue;
    }
    result.push_back(record(beside, [&] {
      if (has_inputs) put_inputs(beside, slot);
      for (auto launch = first; launch != last; ++launch) run_kernel(*launch);
    }));
  }
  return result;
}

std::unique_ptr<Recording> Session::record(const Asynchronous& beside, const std::function<void()>& what) {
  beside.begin_recording(arena_->stream());
  try {
    what();
  } catch (...) {
    try {
      beside.end_recording(arena_->stream());
    } catch (const std::exception&) {
      // The reason is what was thrown before.
    }
    throw;
  }
  return beside.end_recording(arena_->stream());
}

void Session::launch(std::size_t step) {
  const Launch& l = launches_[step];
  if (l.ranks == Ranks::wait) tell_ranks(l);
  run_kernel(l);
  if (l.ranks != Ranks::none && l.ranks != Ranks::wait) tell_ranks(l);
  if (poison_) poison_after(static_cast<int>(step));
}

void Session::run_kernel(const Launch& l) {
  const kernels::KernelArgs args = {l.in,
                                    l.out,
                                    l.workspace,
                                    l.step->attrs.data(),
                                    l.step->prepared.get(),
                                    plan_->threads,
                                    arena_->stream().handle(),
                                    l.packed};
  l.step->packs ? l.step->kernel->pack(args) : l.step->kernel->run(args);
}

void Session::tell_ranks(const Launch& launch) {
  const auto attrs = launch.step->attributes<kernels::SumRanksAttrs>();
  Collectives& others = collectives(attrs.ranks);
  Stream& stream = arena_->stream();
  const auto number = static_cast<int>(attrs.number);
  if (launch.ranks == Ranks::wait) return others.wait(number, stream);
  if (launch.ranks == Ranks::start_sum) return others.start_sum(number, launch.out, stream);
  const auto root = static_cast<int>(launch.step->attributes<kernels::RootedRanksAttrs>().root);
  if (launch.ranks == Ranks::start_reduce) return others.start_reduce(number, root, launch.out, stream);
  others.start_broadcast(number, root, launch.ranks == Ranks::send ? launch.in : launch.out, stream);
}

Collectives& Session::collectives(std::int64_t ranks) const {
  if (arena_->collectives_) return *arena_->collectives_;
  throw Error(ErrorCode::internal,
              fmt::format("plan '{}' is for {} ranks, its arena knows of no others", plan_->name, ranks));
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
  arena_->wait();
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
