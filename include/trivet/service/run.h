// The scheduler of one machine: runs a job at once, as a worker process, and records what became of it.
//
// The worker is this same program, called as `worker --directory DIR [--resume] [--ranks N]`. It finds the resolved job
// file in DIR/job.yaml; its output is in DIR/worker.log.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trivet/launcher/events.h"
#include "trivet/store/store.h"

namespace trivet {

inline constexpr const char* kJobFileName = "job.yaml";
inline constexpr const char* kWorkerLogName = "worker.log";

struct RunRequest {
  std::string name;
  std::string kind;
  std::string resolved_yaml;  // the whole job file, every default written out
  int restarts = 0;           // attempts that follow by themselves one whose process was killed or lost a rank
};

// What the caller shows meanwhile. An exception from a member ends the attempt: FAILED, with its message as the reason.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void on_started(const JobRecord& job) = 0;  // RUNNING
  virtual void on_event(const WorkerEvent& event) = 0;
  virtual void on_interrupt(int signal, bool forced) = 0;  // see WorkerObserver
};

struct RunResult {
  JobRecord job;      // ended
  int exit_code = 0;  // for this process: the worker's own, or 128 + the signal that ended the worker
};

struct RunOptions {
  std::filesystem::path worker_executable = "/proc/self/exe";
  int ranks = 0;  // of the attempts of resume_job(); 0: as the job says
};

// Records a job, makes its folder and its job file, and runs its first attempt to the end, which is recorded as
//   COMPLETED  exit code 0
//   CANCELLED  exit code 75 ("interrupted, checkpointed"), or killed after this process was asked to end
//   FAILED     otherwise, with the exit code or signal and the worker's error in `reason`
// Throws Error(io) if the workspace or the worker cannot be used; a job that exists by then is FAILED with that reason.
RunResult run_job(Store& store, const RunRequest& request, RunObserver& observer, const RunOptions& options = {});

// The same for another attempt of a job that is FAILED or CANCELLED or whose processes have vanished, from its last
// checkpoint. Error(state), with what to do, if it is in another state, or if its job file is gone or was changed.
// `restarts` as in RunRequest.
RunResult resume_job(Store& store, const std::string& id, int restarts, RunObserver& observer,
                     const RunOptions& options = {});

// Marks FAILED ("process vanished") the attempts that are PENDING or RUNNING although neither their worker nor the
// process that launched them is there any more: after a power cut or a SIGKILL. Returns those jobs.
std::vector<JobRecord> recover(Store& store);

}  // namespace trivet
