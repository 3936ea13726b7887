#include <fmt/format.h>

#include <fstream>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

// A line "VmHWM:     1234 kB" of /proc/self/status; 0 where there is none.
std::size_t status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

std::size_t resident_bytes() { return status_bytes("VmRSS:"); }
std::size_t peak_resident_bytes() { return status_bytes("VmHWM:"); }

MemoryReport report_memory(const StateLayout& states, const std::vector<PlanPtr>& plans, const Device& device,
                           std::size_t data_set, std::size_t loader, std::size_t evaluation) {
  MemoryReport report;
  report.arena = states.bytes_by_class();
  const auto transient = [](const Plan& plan) { return plan.transient_offset + plan.transient_bytes; };
  const Plan* largest = plans.front().get();
  for (const PlanPtr& plan : plans) {
    if (!plan->twin_of) report.constants += plan->constant_bytes;
    if (transient(*plan) > transient(*largest)) largest = plan.get();
  }
  std::size_t side_by_side = 1;  // the largest is the last of its twins
  for (const PlanPtr& plan : plans) side_by_side += largest->twin_of && plan->twin_of == largest->twin_of ? 1 : 0;
  for (std::size_t c = 0; c < report.arena.size(); ++c) {
    report.arena[c] += side_by_side * largest->peak_by_class[c];
  }
  report.fragmentation = transient(*largest) - side_by_side * largest->peak_live;
  report.arena_total = Arena::planned_bytes(states, plans);
  report.apart = device.asynchronous() != nullptr;
  report.staging = Arena::staging_bytes(device, plans);
  report.data_set = data_set;
  report.loader = loader;
  report.evaluation = evaluation;
  // The data set may be resident already; the arena is not.
  const std::size_t resident = resident_bytes();
  report.program = (resident > data_set ? resident - data_set : resident) + kProgramAllowance;
  return report;
}

void require_memory(const MemoryReport& memory, const Device& device, std::size_t budget, const std::string& what,
                    const std::string& hint) {
  const auto refuse = [&](std::size_t needed, const std::string& limit, std::size_t allowed) {
    throw Error(ErrorCode::memory,
                fmt::format("{} needs at least {}, {} {}", what, format_bytes(needed), limit, format_bytes(allowed)),
                hint);
  };
  if (budget > 0 && memory.bounded() > budget) refuse(memory.bounded(), "memory allows", budget);
  if (memory.on_host() > host_memory_bytes()) refuse(memory.on_host(), "this machine has", host_memory_bytes());
  if (memory.on_device() > device.memory_bytes()) {
    refuse(memory.on_device(), fmt::format("the device ({}) has", device.description()), device.memory_bytes());
  }
}

}  // namespace trivet
