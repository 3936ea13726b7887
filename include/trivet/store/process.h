// Which process does a job's work, told apart from a later process that was given the same number.
#pragma once

#include <cstdint>
#include <string>

namespace trivet {

// A process of this machine. The kernel uses process numbers again; number and start time together are never reused
// while the machine runs.
struct ProcessId {
  std::int64_t pid = 0;  // 0: no process
  // Clock ticks between the machine's start and the process's: field 22 of /proc/PID/stat (proc(5)).
  std::uint64_t start_time = 0;

  bool operator==(const ProcessId&) const = default;
};

// The running process `pid`, or {0, 0} if there is none. A process that has ended and only waits to be collected by
// its parent is not running.
ProcessId find_process(std::int64_t pid);

ProcessId this_process();

// Whether that very process is still running.
bool is_running(const ProcessId& process);

}  // namespace trivet
