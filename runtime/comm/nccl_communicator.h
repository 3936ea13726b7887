// Collectives of devices through NCCL, and those of a plan's run.
//
// A call is put on a stream of its own and goes on beside the host and the stream that computes. Two events stand
// before and behind it: from the first on, when this rank's part is there, the call has until the deadline to reach the
// second. The host looks at them before it waits for the device; past the deadline it aborts NCCL, which ends what
// waits on the device, and the communicator of the hosts finds out whose fault it is.
#pragma once

#include <deque>
#include <map>
#include <mutex>

#include "runtime/comm/call.h"
#include "trivet/exec/collectives.h"
#include "trivet/exec/device.h"

namespace trivet::comm {

class NcclCommunicator final : public NumberedCommunicator, public Collectives {
 public:
  // Collective over `host`. Returns when all devices have joined.
  NcclCommunicator(std::shared_ptr<const Device> device, std::shared_ptr<Communicator> host);
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;
  ~NcclCommunicator() override;

  std::string kind() const override { return "nccl"; }
  void all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) override;
  void reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) override;
  void reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) override;
  void all_gather(const void* in, void* out, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void barrier() override;
  void abort(const std::string& reason) noexcept override;
  std::optional<Verdict> verdict() override { return host_->verdict(); }
  Verdict blame(const std::string& text) override { return host_->blame(text); }

  void start_sum(int number, std::span<const kernels::View> views, Stream& stream) override;
  void start_reduce(int number, int root, std::span<const kernels::View> views, Stream& stream) override;
  void start_broadcast(int number, int root, std::span<const kernels::View> views, Stream& stream) override;
  void wait(int number, Stream& stream) override;
  void finish(Stream& stream) override;
  void settle() override;

 private:
  // Events of a call. `given`: what it is about is there.
  struct Marks {
    explicit Marks(const Device& device);
    std::unique_ptr<Event> given, begun, done;
  };
  // On the stream, and not known to be done.
  struct Running {
    const char* operation;
    std::uint64_t number;
    Marks* marks;
    std::optional<TimePoint> since;  // when it was seen to have begun
  };
  struct Waiting {
    RanksCall call;
    std::vector<DevicePiece> pieces;
    const char* operation;
  };

  void start(int number, Waiting call, Stream& stream);
  void put(const RanksCall& call, const char* operation, Marks& marks);
  void make(const RanksCall& call, const char* operation);
  void wait_until_ready(const char* operation, std::uint64_t number, TimePoint until);
  bool is_ready(const char* operation, std::uint64_t number);
  bool is_done(Running& call);
  void look_at_others(const char* operation, std::uint64_t number);
  [[noreturn]] void give_up(const char* operation, std::uint64_t number, const Verdict& verdict);
  [[noreturn]] void give_up_late(const char* operation, std::uint64_t number);
  [[noreturn]] void give_up_after(const std::exception& failure, const char* operation, std::uint64_t number);
  void abort_ranks() noexcept;

  const std::shared_ptr<const Device> device_;
  const std::shared_ptr<Communicator> host_;
  std::unique_ptr<Stream> stream_;
  std::mutex mutex_;  // of the next two: abort() may come from another thread
  std::unique_ptr<DeviceRanks> ranks_;
  bool aborted_ = false;
  TimePoint looked_;  // at the other ranks
  std::deque<Running> running_;
  Marks own_marks_;
  std::unique_ptr<DeviceMemory> scratch_;
  // Of a plan's run: calls that were started before their turn, the number of the next, and marks by number.
  std::map<int, Waiting> waiting_;
  int next_ = 0;
  std::deque<Marks> marks_;
};

}  // namespace trivet::comm
