#include "runtime/train/ranks.h"

#include <fmt/format.h>

#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "runtime/train/updates.h"
#include "trivet/base/error.h"
#include "trivet/base/hash.h"

namespace trivet {
namespace {

// A sum or a broadcast that was started.
struct Call {
  enum class Kind { sum, reduce, broadcast } kind = Kind::sum;
  int root = 0;  // of a reduce or broadcast
  DType dtype = DType::f32;
  std::vector<Piece> pieces;
};

Call call_of(Call::Kind kind, int root, std::span<const kernels::View> views) {
  Call call{kind, root, views[0].dtype, {}};
  if (kind == Call::Kind::broadcast) call.dtype = DType::u8;  // bytes, of tensors of any type
  for (const kernels::View& view : views) {
    const auto bytes = static_cast<std::int64_t>(dtype_size(view.dtype) / dtype_size(call.dtype));
    call.pieces.push_back({view.data, view.elements() * bytes});
  }
  return call;
}

// Small tensors travel together.
class Broadcast {
 public:
  Broadcast(Communicator& communicator, int root) : communicator_(communicator), root_(root) {}

  void run(const Call& call) {
    for (const Piece& piece : call.pieces) {
      const auto bytes = static_cast<std::size_t>(piece.elements);
      if (bytes > kPackedBytes / 4) {
        communicator_.broadcast(piece.data, bytes, root_);
        continue;
      }
      if (packed_bytes_ + bytes > kPackedBytes) send_packed();
      packed_.emplace_back(static_cast<std::byte*>(piece.data), bytes);
      packed_bytes_ += bytes;
    }
    send_packed();
  }

 private:
  static constexpr std::size_t kPackedBytes = std::size_t{256} << 10;

  void send_packed() {
    if (packed_bytes_ == 0) return;
    std::vector<std::byte> message(packed_bytes_);
    const bool sends = communicator_.rank() == root_;
    std::size_t at = 0;
    for (const std::span<std::byte> piece : packed_) {
      if (sends) std::memcpy(message.data() + at, piece.data(), piece.size());
      at += piece.size();
    }
    communicator_.broadcast(message.data(), message.size(), root_);
    at = 0;
    for (const std::span<std::byte> piece : packed_) {
      if (!sends) std::memcpy(piece.data(), message.data() + at, piece.size());
      at += piece.size();
    }
    packed_.clear();
    packed_bytes_ = 0;
  }

  Communicator& communicator_;
  const int root_;
  std::vector<std::span<std::byte>> packed_;
  std::size_t packed_bytes_ = 0;
};

void make(Communicator& communicator, const Call& call) {
  switch (call.kind) {
    case Call::Kind::sum:
      return communicator.all_reduce(call.pieces, call.dtype, ReduceOp::sum);
    case Call::Kind::reduce:
      return communicator.reduce(call.pieces, call.dtype, ReduceOp::sum, call.root);
    case Call::Kind::broadcast:
      return Broadcast(communicator, call.root).run(call);
  }
}

[[noreturn]] void out_of_order(int number) {
  throw Error(ErrorCode::internal, fmt::format("call {} between ranks was not started before a later one", number));
}

// What is started is put among the calls that wait for their turn.
class QueuedCalls : public Collectives {
 public:
  void start_sum(int number, std::span<const kernels::View> views, Stream&) override {
    add(number, call_of(Call::Kind::sum, 0, views));
  }
  void start_reduce(int number, int root, std::span<const kernels::View> views, Stream&) override {
    add(number, call_of(Call::Kind::reduce, root, views));
  }
  void start_broadcast(int number, int root, std::span<const kernels::View> views, Stream&) override {
    add(number, call_of(Call::Kind::broadcast, root, views));
  }
  // The host waits in wait() and finish() already.
  void settle() override {}

 private:
  virtual void add(int number, Call call) = 0;
};

// Calls are made one after the other in a thread of their own, while the plan's next steps run.
class BackgroundCalls final : public QueuedCalls {
 public:
  explicit BackgroundCalls(std::shared_ptr<Communicator> communicator)
      : communicator_(std::move(communicator)), thread_([this] { work(); }) {}
  BackgroundCalls(const BackgroundCalls&) = delete;
  BackgroundCalls& operator=(const BackgroundCalls&) = delete;
  ~BackgroundCalls() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void wait(int number, Stream&) override {
    std::unique_lock lock(mutex_);
    wait_until(lock, number + 1);
  }

  void finish(Stream&) override {
    std::unique_lock lock(mutex_);
    wait_until(lock, waiting_.empty() ? next_ : waiting_.rbegin()->first + 1);
    next_ = 0;
  }

 private:
  void add(int number, Call call) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.emplace(number, std::move(call));
    }
    changed_.notify_all();
  }

  // Until the next call is number `next`.
  void wait_until(std::unique_lock<std::mutex>& lock, int next) {
    for (int number = next_; number < next; ++number) {
      if (!waiting_.contains(number)) out_of_order(number);
    }
    changed_.wait(lock, [&] { return failure_ || next_ >= next; });
    if (failure_) std::rethrow_exception(failure_);
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stop_ || (waiting_.contains(next_) && !failure_); });
      if (stop_) return;
      const Call& call = waiting_.at(next_);  // stays where it is while others are added
      lock.unlock();
      std::exception_ptr failure;
      try {
        make(*communicator_, call);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
      if (!failure) waiting_.erase(next_++);
      changed_.notify_all();
    }
  }

  std::shared_ptr<Communicator> communicator_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, Call> waiting_;
  int next_ = 0;
  std::exception_ptr failure_;
  bool stop_ = false;
  std::thread thread_;
};

// Between ranks of one host a call is work of the very cores that the plan's steps run on: it is made when it is waited
// for, by the waiting thread, which saves waking another (measured on 2 cores, MLP 784-256-10, batch 128: a step of 2
// ranks takes 1.0 ms instead of 1.4).
class CallsWhenWaitedFor final : public QueuedCalls {
 public:
  explicit CallsWhenWaitedFor(std::shared_ptr<Communicator> communicator) : communicator_(std::move(communicator)) {}

  void wait(int number, Stream&) override {
    while (next_ <= number) make_next();
  }

  void finish(Stream&) override {
    while (!waiting_.empty()) make_next();
    next_ = 0;
  }

 private:
  void add(int number, Call call) override { waiting_.emplace(number, std::move(call)); }

  void make_next() {
    const auto call = waiting_.extract(next_);
    if (!call) out_of_order(next_);
    make(*communicator_, call.mapped());
    ++next_;
  }

  std::shared_ptr<Communicator> communicator_;
  std::map<int, Call> waiting_;
  int next_ = 0;
};

// Without data: these are elsewhere.
std::vector<TensorRef> refs_of(const ShardedStates& sharded) {
  std::vector<TensorRef> refs;
  for (const ShardedStates::Entry& entry : sharded.optimizer) refs.push_back({entry.value.name, entry.value.type});
  return refs;
}

// The part of TrainState that steps change and no file of rank 0 decides on its own.
struct Course {
  std::int64_t step, epoch, batch, best_step, stale;
  MetricSums sums, last;
  double best, to_beat, seconds;
  bool has_best, has_to_beat;
};

}  // namespace

Ranks::Ranks(std::shared_ptr<Communicator> communicator) : communicator_(std::move(communicator)) {}

std::shared_ptr<Collectives> Ranks::collectives(const std::shared_ptr<const Device>& device, const TrainConfig& train) {
  if (size() == 1) return nullptr;
  if (!device->asynchronous()) {
    if (communicator_->kind() == "shm") return std::make_shared<CallsWhenWaitedFor>(communicator_);
    return std::make_shared<BackgroundCalls>(communicator_);
  }
  if (train.shards > 0) {
    throw Error(ErrorCode::job,
                fmt::format("train.shards: {} with {} ranks on {}: GPUs add by NCCL, in an order that depends on the "
                            "number of ranks",
                            train.shards, size(), device->description()),
                "leave train.shards out, or train on one GPU or on device: cpu");
  }
  JoinedDevices joined = join_devices(device, communicator_);
  devices_ = std::move(joined.communicator);
  return std::move(joined.collectives);
}

std::vector<double> Ranks::sum_rows(std::vector<double> rows, std::size_t width) const {
  for (std::size_t count = rows.size() / width; count > 1; count /= 2) {
    for (std::size_t i = 0; i < count / 2; ++i) {
      for (std::size_t c = 0; c < width; ++c) {
        rows[i * width + c] = rows[2 * i * width + c] + rows[(2 * i + 1) * width + c];
      }
    }
  }
  rows.resize(width);
  if (size() > 1) {
    const Piece piece{rows.data(), static_cast<std::int64_t>(width)};
    communicator_->all_reduce({&piece, 1}, DType::f64, ReduceOp::sum);
  }
  return rows;
}

void Ranks::gather(std::span<std::byte> all) const {
  if (size() == 1) return;
  const std::size_t bytes = all.size() / static_cast<std::size_t>(size());
  communicator_->all_gather(all.data() + static_cast<std::size_t>(rank()) * bytes, all.data(), bytes);
}

void Ranks::share_course(TrainState& s) const {
  if (size() == 1) return;
  Course c{s.step,
           s.epoch,
           s.batch,
           s.best_step,
           s.stale,
           s.sums,
           s.last,
           s.best.value_or(0),
           s.to_beat.value_or(0),
           s.seconds,
           s.best.has_value(),
           s.to_beat.has_value()};
  communicator_->broadcast(&c, sizeof c, 0);
  s.step = c.step;
  s.epoch = c.epoch;
  s.batch = c.batch;
  s.best_step = c.best_step;
  s.stale = c.stale;
  s.sums = c.sums;
  s.last = c.last;
  s.seconds = c.seconds;
  s.best = c.has_best ? std::optional(c.best) : std::nullopt;
  s.to_beat = c.has_to_beat ? std::optional(c.to_beat) : std::nullopt;
}

void Ranks::share_states(Arena& arena, const ShardedStates& sharded) const {
  if (size() == 1) return;
  for (const StateLayout::Slot& slot : arena.states().slots()) {
    if (slot.value.memory == MemoryClass::gradients || slot.value.memory == MemoryClass::data) continue;
    if (slot.value.memory == MemoryClass::optimizer && !sharded.empty()) continue;
    Tensor tensor = arena.get_state(slot.value.name);
    communicator_->broadcast(tensor.data.data(), tensor.data.size(), 0);
    if (!is_root()) arena.set_state(slot.value.name, tensor);
  }
}

bool Ranks::agree(bool what) const {
  if (size() == 1) return what;
  std::uint8_t word = what ? 1 : 0;
  communicator_->broadcast(&word, sizeof word, 0);
  return word != 0;
}

// Fills `bytes` with the state as its owner has it.
void Ranks::broadcast(const Arena& arena, const ShardedStates::Entry& entry, std::span<std::byte> bytes) const {
  const int root = std::max(entry.owner, 0);  // of what every rank has, rank 0's
  if (root == rank()) {
    const Tensor own = arena.get_state(entry.value.name);
    std::copy(own.data.begin(), own.data.end(), bytes.begin());
  }
  communicator_->broadcast(bytes.data(), bytes.size(), root);
}

void Ranks::share_from_owners(Arena& arena, const ShardedStates& sharded) const {
  for (const ShardedStates::Entry& entry : sharded.parameters) {
    if (!is_averaged(entry.value)) continue;
    Tensor tensor(entry.value.type);
    broadcast(arena, entry, tensor.data);
    if (entry.owner != rank()) arena.set_state(entry.value.name, tensor);
  }
}

void Ranks::save(const CheckpointFolder& folder, const Arena& arena, const TrainState& state,
                 const ShardedStates& sharded) const {
  if (sharded.empty()) return folder.save(arena, state);
  std::vector<std::byte> bytes;
  const auto gather = [&](std::size_t i) {
    bytes.resize(sharded.optimizer[i].value.type.bytes());
    broadcast(arena, sharded.optimizer[i], bytes);
  };
  // Rank 0 says which one it wants, as the file's order is its own affair; one beyond the last: no more.
  std::uint64_t wanted = 0;
  const auto ask = [&] { communicator_->broadcast(&wanted, sizeof wanted, 0); };
  if (is_root()) {
    const std::vector<TensorRef> refs = refs_of(sharded);
    folder.save(arena, state, refs, [&](const TensorRef& ref) {
      wanted = static_cast<std::uint64_t>(std::distance(refs.data(), &ref));
      ask();
      gather(wanted);
      return bytes.data();
    });
    wanted = refs.size();
    ask();
  } else {
    for (ask(); wanted < sharded.optimizer.size(); ask()) gather(wanted);
  }
}

void Ranks::load_optimizer(const CheckpointFolder& folder, std::int64_t step, Arena& arena,
                           const ShardedStates& sharded) const {
  std::size_t i = 0;
  const auto give = [&](Tensor tensor) {
    const ShardedStates::Entry& entry = sharded.optimizer[i++];
    communicator_->broadcast(tensor.data.data(), tensor.data.size(), 0);
    if (entry.owner == rank() || entry.owner == ShardedStates::kEveryRank) arena.set_state(entry.value.name, tensor);
  };
  if (is_root()) {
    folder.load_optimizer(step, refs_of(sharded), [&](const TensorRef& ref, std::span<const std::byte> bytes) {
      give(Tensor::of_bytes(ref.type, bytes));
    });
  } else {
    while (i < sharded.optimizer.size()) give(Tensor(sharded.optimizer[i].value.type));
  }
}

void Ranks::require_equal(const std::string& text, const std::string& what) const {
  if (size() == 1) return;
  const std::string own = sha256_hex(text);
  std::string roots = own;
  communicator_->broadcast(roots.data(), roots.size(), 0);
  if (roots == own) return;
  throw Error(ErrorCode::rank, fmt::format("rank {} has {} other than rank 0's", rank(), what),
              "start all ranks with the same program, job file and data");
}

void Ranks::abort(const std::string& reason) const noexcept {
  if (size() > 1) (devices_ ? devices_ : communicator_)->abort(reason);
}

}  // namespace trivet
