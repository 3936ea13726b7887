#include "runtime/train/ranks.h"

#include <fmt/format.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "trivet/base/error.h"
#include "trivet/base/hash.h"

namespace trivet {
namespace {

struct Sum {
  int number;
  DType dtype;
  std::vector<Piece> pieces;
};

Sum sum_of(int number, std::span<const kernels::View> views) {
  Sum sum{number, views[0].dtype, {}};
  for (const kernels::View& view : views) sum.pieces.push_back({view.data, view.elements()});
  return sum;
}

// Sums are made one after the other in a thread of their own, while the plan's next steps run.
class BackgroundSums final : public Collectives {
 public:
  explicit BackgroundSums(std::shared_ptr<Communicator> communicator)
      : communicator_(std::move(communicator)), thread_([this] { work(); }) {}
  BackgroundSums(const BackgroundSums&) = delete;
  BackgroundSums& operator=(const BackgroundSums&) = delete;
  ~BackgroundSums() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void start_sum(int number, std::span<const kernels::View> views) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(sum_of(number, views));
    }
    changed_.notify_all();
  }

  void wait(int number) override {
    std::unique_lock lock(mutex_);
    const auto pending = [&] {
      return std::any_of(waiting_.begin(), waiting_.end(), [&](const Sum& sum) { return sum.number == number; });
    };
    changed_.wait(lock, [&] { return failure_ || !pending(); });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stop_ || (!waiting_.empty() && !failure_); });
      if (stop_) return;
      const Sum sum = waiting_.front();
      lock.unlock();
      std::exception_ptr failure;
      try {
        communicator_->all_reduce(sum.pieces, sum.dtype, ReduceOp::sum);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
      if (!failure) waiting_.pop_front();
      changed_.notify_all();
    }
  }

  std::shared_ptr<Communicator> communicator_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Sum> waiting_;  // the first one is being made
  std::exception_ptr failure_;
  bool stop_ = false;
  std::thread thread_;
};

// Between ranks of one host a sum is work of the very cores that the plan's steps run on: it is made when it is waited
// for, by the waiting thread, which saves waking another (measured on 2 cores, MLP 784-256-10, batch 128: a step of 2
// ranks takes 1.0 ms instead of 1.4).
class SumsWhenWaitedFor final : public Collectives {
 public:
  explicit SumsWhenWaitedFor(std::shared_ptr<Communicator> communicator) : communicator_(std::move(communicator)) {}

  void start_sum(int number, std::span<const kernels::View> views) override {
    waiting_.push_back(sum_of(number, views));
  }

  void wait(int number) override {
    while (!waiting_.empty()) {
      const Sum sum = std::move(waiting_.front());
      waiting_.pop_front();
      communicator_->all_reduce(sum.pieces, sum.dtype, ReduceOp::sum);
      if (sum.number == number) return;
    }
  }

 private:
  std::shared_ptr<Communicator> communicator_;
  std::deque<Sum> waiting_;
};

// The part of TrainState that steps change and no file of rank 0 decides on its own.
struct Course {
  std::int64_t step, epoch, batch, best_step, stale;
  MetricSums sums, last;
  double best, to_beat, seconds;
  bool has_best, has_to_beat;
};

}  // namespace

Ranks::Ranks(std::shared_ptr<Communicator> communicator) : communicator_(std::move(communicator)) {
  if (size() == 1) return;
  if (communicator_->kind() == "shm") {
    collectives_ = std::make_shared<SumsWhenWaitedFor>(communicator_);
  } else {
    collectives_ = std::make_shared<BackgroundSums>(communicator_);
  }
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

void Ranks::share_states(Arena& arena) const {
  if (size() == 1) return;
  for (const StateLayout::Slot& slot : arena.states().slots()) {
    if (slot.value.memory == MemoryClass::gradients) continue;
    Tensor tensor = arena.get_state(slot.value.name);
    communicator_->broadcast(tensor.data.data(), tensor.data.size(), 0);
    if (!is_root()) arena.set_state(slot.value.name, tensor);
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
  if (size() > 1) communicator_->abort(reason);
}

}  // namespace trivet
