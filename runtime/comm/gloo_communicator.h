// Collectives over TCP, through Gloo's pairs of sockets.
//
// Gloo's own all-reduce adds in the order of its rings; here only its sends and receives are used, and the sums are
// made in the tree that communicator.h promises, so they have the bits of ShmCommunicator. Short messages go to all
// ranks, each of which adds them; of long ones each rank gets its part from all, adds it, and sends the sum to all.
#pragma once

#include <atomic>

#include "runtime/comm/call.h"

namespace gloo::rendezvous {
class Context;
}

namespace trivet::comm {

class GlooCommunicator : public NumberedCommunicator {
 public:
  // Connects with all ranks. `server`: rank 0's, which lives as long as this.
  GlooCommunicator(const CommunicatorOptions& options, std::unique_ptr<RendezvousServer> server,
                   std::unique_ptr<RendezvousClient> client, TimePoint join_deadline);
  ~GlooCommunicator() override;

  std::string kind() const override { return "gloo"; }
  void all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) override;
  void reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) override;
  void reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) override;
  void all_gather(const void* in, void* out, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void barrier() override;
  void abort(const std::string& reason) noexcept override;
  std::optional<Verdict> verdict() override { return client_->verdict(); }
  Verdict blame(const std::string& text) override { return client_->report(ReportKind::late, -1, text); }

 private:
  class Exchange;
  struct Round;

  void begin_call(const char* operation, std::uint64_t digest);
  // For rank `root` alone, or kAllRanks.
  void reduce_message(const PieceList& message, DType dtype, ReduceOp op, int root);
  void reduce_small(const PieceList& message, DType dtype, ReduceOp op, int root);
  void reduce_large(const PieceList& message, DType dtype, ReduceOp op, int root);
  void send_parts(Round& round, const PieceList& message);
  void reduce_part(Round& round, DType dtype, ReduceOp op, int root);
  void take_parts(Round& round, const PieceList& message, int root);
  [[noreturn]] void fail_with(int peer, const std::string& what);
  void interrupt();  // what waits, waits no longer
  std::uint64_t next_slot() { return digest_ << 32 | ++exchanges_; }

  const std::unique_ptr<RendezvousServer> server_;
  const std::unique_ptr<RendezvousClient> client_;
  std::shared_ptr<gloo::rendezvous::Context> context_;
  std::mutex mutex_;  // of what follows, and of the transfers of the exchanges
  std::set<Exchange*> running_;
  std::atomic<bool> interrupted_ = false;
  // Of the rounds that overlap; kept, because memory that is new costs more than what is done with it.
  struct Buffers {
    std::vector<std::byte> packed;   // a stretch of the message that does not lie in one piece
    std::vector<std::byte> arrived;  // this rank's part as it came from each rank
  };
  static constexpr std::size_t kRounds = 3;
  Buffers buffers_[kRounds];
  std::uint64_t digest_ = 0;
  std::uint32_t exchanges_ = 0;
};

}  // namespace trivet::comm
