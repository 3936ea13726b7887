#include "runtime/comm/call.h"

#include <cstring>

#include "runtime/comm/sum.h"
#include "trivet/base/error.h"

namespace trivet::comm {
namespace {

constexpr std::int64_t kLineBytes = 64;

// One rank by itself: every sum is what it was, but what cannot be reduced is refused as elsewhere.
class LocalCommunicator : public NumberedCommunicator {
 public:
  LocalCommunicator() : NumberedCommunicator(0, 1, milliseconds(0)) {}

  std::string kind() const override { return "local"; }

  void all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp) override {
    begin_call("all_reduce");
    check_reducible(dtype);
    const PieceList checked(pieces, dtype);
  }
  void reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int) override { all_reduce(pieces, dtype, op); }
  void reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp) override {
    begin_call("reduce_scatter");
    check_reducible(dtype);
    copy(in, out, static_cast<std::size_t>(elements) * dtype_size(dtype));
  }
  void all_gather(const void* in, void* out, std::size_t bytes) override {
    begin_call("all_gather");
    copy(in, out, bytes);
  }
  void broadcast(void*, std::size_t, int) override { begin_call("broadcast"); }
  void barrier() override { begin_call("barrier"); }

  void abort(const std::string& reason) noexcept override {
    const std::lock_guard lock(mutex_);
    if (reason_.empty()) reason_ = "failed: " + reason;
  }
  std::optional<Verdict> verdict() override {
    const std::lock_guard lock(mutex_);
    return reason_.empty() ? std::nullopt : std::optional(Verdict{0, reason_});
  }
  Verdict blame(const std::string& text) override { return verdict().value_or(Verdict{0, text}); }

 private:
  void begin_call(const char* operation) {
    begin(operation);
    const std::lock_guard lock(mutex_);
    if (!reason_.empty()) fail({0, reason_});
  }
  static void copy(const void* in, void* out, std::size_t bytes) {
    if (in != out && bytes > 0) std::memmove(out, in, bytes);
  }

  std::mutex mutex_;
  std::string reason_;
};

}  // namespace

void NumberedCommunicator::check_root(int root) const {
  if (root < 0 || root >= size_) throw Error(ErrorCode::usage, fmt::format("root is rank {} of {}", root, size_));
}

void NumberedCommunicator::begin(const char* operation) {
  ++number_;
  operation_ = operation;
  if (failure_) {
    throw Error(ErrorCode::rank,
                fmt::format("rank {} of {}: {}, call {}, cannot begin after an earlier one has failed: {}", rank_,
                            size_, operation, number_, *failure_));
  }
  until_ = Clock::now() + deadline_;
}

void NumberedCommunicator::fail(const char* operation, std::uint64_t number, const Verdict& verdict) {
  failure_ = to_string(verdict);
  throw Error(ErrorCode::rank,
              fmt::format("rank {} of {}: {}, call {}: {}", rank_, size_, operation, number, *failure_),
              verdict.rank >= 0 && verdict.rank != rank_ ? fmt::format("look into the log of rank {}", verdict.rank)
                                                         : std::string());
}

PieceList::PieceList(std::span<const Piece> pieces, DType dtype)
    : pieces_(pieces), starts_{0}, element_bytes_(dtype_size(dtype)) {
  for (const Piece& piece : pieces) {
    if (piece.elements < 0 || (piece.elements > 0 && piece.data == nullptr)) {
      throw Error(ErrorCode::internal, fmt::format("a piece of {} elements{}", piece.elements,
                                                   piece.data == nullptr ? " without memory" : ""));
    }
    starts_.push_back(starts_.back() + piece.elements);
  }
}

Parts::Parts(std::int64_t all, int ranks, std::size_t element_bytes) : elements(all) {
  const std::int64_t line = kLineBytes / static_cast<std::int64_t>(element_bytes);
  const std::int64_t even = (all + ranks - 1) / ranks;
  length = (even + line - 1) / line * line;
}

std::unique_ptr<Communicator> local_communicator() { return std::make_unique<LocalCommunicator>(); }

}  // namespace trivet::comm
