// The record of every job of a workspace, in one SQLite file: what was submitted, each attempt to run it, how it ended.
//
// Promises:
//  - a change is in the file, synced, when the call that makes it returns (WAL, synchronous=FULL): neither a killed
//    process nor a power cut takes it back, and an unfinished change leaves no trace;
//  - the end of an attempt is written once; the database itself refuses a second one (a trigger);
//  - several processes may use the store at the same time; each change is one transaction.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/store/process.h"

namespace trivet {

// Seconds since 1970-01-01 00:00 UTC.
using Clock = std::function<double()>;
double system_seconds();

// Slurm's words for the states of a job (squeue(1), JOB STATE CODES).
enum class JobState { pending, running, completed, failed, cancelled };

const char* job_state_name(JobState state);  // "PENDING", "RUNNING", ...
bool is_terminal(JobState state);

// A job with its latest attempt.
struct JobRecord {
  std::string id;                   // "r0001", counted
  std::string name;                 // as in the job file; several jobs may share one
  std::string kind;                 // "train", "infer", ...
  std::filesystem::path directory;  // <workspace>/<id>-<name>
  std::string spec_digest;          // SHA-256 of the resolved job file, hex
  double created = 0;               // seconds since 1970

  int attempt = 1;  // counts from 1
  JobState state = JobState::pending;
  std::string reason;             // why it is in this state; may be empty
  std::optional<double> started;  // of this attempt
  std::optional<double> ended;
  std::optional<int> exit_code;  // of the worker, if it ended by itself
  ProcessId owner;               // the process that launches the attempt and records its end
  ProcessId worker;              // {0, 0} before the start
};

struct NewJob {
  std::string name;
  std::string kind;
  std::string spec_digest;
};

// `flag` if not empty, else the environment's TRIVET_WORKSPACE, else "runs" in the current folder.
std::filesystem::path workspace_path(std::string_view flag);

// Whether the workspace has a store; commands that only read ask first, so that they make nothing.
bool has_store(const std::filesystem::path& workspace);

// For use by one thread at a time. Every member throws Error(io), with the file and the reason, for what the file
// system or SQLite refuses: no permission, a full disk, a damaged file, another process that holds the file too long.
class Store {
 public:
  // Opens `<workspace>/trivet.db`, making both if needed. Throws Error(io) for a file that is no store, and for one
  // written by a newer version of the program.
  explicit Store(std::filesystem::path workspace, Clock clock = system_seconds);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  const std::filesystem::path& workspace() const { return workspace_; }

  // A PENDING job with a new id and attempt 1. The name becomes part of a folder's name: Error(job) unless it has 1 to
  // 100 characters of "A-Z a-z 0-9 . _ -" and begins with a letter or a digit.
  JobRecord create_job(const NewJob& job, const ProcessId& owner);

  // The next attempt of a job whose last one FAILED or was CANCELLED, PENDING. Error(state) otherwise; of two callers
  // at the same time one gets it.
  JobRecord begin_attempt(const std::string& id, const ProcessId& owner);

  // PENDING -> RUNNING. Error(state) if that attempt is not the job's last or is not PENDING.
  void mark_started(const std::string& id, int attempt, const ProcessId& worker);

  // PENDING or RUNNING -> a terminal state. Error(state) if that attempt has ended already or is not the last.
  void mark_ended(const std::string& id, int attempt, JobState state, const std::string& reason,
                  std::optional<int> exit_code);

  // Error(usage) if there is no job with exactly this id.
  JobRecord get(const std::string& id);

  // What a person typed: an id, a name that one job has, or the beginning of one job's id or name. Error(usage) if no
  // job fits (with the nearest name) or several do (with their ids).
  JobRecord find(const std::string& text);

  // Every job, in the order of creation.
  std::vector<JobRecord> list();

 private:
  struct Impl;
  std::filesystem::path workspace_;
  Clock clock_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trivet
