// The program, used as its users do: started as a process in a workspace of its own, watched, signalled, killed.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trivet/store/process.h"

namespace trivet::testing {

namespace fs = std::filesystem;

struct Ended {
  int exit_code = -1;  // if signal is 0
  int signal = 0;
  std::string out;
  std::string err;
};

struct ProgramOptions {
  bool terminal = false;            // standard output and error are one pseudo-terminal; else a pipe each
  std::optional<int> file_limit{};  // bytes: a write beyond it fails with EFBIG, as on a full disk
  fs::path output{};                // if not empty, standard output is this file and not kept
};

// One process `trivet ARGUMENTS`. Destroyed while it runs, it is killed.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  void signal(int number) const;
  void stop() const;     // returns when it stands still or has ended; SIGCONT lets it go on
  bool running() const;  // not collected, and not ended
  // The worker process that it has started, if there is one now.
  std::optional<ProcessId> worker() const;
  // Reads all output and waits for the end.
  Ended wait();

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  bool collected_ = false;
};

// `trivet ARGUMENTS` to its end.
Ended trivet(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

// Until that process is no more; false after half a minute.
bool wait_until_gone(const ProcessId& process);

// Until `condition` holds or the program ends; false if it never held.
bool wait_while_running(const Program& program, const std::function<bool()>& condition);

// A folder with runs, and what programs are told about it.
class Workspace {
 public:
  explicit Workspace(fs::path path) : path_(std::move(path)) {}

  const fs::path& path() const { return path_; }
  // `verb` and its arguments, with --workspace.
  std::vector<std::string> command(std::vector<std::string> arguments) const;
  Ended trivet(const std::vector<std::string>& arguments, const ProgramOptions& options = {}) const;

  // From `trivet runs --json`; empty if there is no workspace yet.
  nlohmann::json runs() const;
  nlohmann::json last_run() const;                    // an empty object if there is none
  fs::path folder(const std::string& id) const;       // of a run
  fs::path checkpoints(const std::string& id) const;  // its checkpoints

 private:
  fs::path path_;
};

// Steps of the checkpoints in a folder, ascending.
std::vector<int> checkpoint_steps(const fs::path& checkpoints);
fs::path checkpoint_path(const fs::path& checkpoints, int step);

void overwrite(const fs::path& path, const std::string& content);
// The last byte of a safetensors file belongs to a tensor's data.
void flip_last_byte(const fs::path& path);

// Entries below `root` that a write leaves which did not end: temporary files, checkpoints being written or removed.
std::vector<fs::path> half_written(const fs::path& root);

// The lines of metrics.jsonl without what differs from one run to the next: times and memory.
std::vector<nlohmann::json> comparable_metrics(const fs::path& run);

// Both runs ended with the same bits: parameters and optimizer of the last checkpoint and of the best, metrics,
// results.
void expect_same_outcome(const fs::path& reference, const fs::path& run);

}  // namespace trivet::testing
