#include "runtime/comm/process.h"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "trivet/comm/communicator.h"

namespace trivet::comm {

std::string host_identity() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  char numbers[128] = {};
  if (!std::getline(file, boot) || readlink("/proc/self/ns/pid", numbers, sizeof numbers - 1) <= 0) {
    return random_token();  // like no other
  }
  return fmt::format("{} {}", boot, numbers);
}

std::uint64_t start_time(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line, '\0')) return 0;
  // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string state;
  fields >> state;
  if (state == "Z" || state == "X") return 0;  // only waits to be collected by its parent
  for (int field = 4; field < 22; ++field) fields >> state;
  std::uint64_t start = 0;
  return fields >> start ? start : 0;
}

}  // namespace trivet::comm
