// Signals that ask this process to end, turned into bytes on a pipe for as long as the object lives.
#pragma once

#include <array>
#include <csignal>

namespace trivet {

class SignalPipe {
 public:
  SignalPipe();  // catches SIGINT, SIGTERM and SIGHUP, except those that this process ignores
  SignalPipe(const SignalPipe&) = delete;
  SignalPipe& operator=(const SignalPipe&) = delete;
  ~SignalPipe();  // puts back the handlers that were there before

  int fd() const { return read_end_; }
  int take();  // the next signal that arrived, or 0

 private:
  struct Saved {
    int signal = 0;
    struct sigaction action {};
  };
  int read_end_ = -1;
  int write_end_ = -1;
  std::array<Saved, 3> saved_{};
};

}  // namespace trivet
