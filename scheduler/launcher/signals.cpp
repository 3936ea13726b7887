#include "scheduler/launcher/signals.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "trivet/base/error.h"

namespace trivet {

namespace {

// A handler can reach nothing but globals.
std::atomic<int> signal_fd{-1};

void write_signal(int signal) {
  const int saved_errno = errno;
  const auto byte = static_cast<unsigned char>(signal);
  // A full pipe means that many signals wait already; nothing is lost by dropping this one.
  [[maybe_unused]] const ssize_t written = write(signal_fd.load(std::memory_order_relaxed), &byte, 1);
  errno = saved_errno;
}

}  // namespace

SignalPipe::SignalPipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    throw Error(ErrorCode::io, std::string("no pipe for signals: ") + std::strerror(errno));
  }
  read_end_ = ends[0];
  write_end_ = ends[1];
  signal_fd.store(write_end_);
  std::size_t next = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction previous {};
    sigaction(signal, nullptr, &previous);
    if (previous.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = write_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
    saved_[next++] = {signal, previous};
  }
}

SignalPipe::~SignalPipe() {
  for (const Saved& saved : saved_) {
    if (saved.signal != 0) sigaction(saved.signal, &saved.action, nullptr);
  }
  signal_fd.store(-1);
  close(read_end_);
  close(write_end_);
}

int SignalPipe::take() {
  unsigned char byte = 0;
  return read(read_end_, &byte, 1) == 1 ? byte : 0;
}

}  // namespace trivet
