// Work in a second process, for tests of what happens between processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>

namespace trivet {

// Starts `work` in a child; its result is the child's exit code (99: an exception).
inline pid_t start_child(const std::function<int()>& work) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  int code = 99;
  try {
    code = work();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "in the child: %s\n", e.what());
  }
  _exit(code);
}

// The child's exit code, or 128 + its signal.
inline int wait_for(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace trivet
