#include "scheduler/launcher/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "trivet/base/error.h"

namespace trivet {

namespace {

// Shells can name only descriptors of one digit, and 0 to 2 are taken.
constexpr int kEventsFd = 3;
// Our own descriptors stay above it, so that placing the events there closes none of them.
constexpr int kLowestOwnFd = 10;

[[noreturn]] void fail(const std::string& doing, int error) {
  throw Error(ErrorCode::io, fmt::format("{} failed: {}", doing, std::strerror(error)));
}

FileDescriptor above_events(FileDescriptor low, const std::string& doing) {
  if (low.get() < 0) fail(doing, errno);
  const int high = fcntl(low.get(), F_DUPFD_CLOEXEC, kLowestOwnFd);
  if (high < 0) fail(doing, errno);
  return FileDescriptor(high);
}

Pipe make_pipe() {
  const std::string doing = "making a pipe to the worker";
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) fail(doing, errno);
  FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  return {above_events(std::move(read_end), doing), above_events(std::move(write_end), doing)};
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

// How long an OpenMP thread spins at a barrier before it sleeps, in rounds. libgomp's own 300,000 rounds make a
// step 1.7 times slower as soon as anything else runs on the same cores, and many times slower on a busy machine;
// 10,000 cost nothing that could be measured on an idle one. libgomp reads this when it is loaded, so the launcher has
// to say it.
constexpr const char* kSpinCount = "GOMP_SPINCOUNT=10000";

std::vector<std::string> worker_environment() {
  const std::string prefix = std::string(kEventsVariable) + "=";
  std::vector<std::string> out;
  bool user_decided = false;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view variable = *entry;
    if (!variable.starts_with(prefix)) out.emplace_back(variable);
    user_decided = user_decided || variable.starts_with("GOMP_SPINCOUNT=") || variable.starts_with("OMP_WAIT_POLICY=");
  }
  out.push_back(prefix + std::to_string(kEventsFd));
  if (!user_decided) out.emplace_back(kSpinCount);
  return out;
}

// All that the child needs, made before the fork: between fork and exec it may call async-signal-safe functions only
// (signal-safety(7)).
struct ChildPlan {
  const char* executable;
  char* const* arguments;
  char* const* environment;
  pid_t parent;
  int input;
  int log;
  int events;
  int gate;
  int exec_error;
  sigset_t mask;
};

[[noreturn]] void run_child(const ChildPlan& plan) {
  setpgid(0, 0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_IGN) ::signal(signal, SIG_DFL);
  }
  // Writing an event after the launcher's death must not end the worker before it has checkpointed.
  ::signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != plan.parent) _exit(127);  // it died before the line above
  sigprocmask(SIG_SETMASK, &plan.mask, nullptr);

  char go = 0;
  ssize_t got = 0;
  do {
    got = read(plan.gate, &go, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) _exit(127);

  const bool placed = dup2(plan.input, STDIN_FILENO) >= 0 && dup2(plan.log, STDOUT_FILENO) >= 0 &&
                      dup2(plan.log, STDERR_FILENO) >= 0 && dup2(plan.events, kEventsFd) >= 0;
  if (placed) execve(plan.executable, plan.arguments, plan.environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(plan.exec_error, &error, sizeof(error));
  _exit(127);
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileDescriptor::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

ChildProcess::ChildProcess(const WorkerCommand& command) : executable_(command.executable.string()) {
  const std::string log_path = command.log_file.string();
  log_ = above_events(FileDescriptor(open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)),
                      "opening the worker's log " + log_path);
  const FileDescriptor input =
      above_events(FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)), "opening /dev/null");
  Pipe events = make_pipe();
  gate_ = make_pipe();
  Pipe exec_error = make_pipe();
  fcntl(events.read_end.get(), F_SETFL, O_NONBLOCK);

  std::vector<std::string> arguments = {"trivet"};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  std::vector<std::string> environment = worker_environment();
  const std::vector<char*> argument_pointers = pointers(arguments);
  const std::vector<char*> environment_pointers = pointers(environment);
  ChildPlan plan{
      executable_.c_str(),    argument_pointers.data(), environment_pointers.data(), getpid(), input.get(), log_.get(),
      events.write_end.get(), gate_.read_end.get(),     exec_error.write_end.get(),  {}};

  // Our handlers must not run in the child: they would write into this process's pipe.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &plan.mask);
  pid_ = fork();
  const int fork_error = errno;
  if (pid_ == 0) run_child(plan);
  pthread_sigmask(SIG_SETMASK, &plan.mask, nullptr);
  if (pid_ < 0) fail("starting the worker process", fork_error);

  setpgid(pid_, pid_);  // in both processes, so that the group is there for whichever comes first
  // glibc 2.36 declares pidfd_open without C linkage, so C++ cannot call it by name.
  exit_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  events_ = std::move(events.read_end);
  exec_error_ = std::move(exec_error.read_end);
}

ChildProcess::~ChildProcess() {
  if (pid_ <= 0 || collected_) return;
  signal_group(SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::open_gate() {
  const char go = 1;
  if (write(gate_.write_end.get(), &go, 1) != 1) fail("starting the worker", errno);
  // Closed by a successful exec.
  int error = 0;
  ssize_t got = 0;
  do {
    got = read(exec_error_.get(), &error, sizeof(error));
  } while (got < 0 && errno == EINTR);
  exec_error_.close();
  if (got == sizeof(error)) fail("running the worker " + executable_, error);
}

void ChildProcess::signal_group(int signal) const { kill(-pid_, signal); }

std::optional<int> ChildProcess::collect() {
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
    return std::nullopt;
  }
  signal_group(SIGKILL);
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) return std::nullopt;
  collected_ = true;
  return status;
}

}  // namespace trivet
