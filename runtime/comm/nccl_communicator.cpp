#include "runtime/comm/nccl_communicator.h"

#include <thread>

#include "runtime/comm/sum.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/comm/device_communicator.h"

namespace trivet::comm {
namespace {

constexpr milliseconds kLook(50);  // how often the other ranks are looked at

const Asynchronous& asynchronous(const Device& device) {
  if (const Asynchronous* beside = device.asynchronous()) return *beside;
  throw Error(ErrorCode::usage, fmt::format("{} has no way to other devices", device.description()),
              "ranks on the CPU speak through shared memory or Gloo");
}

// Between two looks: at first the thread only lets others run, later it sleeps.
class Pause {
 public:
  void operator()() {
    constexpr milliseconds kAwake(2);
    if (Clock::now() - began_ < kAwake) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }

 private:
  TimePoint began_ = Clock::now();
};

std::vector<DevicePiece> pieces_of(std::span<const Piece> pieces, DType dtype) {
  const PieceList checked(pieces, dtype);
  std::vector<DevicePiece> result;
  for (const Piece& piece : pieces) result.push_back({piece.data, piece.data, piece.elements});
  return result;
}

std::vector<DevicePiece> pieces_of(std::span<const kernels::View> views, bool as_bytes) {
  std::vector<DevicePiece> result;
  for (const kernels::View& view : views) {
    result.push_back({view.data, view.data, as_bytes ? static_cast<std::int64_t>(view.bytes()) : view.elements()});
  }
  return result;
}

[[noreturn]] void out_of_order(int number) {
  throw Error(ErrorCode::internal, fmt::format("call {} between ranks was not started before a later one", number));
}

}  // namespace

NcclCommunicator::Marks::Marks(const Device& device)
    : given(asynchronous(device).make_event()),
      begun(asynchronous(device).make_event()),
      done(asynchronous(device).make_event()) {}

NcclCommunicator::NcclCommunicator(std::shared_ptr<const Device> device, std::shared_ptr<Communicator> host)
    : NumberedCommunicator(host->rank(), host->size(), host->deadline(), 0),
      device_(std::move(device)),
      host_(std::move(host)),
      own_marks_(*device_) {
  const Asynchronous& beside = asynchronous(*device_);
  std::string id(kRanksIdBytes, '\0');
  if (rank() == 0) id = beside.make_ranks_id();
  host_->broadcast(id.data(), id.size(), 0);
  begin("join");
  stream_ = device_->make_stream();
  scratch_ = device_->allocate(sizeof(std::int32_t));
  ranks_ = beside.join_ranks(id, rank(), size());
  wait_until_ready("join", number(), until());
}

// A rank that leaves while something still goes on has failed in another place.
NcclCommunicator::~NcclCommunicator() {
  if (!running_.empty()) abort_ranks();
}

void NcclCommunicator::abort_ranks() noexcept {
  const std::lock_guard lock(mutex_);
  if (ranks_ && !aborted_) ranks_->abort();
  aborted_ = true;
}

void NcclCommunicator::abort(const std::string& reason) noexcept {
  host_->abort(reason);
  abort_ranks();
}

void NcclCommunicator::give_up(const char* operation, std::uint64_t number, const Verdict& verdict) {
  abort_ranks();
  running_.clear();
  fail(operation, number, verdict);
}

void NcclCommunicator::give_up_late(const char* operation, std::uint64_t number) {
  abort_ranks();
  const double seconds = static_cast<double>(deadline().count()) / 1e3;
  give_up(operation, number, host_->blame(fmt::format("did not come within {}", format_seconds(seconds))));
}

// What NCCL complains of may be the end of another rank, which the hosts know of a little later.
void NcclCommunicator::give_up_after(const std::exception& failure, const char* operation, std::uint64_t number) {
  abort_ranks();
  const auto* error = dynamic_cast<const Error*>(&failure);
  const std::string reason = error ? error->message() : failure.what();
  for (const TimePoint until = Clock::now() + 10 * kLook; remaining(until) > milliseconds(0);) {
    if (const std::optional<Verdict> known = host_->verdict()) give_up(operation, number, *known);
    std::this_thread::sleep_for(kLook / 5);
  }
  host_->abort(reason);
  give_up(operation, number, host_->verdict().value_or(Verdict{rank(), "failed: " + reason}));
}

void NcclCommunicator::look_at_others(const char* operation, std::uint64_t number) {
  if (Clock::now() - looked_ < kLook) return;
  looked_ = Clock::now();
  if (const std::optional<Verdict> known = host_->verdict()) give_up(operation, number, *known);
  is_ready(operation, number);
}

// Throws what has failed since the last time.
bool NcclCommunicator::is_ready(const char* operation, std::uint64_t number) {
  try {
    const std::lock_guard lock(mutex_);
    return ranks_->is_ready();
  } catch (const std::exception& e) {
    give_up_after(e, operation, number);
  }
}

void NcclCommunicator::wait_until_ready(const char* operation, std::uint64_t number, TimePoint until) {
  for (Pause pause; !is_ready(operation, number); pause()) {
    look_at_others(operation, number);
    if (remaining(until) == milliseconds(0)) give_up_late(operation, number);
  }
}

void NcclCommunicator::put(const RanksCall& call, const char* operation, Marks& marks) {
  begin(operation);
  try {
    marks.begun->record(*stream_);
    {
      const std::lock_guard lock(mutex_);
      ranks_->call(call, *stream_);
    }
  } catch (const std::exception& e) {
    give_up_after(e, operation, number());
  }
  wait_until_ready(operation, number(), until());  // else the second mark could stand before the call
  marks.done->record(*stream_);
  running_.push_back({operation, number(), &marks, std::nullopt});
}

bool NcclCommunicator::is_done(Running& call) {
  if (call.marks->done->reached()) return true;
  if (!call.since && call.marks->begun->reached()) call.since = Clock::now();
  return false;
}

void NcclCommunicator::settle() {
  for (Pause pause; !running_.empty();) {
    Running& call = running_.front();
    if (is_done(call)) {
      running_.pop_front();
      continue;
    }
    look_at_others(call.operation, call.number);
    if (call.since && Clock::now() - *call.since > deadline()) give_up_late(call.operation, call.number);
    pause();
  }
}

void NcclCommunicator::make(const RanksCall& call, const char* operation) {
  settle();
  put(call, operation, own_marks_);
  settle();
}

void NcclCommunicator::all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) {
  check_reducible(dtype);
  const std::vector<DevicePiece> own = pieces_of(pieces, dtype);
  make({RanksOperation::all_reduce, dtype, op, 0, own}, "all_reduce");
}

void NcclCommunicator::reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) {
  check_root(root);
  check_reducible(dtype);
  const std::vector<DevicePiece> own = pieces_of(pieces, dtype);
  make({RanksOperation::reduce, dtype, op, root, own}, "reduce");
}

void NcclCommunicator::reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) {
  check_reducible(dtype);
  const DevicePiece piece{in, out, elements};
  make({RanksOperation::reduce_scatter, dtype, op, 0, {&piece, 1}}, "reduce_scatter");
}

void NcclCommunicator::all_gather(const void* in, void* out, std::size_t bytes) {
  const DevicePiece piece{in, out, static_cast<std::int64_t>(bytes)};
  make({RanksOperation::all_gather, DType::u8, ReduceOp::sum, 0, {&piece, 1}}, "all_gather");
}

void NcclCommunicator::broadcast(void* data, std::size_t bytes, int root) {
  check_root(root);
  const DevicePiece piece{data, data, static_cast<std::int64_t>(bytes)};
  make({RanksOperation::broadcast, DType::u8, ReduceOp::sum, root, {&piece, 1}}, "broadcast");
}

// NCCL has none: a sum of which nobody reads the result.
void NcclCommunicator::barrier() {
  const DevicePiece piece{scratch_->data(), scratch_->data(), 1};
  make({RanksOperation::all_reduce, DType::i32, ReduceOp::max, 0, {&piece, 1}}, "barrier");
}

void NcclCommunicator::start_sum(int number, std::span<const kernels::View> views, Stream& stream) {
  start(number,
        {{RanksOperation::all_reduce, views[0].dtype, ReduceOp::sum, 0, {}}, pieces_of(views, false), "all_reduce"},
        stream);
}

void NcclCommunicator::start_reduce(int number, int root, std::span<const kernels::View> views, Stream& stream) {
  start(number, {{RanksOperation::reduce, views[0].dtype, ReduceOp::sum, root, {}}, pieces_of(views, false), "reduce"},
        stream);
}

void NcclCommunicator::start_broadcast(int number, int root, std::span<const kernels::View> views, Stream& stream) {
  start(number, {{RanksOperation::broadcast, DType::u8, ReduceOp::sum, root, {}}, pieces_of(views, true), "broadcast"},
        stream);
}

void NcclCommunicator::start(int number, Waiting call, Stream& stream) {
  while (marks_.size() <= static_cast<std::size_t>(number)) marks_.emplace_back(*device_);
  const auto marks_of = [this](int n) -> Marks& { return marks_[static_cast<std::size_t>(n)]; };
  Marks& marks = marks_of(number);
  // Of the run before, if the host is that far ahead.
  if (std::any_of(running_.begin(), running_.end(), [&](const Running& r) { return r.marks == &marks; })) settle();
  marks.given->record(stream);
  waiting_.emplace(number, std::move(call));
  while (auto next = waiting_.extract(next_)) {
    Waiting& turn = next.mapped();
    turn.call.pieces = turn.pieces;
    marks_of(next_).given->hold(*stream_);
    put(turn.call, turn.operation, marks_of(next_));
    ++next_;
  }
}

void NcclCommunicator::wait(int number, Stream& stream) {
  if (number >= next_) out_of_order(next_);
  marks_[static_cast<std::size_t>(number)].done->hold(stream);
}

void NcclCommunicator::finish(Stream& stream) {
  if (!waiting_.empty()) out_of_order(next_);
  if (next_ > 0) marks_[static_cast<std::size_t>(next_ - 1)].done->hold(stream);
  next_ = 0;
}

}  // namespace trivet::comm

namespace trivet {

JoinedDevices join_devices(std::shared_ptr<const Device> device, std::shared_ptr<Communicator> host) {
  const auto joined = std::make_shared<comm::NcclCommunicator>(std::move(device), std::move(host));
  return {joined, joined};
}

}  // namespace trivet
