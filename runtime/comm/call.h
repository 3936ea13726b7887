// What all communicators have in common: calls are numbered, have a deadline, and none works after one has failed.
#pragma once

#include "runtime/comm/rendezvous_client.h"
#include "trivet/comm/communicator.h"

namespace trivet::comm {

class NumberedCommunicator : public Communicator {
 public:
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  milliseconds deadline() const override { return deadline_; }

 protected:
  static constexpr int kAllRanks = -1;  // as the root of a reduction
  // Whether this rank is to have what is reduced for `root`.
  bool takes(int root) const { return root == kAllRanks || root == rank_; }

  NumberedCommunicator(int rank, int size, milliseconds deadline, std::uint64_t first_number = 1)
      : rank_(rank), size_(size), deadline_(deadline), number_(first_number - 1) {}

  // Begins the next call. Error(rank) if an earlier one has failed.
  void begin(const char* operation);
  // Error(usage) unless it is one of the ranks.
  void check_root(int root) const;
  // Throws Error(rank) about the call that is going on.
  [[noreturn]] void fail(const Verdict& verdict) { fail(operation_, number_, verdict); }
  // About one that was begun before.
  [[noreturn]] void fail(const char* operation, std::uint64_t number, const Verdict& verdict);

  std::uint64_t number() const { return number_; }
  TimePoint until() const { return until_; }

 private:
  const int rank_, size_;
  const milliseconds deadline_;
  const char* operation_ = "";
  std::uint64_t number_;  // of the call that is going on, or was last
  TimePoint until_;
  std::optional<std::string> failure_;
};

// The pieces of a message as one array of elements.
class PieceList {
 public:
  // Error(internal) if a piece has no memory or a negative number of elements.
  PieceList(std::span<const Piece> pieces, DType dtype);

  std::int64_t elements() const { return starts_.back(); }

  // Calls f(memory, first element, number of elements) for each run of elements of [begin, end) that lies in one piece.
  template <class F>
  void for_range(std::int64_t begin, std::int64_t end, F f) const {
    auto piece = static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin());
    for (; begin < end; ++piece) {
      const std::int64_t count = std::min(end, starts_[piece]) - begin;
      if (count <= 0) continue;
      const std::int64_t offset = begin - starts_[piece - 1];
      f(static_cast<std::byte*>(pieces_[piece - 1].data) + static_cast<std::size_t>(offset) * element_bytes_, begin,
        count);
      begin += count;
    }
  }

 private:
  std::span<const Piece> pieces_;
  std::vector<std::int64_t> starts_;  // of each piece, and the end
  std::size_t element_bytes_;
};

// How a message of `elements` is cut into a part for each rank: parts are equally long but for the last ones, and begin
// at full cache lines.
struct Parts {
  Parts(std::int64_t elements, int ranks, std::size_t element_bytes);

  std::int64_t begin(int rank) const { return std::min(elements, rank * length); }
  std::int64_t end(int rank) const { return begin(rank + 1); }
  std::int64_t count(int rank) const { return end(rank) - begin(rank); }

  std::int64_t elements, length;
};

std::unique_ptr<Communicator> local_communicator();

}  // namespace trivet::comm
