// Who a rank is among the processes of its host.
#pragma once

#include <cstdint>
#include <string>

namespace trivet::comm {

// The same for two processes only if they run on one machine and see each other under their process numbers: the
// kernel's boot id and the namespace of process numbers.
std::string host_identity();

// Clock ticks between the machine's start and that of the running process `pid`: field 22 of /proc/PID/stat (proc(5)).
// 0: it has ended. Number and start together are never used again.
std::uint64_t start_time(std::int64_t pid);

}  // namespace trivet::comm
