// Starts an attempt's worker as a process of this machine and follows it to its end.
//
// The worker has a process group of its own, standard input from /dev/null, standard output and error appended to a log
// file, and a pipe for its events (trivet/launcher/events.h). If this process dies, however it dies, the kernel sends
// the worker SIGTERM, upon which it checkpoints and ends.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trivet/launcher/events.h"
#include "trivet/store/process.h"

namespace trivet {

struct WorkerCommand {
  std::filesystem::path executable = "/proc/self/exe";
  std::vector<std::string> arguments;  // without the program's own name
  std::filesystem::path log_file;
};

struct WorkerEnd {
  int exit_code = 0;         // if signal is 0
  int signal = 0;            // the signal that ended the worker
  bool interrupted = false;  // this process was asked to end meanwhile
};

// Called by LocalLauncher::run. An exception from one of them ends the worker with SIGKILL and passes on.
class WorkerObserver {
 public:
  virtual ~WorkerObserver() = default;

  // The process exists but has not begun: it begins when this returns, and never if this throws or this process dies.
  virtual void on_start(const ProcessId& worker) = 0;
  virtual void on_event(const WorkerEvent& event) = 0;

  // The user or the system asked this process to end, and the worker was told. `forced`: asked again, so the worker
  // has been killed with SIGKILL.
  virtual void on_interrupt(int signal, bool forced) = 0;

  // The worker has ended. Signals are still caught, so that an impatient user cannot stop its end from being recorded.
  virtual void on_end(const WorkerEnd& end) = 0;
};

class LocalLauncher {
 public:
  // Returns when the worker has ended and each event that it wrote has been passed on; what is left of its process
  // group is killed. Meanwhile SIGINT, SIGTERM and SIGHUP (unless ignored) are caught: the first is passed on to the
  // worker, the second kills it. One call at a time in a process, from a thread that lives as long as the call. Throws
  // Error(io) if the worker cannot be started, with the reason.
  void run(const WorkerCommand& command, WorkerObserver& observer);
};

}  // namespace trivet
