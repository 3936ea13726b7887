// What the ranks of a run say to each other. Every call is collective: all ranks make the same calls in the same order,
// with the same sizes, and each returns when its own part is done. Not thread-safe: one call at a time, abort() alone
// may come from any thread at any time.
//
// A rank that does not come within the deadline, ends or aborts makes the call throw Error(rank) on all others. The
// message names this rank, the operation, its number in the order of calls, and the rank that failed where it is known.
// After an error every further call throws.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "trivet/exec/device_ranks.h"
#include "trivet/kernels/view.h"

namespace trivet {

// A piece of what is reduced. Pieces of one call are one message: `data` is read and written.
struct Piece {
  void* data = nullptr;
  std::int64_t elements = 0;
};

// Whose fault it is that the run fails (-1: not known), and what happened, as the end of a sentence: after "rank 2 " if
// the rank is known.
struct Verdict {
  int rank = -1;
  std::string text;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string kind() const = 0;  // "shm", "gloo", "nccl"; "local": one rank by itself

  // All pieces, element by element. f32, f64, bf16 (sums in f32, rounded once), i32 and i64. Sums are made in a
  // balanced tree over the ranks, ((r0 + r1) + (r2 + r3)) + ..., so they have the same bits on all ranks and every
  // time, and on n ranks the bits of a tree over 2n ranks whose neighbours were added before.
  virtual void all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) = 0;
  // As all_reduce(), for rank `root` alone: what the pieces of the others hold afterwards is not defined.
  virtual void reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) = 0;
  // `in` has size() parts of `elements` each; part r of the sum goes to `out` of rank r. Summed as all_reduce() does.
  virtual void reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) = 0;
  // `out` has size() parts of `bytes` each; part r is `in` of rank r, which may be that part of `out` itself.
  virtual void all_gather(const void* in, void* out, std::size_t bytes) = 0;
  virtual void broadcast(void* data, std::size_t bytes, int root) = 0;
  virtual void barrier() = 0;

  // Tells the other ranks to stop waiting; they see `reason` (at most 1000 bytes of it) in their errors. To be called
  // by a rank that fails. A call of this rank that another thread is in ends with an error, too.
  virtual void abort(const std::string& reason) noexcept = 0;

  virtual std::chrono::milliseconds deadline() const = 0;  // of each call
  // For what ranks do together by other means, between their calls here: the verdict, if one of them has ended or told
  // the others to stop.
  virtual std::optional<Verdict> verdict() = 0;
  // The same when that did not come to its end in time: finds out with the other ranks, all of which do likewise, whose
  // fault it is; those that do not are at fault. `text` is what is then said of them.
  virtual Verdict blame(const std::string& text) = 0;
};

struct CommunicatorOptions {
  int rank = 0;
  int size = 1;
  // "shm": the ranks are processes of this host. "gloo": TCP. "auto": shm if all ranks are on one host, else gloo.
  std::string kind = "auto";
  // Where rank 0 listens and the others find it: an IP address or a name. free_port() finds a port.
  std::string address = "127.0.0.1";
  int port = 0;
  // Tells this run from others, and an attempt from the one before: ranks with another token are turned away.
  std::string token;
  std::string interface_address;  // gloo listens here; empty: the address by which rank 0 is reached
  std::chrono::milliseconds join_deadline{60'000};
  std::chrono::milliseconds deadline{60'000};  // of each call
};

// Returns when all ranks have joined. Error(usage) for options that make no sense, Error(rank) if ranks do not come:
// the message lists those that are missing. With gloo the process ignores SIGPIPE from then on, unless it handles it.
std::unique_ptr<Communicator> join(const CommunicatorOptions& options);

inline constexpr int kMaxRanks = 1024;

// For who starts ranks on this machine: a TCP port that nobody uses now, and a token that nobody can guess. Another
// program may take the port before rank 0 does; join() then waits for it until its deadline.
int free_port();
std::string random_token();

}  // namespace trivet
