#include "trivet/service/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <optional>
#include <string_view>
#include <system_error>

#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/hash.h"
#include "trivet/base/table.h"
#include "trivet/launcher/local_launcher.h"

namespace trivet {

namespace {

constexpr std::size_t kLargestJobFile = 16 * 1024 * 1024;
constexpr std::size_t kLongestReason = 1000;
constexpr std::streamoff kLogTail = 8 * 1024;
constexpr const char* kCheckpointed = "interrupted, checkpointed";
constexpr const char* kVanished = "process vanished";

struct Outcome {
  JobState state = JobState::failed;
  std::string reason;
  std::optional<int> exit_code;
  int process_exit_code = 0;
};

std::uintmax_t size_of(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  return error ? 0 : size;
}

// The last line with text that was written to the log after its first `from` bytes: what a worker that crashed said.
std::string last_log_line(const fs::path& log, std::uintmax_t from) {
  std::ifstream file(log, std::ios::binary);
  const auto size = static_cast<std::streamoff>(size_of(log));
  file.seekg(std::max({static_cast<std::streamoff>(from), size - kLogTail, std::streamoff{0}}));
  std::string last;
  for (std::string line; std::getline(file, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  return last;
}

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

std::string one_line(const std::string& text) { return std::string(fit_width(printable(text), kLongestReason)); }

Outcome judge(const WorkerEnd& end, const std::string& message) {
  Outcome outcome;
  const auto with_message = [&](const std::string& cause) {
    return message.empty() ? cause : one_line(fmt::format("{}: {}", cause, message));
  };
  if (end.signal != 0) {
    outcome.process_exit_code = 128 + end.signal;
    outcome.state = end.interrupted ? JobState::cancelled : JobState::failed;
    outcome.reason = end.interrupted ? fmt::format("interrupted, ended by {}", signal_name(end.signal))
                                     : with_message(signal_name(end.signal));
    return outcome;
  }
  outcome.exit_code = outcome.process_exit_code = end.exit_code;
  if (end.exit_code == 0) {
    outcome.state = JobState::completed;
  } else if (end.exit_code == kExitInterrupted) {
    outcome.state = JobState::cancelled;
    outcome.reason = kCheckpointed;
  } else {
    outcome.reason = with_message(fmt::format("exit code {}", end.exit_code));
  }
  return outcome;
}

// Between the launcher and the caller: records the attempt's start and end, and keeps the worker's last error for that.
class AttemptObserver : public WorkerObserver {
 public:
  AttemptObserver(Store& store, const JobRecord& job, RunObserver& caller)
      : store_(store), job_(job), caller_(caller), log_before_(size_of(log_file())) {}

  fs::path log_file() const { return job_.directory / kWorkerLogName; }

  void on_start(const ProcessId& worker) override {
    store_.mark_started(job_.id, job_.attempt, worker);
    caller_.on_started(store_.get(job_.id));
  }
  void on_event(const WorkerEvent& event) override {
    if (const auto* error = std::get_if<ErrorEvent>(&event)) error_ = error->text;
    caller_.on_event(event);
  }
  void on_interrupt(int signal, bool forced) override { caller_.on_interrupt(signal, forced); }
  void on_end(const WorkerEnd& end) override {
    const Outcome outcome = judge(end, error_.empty() ? last_log_line(log_file(), log_before_) : error_);
    store_.mark_ended(job_.id, job_.attempt, outcome.state, outcome.reason, outcome.exit_code);
    exit_code_ = outcome.process_exit_code;
  }

  int exit_code() const { return exit_code_; }

 private:
  Store& store_;
  const JobRecord& job_;
  RunObserver& caller_;
  std::uintmax_t log_before_;
  std::string error_;
  int exit_code_ = 0;
};

RunResult launch(Store& store, const JobRecord& job, bool resume, RunObserver& observer, const RunOptions& options) {
  AttemptObserver attempt(store, job, observer);
  WorkerCommand command;
  command.executable = options.worker_executable;
  command.arguments = {"worker", "--directory", job.directory.string()};
  if (resume) command.arguments.push_back("--resume");
  if (options.ranks > 0) command.arguments.insert(command.arguments.end(), {"--ranks", std::to_string(options.ranks)});
  command.log_file = attempt.log_file();
  LocalLauncher().run(command, attempt);
  return {store.get(job.id), attempt.exit_code()};
}

// Whatever goes wrong here is in the record before it is thrown on.
RunResult run_attempt(Store& store, const JobRecord& job, bool resume, RunObserver& observer, const RunOptions& options,
                      const std::function<void()>& make_ready) {
  try {
    make_ready();
    return launch(store, job, resume, observer, options);
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    const std::string reason = one_line(error != nullptr ? error->message() : e.what());
    try {
      store.mark_ended(job.id, job.attempt, JobState::failed, reason, std::nullopt);
    } catch (const Error&) {
      // The first error says more; recover() marks the attempt once this process has ended.
    }
    throw;
  }
}

// Whether another attempt may fare better: the worker was killed, or lost a rank, and nobody asked it to end.
bool may_restart(const RunResult& result) {
  return result.job.state == JobState::failed &&
         (result.exit_code > 128 || result.exit_code == exit_code(ErrorCode::rank));
}

RunResult restart(Store& store, RunResult result, int restarts, RunObserver& observer, const RunOptions& options) {
  for (; restarts > 0 && may_restart(result); --restarts) {
    const JobRecord job = store.begin_attempt(result.job.id, this_process());
    result = run_attempt(store, job, true, observer, options, [] {});
  }
  return result;
}

void make_directory(const JobRecord& job, const std::string& resolved_yaml) {
  std::error_code error;
  if (!fs::create_directory(job.directory, error)) {
    throw Error(ErrorCode::io,
                fmt::format("the folder {} cannot be made: {}", job.directory.string(),
                            error ? error.message() : "it is there already"),
                "move it away, or choose another folder with --workspace");
  }
  sync_directory(job.directory.parent_path());
  write_file_atomic(job.directory / kJobFileName, resolved_yaml);
}

void check_job_file(const JobRecord& job) {
  const fs::path path = job.directory / kJobFileName;
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw Error(ErrorCode::state, fmt::format("job {} cannot be resumed: {} is gone", job.id, path.string()),
                "run its job file anew");
  }
  if (sha256_hex(read_file(path, kLargestJobFile)) != job.spec_digest) {
    throw Error(ErrorCode::state,
                fmt::format("job {} cannot be resumed: {} was changed since the job began", job.id, path.string()),
                "put it back as it was, or run the changed file as a new job");
  }
}

}  // namespace

RunResult run_job(Store& store, const RunRequest& request, RunObserver& observer, const RunOptions& options) {
  const JobRecord job =
      store.create_job({request.name, request.kind, sha256_hex(request.resolved_yaml)}, this_process());
  RunResult result =
      run_attempt(store, job, false, observer, options, [&] { make_directory(job, request.resolved_yaml); });
  return restart(store, std::move(result), request.restarts, observer, options);
}

RunResult resume_job(Store& store, const std::string& id, int restarts, RunObserver& observer,
                     const RunOptions& options) {
  recover(store);
  const JobRecord last = store.get(id);
  if (last.state == JobState::failed || last.state == JobState::cancelled) check_job_file(last);
  const JobRecord job = store.begin_attempt(id, this_process());
  return restart(store, run_attempt(store, job, true, observer, options, [] {}), restarts, observer, options);
}

std::vector<JobRecord> recover(Store& store) {
  std::vector<JobRecord> marked;
  for (const JobRecord& job : store.list()) {
    if (is_terminal(job.state) || is_running(job.owner) || is_running(job.worker)) continue;
    try {
      store.mark_ended(job.id, job.attempt, JobState::failed, kVanished, std::nullopt);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::state) throw;
      continue;  // another process was first
    }
    marked.push_back(store.get(job.id));
  }
  return marked;
}

}  // namespace trivet
