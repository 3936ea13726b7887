// The other ranks of a training run, from the point of view of a worker.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "trivet/comm/communicator.h"
#include "trivet/job/spec.h"
#include "trivet/launcher/ranks.h"
#include "trivet/train/run_log.h"

namespace trivet::cli {

// The ranks of a run as its rank 0 has them: started by it on this host if the job says how many, else those that
// something else started, or none.
class LocalRanks {
 public:
  // `failed` is called, by a thread, if a rank ended before its time and this process has not noticed for a while: it
  // should end the process.
  LocalRanks(const JobSpec& spec, const std::filesystem::path& directory,
             std::function<void(const std::string&)> failed);
  LocalRanks(const LocalRanks&) = delete;
  LocalRanks& operator=(const LocalRanks&) = delete;
  ~LocalRanks() { finish(); }

  const RankPlace& place() const { return place_; }
  // All have done their work, or this rank has failed: from now on they may end.
  void finish();

 private:
  void watch();

  std::function<void(const std::string&)> failed_;
  RankPlace place_;
  std::optional<RankProcesses> processes_;
  std::atomic<bool> done_{false};
  std::thread watcher_;
};

// The device of a rank: with several ranks and `device: cuda`, each has the GPU of its place on its host, or the only
// one that it is shown. Error(usage) if there are too few.
std::string device_of(const JobSpec& spec, const RankPlace& place);

// CPU threads of a rank.
int threads_of(const JobSpec& spec, const RankPlace& place);

// Null for a run of one rank. Error(rank) if the others do not come.
std::shared_ptr<Communicator> join_ranks(const JobSpec& spec, const RankPlace& place, RunLog& log);

// Works as a rank other than 0 until the run ends; the process's exit code. It writes no files: what it has to say
// stands in rank 0's errors and on standard error.
int work_as_rank(const JobSpec& spec, const RankPlace& place);

}  // namespace trivet::cli
