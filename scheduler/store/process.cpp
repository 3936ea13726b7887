#include "trivet/store/process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace trivet {

ProcessId find_process(std::int64_t pid) {
  if (pid <= 0) return {};
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line, '\0')) return {};
  // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(line.substr(name_end + 1));
  std::string state;
  fields >> state;
  if (state == "Z" || state == "X") return {};
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  std::uint64_t start_time = 0;
  if (!(fields >> start_time)) return {};
  return {pid, start_time};
}

ProcessId this_process() { return find_process(getpid()); }

bool is_running(const ProcessId& process) { return process.pid > 0 && find_process(process.pid) == process; }

}  // namespace trivet
