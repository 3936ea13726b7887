#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "trivet/base/error.h"
#include "trivet/launcher/events.h"
#include "trivet/launcher/ranks.h"

namespace trivet {
namespace {

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

// The environment of a rank: this process's, without the launcher's pipe, which rank 0 alone writes to.
std::vector<std::string> environment_of(const RankPlace& place, int rank) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view variable = *entry;
    if (!variable.starts_with(std::string(kEventsVariable) + "=")) out.emplace_back(variable);
  }
  out.push_back(fmt::format("TRIVET_RANK={}", rank));
  out.push_back(fmt::format("TRIVET_RANKS={}", place.size));
  out.push_back(fmt::format("TRIVET_LOCAL_RANKS={}", place.local_size));
  out.push_back(fmt::format("TRIVET_LOCAL_RANK={}", rank));
  out.push_back(fmt::format("TRIVET_ADDRESS={}", place.address));
  out.push_back(fmt::format("TRIVET_PORT={}", place.port));
  out.push_back(fmt::format("TRIVET_TOKEN={}", place.token));
  return out;
}

pid_t start(std::vector<std::string> environment, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"trivet"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const std::vector<char*> argument_pointers = pointers(words);
  const std::vector<char*> environment_pointers = pointers(environment);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  // From here on async-signal-safe functions only (signal-safety(7)).
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  ::execve("/proc/self/exe", argument_pointers.data(), environment_pointers.data());
  ::_exit(127);
}

}  // namespace

RankProcesses::RankProcesses(const RankPlace& place, const std::vector<std::string>& arguments) {
  for (int rank = 1; rank < place.size; ++rank) {
    const pid_t pid = start(environment_of(place, rank), arguments);
    if (pid < 0) {
      throw Error(ErrorCode::io, fmt::format("rank {} could not be started: {}", rank, std::strerror(errno)));
    }
    children_.push_back({pid, rank});
  }
}

RankProcesses::~RankProcesses() {
  for (Child& child : children_) {
    if (child.ended) continue;
    ::kill(child.pid, SIGKILL);
    collect(child, 0);
  }
}

void RankProcesses::collect(Child& child, int options) {
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(child.pid, &status, options);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return;
  child.ended = true;
  if (got < 0 || failure_) return;
  if (WIFSIGNALED(status)) {
    const char* name = sigabbrev_np(WTERMSIG(status));
    failure_ = name ? fmt::format("rank {} was ended by SIG{}", child.rank, name)
                    : fmt::format("rank {} was ended by signal {}", child.rank, WTERMSIG(status));
  } else if (const int code = WEXITSTATUS(status); code != 0 && code != kExitInterrupted) {
    failure_ = fmt::format("rank {} ended with exit code {}", child.rank, code);
  }
}

std::optional<std::string> RankProcesses::failed() {
  for (Child& child : children_) {
    if (!child.ended) collect(child, WNOHANG);
  }
  return failure_;
}

void RankProcesses::wait() {
  for (Child& child : children_) {
    if (!child.ended) collect(child, 0);
  }
}

}  // namespace trivet
