#include "trivet/launcher/local_launcher.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "scheduler/launcher/child_process.h"
#include "scheduler/launcher/signals.h"
#include "trivet/base/error.h"

namespace trivet {

namespace {

constexpr int kPollMilliseconds = 50;  // only where the kernel cannot tell of the worker's end
constexpr int kMostComplaints = 8;     // a worker that writes garbage must not fill the disk with ours

// Bytes of the events pipe -> events. Lines that are too long or no events are passed over, with a word in the log.
class EventLines {
 public:
  EventLines(int log_fd, WorkerObserver& observer) : log_fd_(log_fd), observer_(observer) {}

  void add(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::size_t end = bytes.find('\n');
      append(bytes.substr(0, end));
      if (end == std::string_view::npos) return;
      bytes.remove_prefix(end + 1);
      finish_line();
    }
  }

  // A last line without a newline is one that the worker's end cut off.
  void finish() {
    if (size_ > 0) finish_line();
  }

 private:
  void append(std::string_view part) {
    if (line_.size() + part.size() <= kLongestEvent) line_ += part;
    size_ += part.size();
  }

  void finish_line() {
    if (size_ > kLongestEvent) {
      complain(fmt::format("is longer than {} bytes", kLongestEvent));
    } else if (const std::optional<WorkerEvent> event = parse_event(line_)) {
      line_.clear();
      size_ = 0;
      observer_.on_event(*event);
      return;
    } else {
      complain("is not an event");
    }
    line_.clear();
    size_ = 0;
  }

  void complain(const std::string& why) {
    if (++complaints_ > kMostComplaints) return;
    const std::string text = fmt::format("launcher: a line of {} bytes from the worker {}; it was passed over{}\n",
                                         size_, why, complaints_ == kMostComplaints ? " (as will be any more)" : "");
    [[maybe_unused]] const ssize_t written = write(log_fd_, text.data(), text.size());
  }

  int log_fd_;
  WorkerObserver& observer_;
  std::string line_;
  std::size_t size_ = 0;  // of the line, with what was not kept
  int complaints_ = 0;
};

// One read of the non-blocking pipe. False when nothing is there or it is closed.
bool read_some(int fd, EventLines& lines, bool& closed) {
  std::array<char, 16 * 1024> buffer;
  const ssize_t got = read(fd, buffer.data(), buffer.size());
  if (got > 0) {
    lines.add({buffer.data(), static_cast<std::size_t>(got)});
    return true;
  }
  if (got < 0 && errno == EINTR) return true;
  closed = got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  return false;
}

// Returns whether this process was asked to end.
bool pass_on_signals(SignalPipe& signals, const ChildProcess& child, WorkerObserver& observer, bool interrupted) {
  while (const int signal = signals.take()) {
    const bool forced = interrupted;
    child.signal_group(forced ? SIGKILL : signal);
    interrupted = true;
    observer.on_interrupt(signal, forced);
  }
  return interrupted;
}

}  // namespace

void LocalLauncher::run(const WorkerCommand& command, WorkerObserver& observer) {
  SignalPipe signals;
  ChildProcess child(command);
  observer.on_start(find_process(child.pid()));
  child.open_gate();

  EventLines lines(child.log_fd(), observer);
  WorkerEnd end;
  bool closed = false;
  while (true) {
    std::array<pollfd, 3> waits = {pollfd{signals.fd(), POLLIN, 0}, pollfd{closed ? -1 : child.events_fd(), POLLIN, 0},
                                   pollfd{child.exit_fd(), POLLIN, 0}};
    const int ready = poll(waits.data(), waits.size(), child.exit_fd() < 0 ? kPollMilliseconds : -1);
    if (ready < 0 && errno != EINTR) {
      throw Error(ErrorCode::io, fmt::format("waiting for the worker failed: {}", std::strerror(errno)));
    }
    end.interrupted = pass_on_signals(signals, child, observer, end.interrupted);
    if (!closed) read_some(child.events_fd(), lines, closed);
    if (const std::optional<int> status = child.collect()) {
      // A grandchild may hold the pipe open for ever, so what is there now is all.
      while (!closed && read_some(child.events_fd(), lines, closed)) {
      }
      lines.finish();
      if (WIFSIGNALED(*status)) {
        end.signal = WTERMSIG(*status);
      } else {
        end.exit_code = WEXITSTATUS(*status);
      }
      observer.on_end(end);
      return;
    }
  }
}

}  // namespace trivet
