// The ranks of a run: which one this process is, by the words of whoever started it, and starting the others.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace trivet {

// Where a process stands among the ranks of its run.
struct RankPlace {
  int rank = 0;
  int size = 1;
  int local_size = 1;   // ranks on this host, which share its cores
  int local_rank = 0;   // among these; the GPU with that number is its own
  std::string address;  // where rank 0 is found
  int port = 0;
  std::string token;  // tells this attempt's ranks from those of others
};

// Who says so, and by which variables of the environment:
//   Trivet      TRIVET_RANK, TRIVET_RANKS, TRIVET_LOCAL_RANKS, TRIVET_ADDRESS, TRIVET_PORT, TRIVET_TOKEN,
//               TRIVET_LOCAL_RANK
//   torchrun    RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RUN_ID,
//               TORCHELASTIC_RESTART_COUNT (docs.pytorch.org/docs/stable/elastic/run.html); so does Kubeflow's
//               PyTorchJob
//   Slurm       SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_STEP_TASKS_PER_NODE, SLURM_STEP_NODELIST (its first host is
//   rank 0's),
//               SLURM_LOCALID, SLURM_JOB_ID, SLURM_STEP_ID, SLURM_RESTART_COUNT (slurm.schedmd.com/srun.html);
//               MASTER_ADDR and MASTER_PORT if they are set, else a port between 20000 and 39999 that the job's number
//               gives
//   Kubernetes  JOB_COMPLETION_INDEX of an indexed Job, with WORLD_SIZE, MASTER_ADDR and MASTER_PORT from its template
// A rank whose place on its host nobody tells has the rest of rank / local_size: hosts are filled one after the other.
// Nothing if nobody started several. Error(usage) for a value that is missing or makes no sense.
// `get` reads a variable; null if it is not set.
std::optional<RankPlace> rank_place(const std::function<const char*(const char*)>& get);
std::optional<RankPlace> rank_place();  // of this process's environment

// A place for rank 0 of a run whose ranks are all on this host: a port that was free just now, and a new token.
RankPlace local_place(int size);

// The other ranks of this host, started by rank 0 as this same program with the same arguments. They are in its process
// group, and the kernel kills them when the thread that started them ends.
class RankProcesses {
 public:
  // Starts ranks 1 to place.size - 1. Error(io) if one cannot be started.
  RankProcesses(const RankPlace& place, const std::vector<std::string>& arguments);
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;
  ~RankProcesses();  // kills those that are left

  // The first that has ended other than with exit code 0 or 75 (interrupted), and how: "rank 2 was ended by SIGKILL".
  std::optional<std::string> failed();
  // Returns when all have ended.
  void wait();

 private:
  struct Child {
    pid_t pid = 0;
    int rank = 0;
    bool ended = false;
  };
  void collect(Child& child, int options);

  std::vector<Child> children_;
  std::optional<std::string> failure_;
};

}  // namespace trivet
