// What a rank of a training run has to do with the others. A run of one rank has the same calls, which do nothing.
// Private to this folder.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trivet/comm/communicator.h"
#include "trivet/comm/device_communicator.h"
#include "trivet/exec/collectives.h"
#include "trivet/exec/session.h"
#include "trivet/train/checkpoint.h"
#include "trivet/train/plans.h"

namespace trivet {

class Ranks {
 public:
  explicit Ranks(std::shared_ptr<Communicator> communicator);  // null: there are no others

  int rank() const { return communicator_ ? communicator_->rank() : 0; }
  int size() const { return communicator_ ? communicator_->size() : 1; }
  // Rank 0 writes all files and decides what depends on them.
  bool is_root() const { return rank() == 0; }

  // For the arena of the run on that device; null if there are no others. Collective. On a GPU they are NCCL's, and
  // Error(job) if `train` wants sums that NCCL does not make.
  std::shared_ptr<Collectives> collectives(const std::shared_ptr<const Device>& device, const TrainConfig& train);

  // The sum, over all ranks, of rows of `width` numbers each, of which this rank has some: as many on each rank, a
  // power of two. Added in a balanced tree, so the bits do not depend on how many ranks the rows are spread over.
  std::vector<double> sum_rows(std::vector<double> rows, std::size_t width) const;
  // `all` has size() blocks of equal length; this rank's own is filled, the others are filled in.
  void gather(std::span<std::byte> all) const;
  // What rank 0 knows of the run's course, its files aside.
  void share_course(TrainState& state) const;
  // All states of the arena as rank 0 has them; with `sharded` those that every rank has.
  void share_states(Arena& arena, const ShardedStates& sharded) const;
  // Rank 0's word.
  bool agree(bool what) const;
  // Every float parameter as its owner has it.
  void share_from_owners(Arena& arena, const ShardedStates& sharded) const;
  // Rank 0 writes a checkpoint, for which the others give it what they keep of the optimizer's states. Each is in
  // memory for as long as it is written.
  void save(const CheckpointFolder& folder, const Arena& arena, const TrainState& state,
            const ShardedStates& sharded) const;
  // Rank 0 reads the optimizer's states of a checkpoint, of which every rank takes its own.
  void load_optimizer(const CheckpointFolder& folder, std::int64_t step, Arena& arena,
                      const ShardedStates& sharded) const;
  // Error(rank) if `text`, which must be the same on all ranks, is not that of rank 0.
  void require_equal(const std::string& text, const std::string& what) const;
  // Tells the others why this rank cannot go on.
  void abort(const std::string& reason) const noexcept;

 private:
  void broadcast(const Arena& arena, const ShardedStates::Entry& entry, std::span<std::byte> bytes) const;

  std::shared_ptr<Communicator> communicator_;
  std::shared_ptr<Communicator> devices_;  // null: what the device computes is in the memory of the host
};

}  // namespace trivet
