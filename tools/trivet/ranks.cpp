#include "tools/trivet/ranks.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>

#include "trivet/base/error.h"
#include "trivet/exec/device.h"
#include "trivet/exec/plugins.h"

namespace trivet::cli {

LocalRanks::LocalRanks(const JobSpec& spec, const std::filesystem::path& directory,
                       std::function<void(const std::string&)> failed)
    : failed_(std::move(failed)) {
  if (const auto place = rank_place()) {
    place_ = *place;
  } else if (spec.ranks > 1) {
    place_ = local_place(spec.ranks);
    device_of(spec, place_);  // refused here once, not by each rank
    processes_.emplace(place_, std::vector<std::string>{"worker", "--directory", directory.string(), "--ranks",
                                                        std::to_string(spec.ranks)});
    watcher_ = std::thread([this] { watch(); });
  }
}

void LocalRanks::finish() {
  done_ = true;
  if (watcher_.joinable()) watcher_.join();
}

// Ranks learn of each other's end while they train; before and after that only this thread sees it.
void LocalRanks::watch() {
  constexpr std::chrono::milliseconds kPause(50);
  constexpr int kPatience = 8;  // pauses in which this process may find a better reason
  for (int patience = kPatience; !done_ && patience > 0; std::this_thread::sleep_for(kPause)) {
    if (processes_->failed()) --patience;
  }
  if (!done_) failed_(*processes_->failed());
}

std::string device_of(const JobSpec& spec, const RankPlace& place) {
  if (spec.device != "cuda" || place.size == 1) return spec.device;
  const int gpus = count_gpus();
  if (gpus == 0) return spec.device;  // whoever opens it is told why
  const bool started_here = spec.ranks > 1;
  if (gpus == 1 && !started_here) return "cuda:0";  // as Slurm and Kubernetes show it; NCCL tells if it is the same one
  if (place.local_rank < gpus && (place.local_size <= gpus || !started_here)) {
    return fmt::format("cuda:{}", place.local_rank);
  }
  throw Error(ErrorCode::usage,
              fmt::format("{} ranks of this machine need a GPU each, and there {} {}", place.local_size,
                          gpus == 1 ? "is" : "are", gpus),
              "take as many ranks as there are GPUs; `trivet doctor` lists them");
}

// CPU threads of a rank.
int threads_of(const JobSpec& spec, const RankPlace& place) {
  return spec.threads > 0 ? spec.threads : std::max(1, available_cores() / place.local_size);
}

std::shared_ptr<Communicator> join_ranks(const JobSpec& spec, const RankPlace& place, RunLog& log) {
  if (spec.ranks > 1 && spec.ranks != place.size) {
    throw Error(ErrorCode::usage, fmt::format("the job has ranks: {}, and {} were started", spec.ranks, place.size),
                "leave ranks out of the job where something else starts them");
  }
  if (place.size == 1) return nullptr;
  CommunicatorOptions options;
  options.rank = place.rank;
  options.size = place.size;
  options.address = place.address;
  options.port = place.port;
  options.token = place.token;
  options.deadline = std::chrono::seconds(spec.rank_deadline);
  if (const char* kind = std::getenv("TRIVET_COMMUNICATOR"); kind && *kind != 0) options.kind = kind;
  std::shared_ptr<Communicator> others = join(options);
  log.line(fmt::format("{} ranks have joined by {}", others->size(), others->kind()));
  return others;
}

}  // namespace trivet::cli
