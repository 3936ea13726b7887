// The worker's process: made, held at a gate, started, signalled, collected.
#pragma once

#include <sys/types.h>

#include <optional>
#include <utility>

#include "trivet/launcher/local_launcher.h"

namespace trivet {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { close(); }

  int get() const { return fd_; }
  void close();

 private:
  int fd_;
};

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;
};

class ChildProcess {
 public:
  // A process that waits at the gate, before it runs the command. Throws Error(io).
  explicit ChildProcess(const WorkerCommand& command);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();  // kills and collects it if that has not been done

  pid_t pid() const { return pid_; }
  int events_fd() const { return events_.get(); }  // non-blocking
  int log_fd() const { return log_.get(); }
  int exit_fd() const { return exit_.get(); }  // readable once it has ended; -1 where the kernel has no pidfd

  // Lets it run the command. Throws Error(io) if the command cannot be run.
  void open_gate();

  void signal_group(int signal) const;

  // Its wait status, once it has ended. Kills what is left of its group before its number can be used again.
  std::optional<int> collect();

 private:
  std::string executable_;
  pid_t pid_ = -1;
  bool collected_ = false;
  FileDescriptor log_;
  FileDescriptor events_;
  Pipe gate_;  // both ends, so that a write finds a reader even if the child is gone
  FileDescriptor exec_error_;
  FileDescriptor exit_;
};

}  // namespace trivet
