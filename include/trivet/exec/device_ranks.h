// Ranks whose devices speak with each other without the host, as GPUs do through NCCL: a call is put on a stream and
// goes on beside the host. All ranks make the same calls in the same order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "trivet/kernels/view.h"

namespace trivet {

class Stream;

enum class ReduceOp { sum, max, min };

inline constexpr std::size_t kRanksIdBytes = 128;  // of Asynchronous::make_ranks_id()

enum class RanksOperation { all_reduce, reduce, reduce_scatter, all_gather, broadcast };

// What a call is about. `elements` are those of `in`, but of a reduce_scatter those of `out`: each rank has a part of
// so many in the larger one. Both may be the same memory, or the rank's own part of it.
struct DevicePiece {
  const void* in = nullptr;
  void* out = nullptr;
  std::int64_t elements = 0;
};

struct RanksCall {
  RanksOperation operation = RanksOperation::all_reduce;
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;  // of the reductions
  int root = 0;                 // of reduce and broadcast
  std::span<const DevicePiece> pieces;
};

// One rank of them. Not thread-safe. What fails is Error(internal) with the library's reason.
class DeviceRanks {
 public:
  virtual ~DeviceRanks() = default;
  // Puts the call on the stream, all pieces as one. To be made when is_ready().
  virtual void call(const RanksCall& call, Stream& stream) = 0;
  // False while the ranks still connect, or the last call is still being put on its stream.
  virtual bool is_ready() = 0;
  // Ends what goes on; nothing else can be done after it.
  virtual void abort() noexcept = 0;
};

}  // namespace trivet
