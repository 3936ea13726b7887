// Collectives of processes of one host, through memory that they share.
//
// A message is cut into chunks, and a chunk into a part for each rank. Each rank puts the parts of the others into a
// slot of its own (stage), adds up its own part from its memory and the slots of the others (reduce), leaves the sum in
// its slot, where that part is not used, and takes the other parts from there (take). These steps follow each other
// chunk by chunk, so that a rank seldom waits; all ranks do them in the same order, so that a step is known by its
// number.
#pragma once

#include "runtime/comm/call.h"
#include "runtime/comm/shm_segment.h"

namespace trivet::comm {

class ShmCommunicator : public NumberedCommunicator {
 public:
  // When all ranks have mapped the segment. Waits until all are here.
  ShmCommunicator(int rank, int size, milliseconds deadline, std::unique_ptr<ShmSegment> segment);
  ~ShmCommunicator() override;

  std::string kind() const override { return "shm"; }
  void all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) override;
  void reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) override;
  void reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) override;
  void all_gather(const void* in, void* out, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void barrier() override;
  void abort(const std::string& reason) noexcept override;
  std::optional<Verdict> verdict() override;
  Verdict blame(const std::string& text) override;

 private:
  struct Chunk {
    std::size_t slot = 0;
    std::uint32_t staged = 0, reduced = 0;  // numbers of these steps
  };

  // Begins a call; `digest` is the same on all ranks if they make the same one.
  void begin_call(const char* operation, std::uint64_t digest);
  // For rank `root` alone, or kAllRanks.
  void reduce_message(const PieceList& message, DType dtype, ReduceOp op, int root);
  void reduce_small(const PieceList& message, DType dtype, ReduceOp op, int root);
  void reduce_large(const PieceList& message, DType dtype, ReduceOp op, int root);
  std::byte* mine(const Chunk& chunk) const { return segment_->slot(rank(), chunk.slot); }
  std::byte* of(int peer, const Chunk& chunk) const { return segment_->slot(peer, chunk.slot); }

  Chunk next_chunk();                // waits until nobody reads this rank's next slot any more
  std::uint32_t signal();            // one step more is done; returns its number
  void release(const Chunk& chunk);  // the others' slots of this chunk are read
  void wait(int peer, std::uint32_t step);
  void wait_all(std::uint32_t step);
  void sleep(int peer, std::uint32_t step);
  void check_call(int peer);
  void check_peer(int peer, std::uint32_t step);
  [[noreturn]] void fail_late(int peer);
  std::optional<Verdict> fault_of(int peer) const;
  Verdict published() const;
  [[noreturn]] void fail_as_published() { fail(published()); }
  void publish(const Verdict& verdict) noexcept;

  const std::unique_ptr<ShmSegment> segment_;
  const int spins_;
  std::uint32_t steps_ = 0;
  std::size_t chunks_ = 0;
  std::uint32_t free_at_[kSlots] = {};  // the step with which a slot is free again
  std::uint32_t first_step_ = 0;        // of the call
};

}  // namespace trivet::comm
