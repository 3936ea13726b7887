#include "trivet/data/loader.h"

#include "trivet/base/error.h"

namespace trivet {
namespace {

constexpr std::size_t kAlignment = 64;

std::size_t checked_product(std::size_t a, std::size_t b) {
  std::size_t product = 0;
  if (__builtin_mul_overflow(a, b, &product) || product > SIZE_MAX / 4) {
    throw Error(ErrorCode::memory, fmt::format("the loader's buffers overflow: {} times {} bytes", a, b),
                "use a smaller batch");
  }
  return product;
}

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The bytes of a slot's parts: each input, the target, the indices.
std::vector<std::size_t> slot_bytes(const Dataset& data, std::int64_t batch) {
  const auto n = static_cast<std::size_t>(batch);
  std::vector<std::size_t> bytes;
  for (const Field& field : data.inputs()) bytes.push_back(aligned(checked_product(n, field.bytes())));
  bytes.push_back(data.target_field() ? aligned(checked_product(n, data.target_field()->bytes())) : 0);
  bytes.push_back(aligned(checked_product(n, sizeof(std::int64_t))));
  return bytes;
}

}  // namespace

std::int64_t batch_count(std::int64_t samples, std::int64_t batch) { return samples / batch + (samples % batch != 0); }

std::size_t Loader::buffer_bytes(const Dataset& data, std::int64_t batch, std::int64_t prefetch) {
  std::size_t slot = 0;
  for (const std::size_t bytes : slot_bytes(data, batch)) slot += bytes;
  return checked_product(static_cast<std::size_t>(prefetch) + 1, slot);
}

Loader::Loader(const Dataset& data, LoaderConfig config) : data_(data), config_(config) {
  if (config_.batch < 1 || config_.prefetch < 0) {
    throw Error(ErrorCode::internal,
                fmt::format("a loader with batch {} and prefetch {}", config_.batch, config_.prefetch));
  }
  for (const Field& field : data_.inputs()) input_bytes_.push_back(field.bytes());
  if (data_.target_field()) target_bytes_ = data_.target_field()->bytes();
  allocate();
  thread_ = std::thread([this] { run(); });
}

Loader::~Loader() {
  interrupt_ = true;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  producer_.notify_one();
  thread_.join();
}

void Loader::allocate() {
  const std::vector<std::size_t> bytes = slot_bytes(data_, config_.batch);
  const std::size_t total = buffer_bytes(data_, config_.batch, config_.prefetch);
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, total)));
  if (!memory_) {
    throw Error(ErrorCode::memory, fmt::format("no memory for the loader's buffers of {} bytes", total),
                "use a smaller batch or prefetch fewer");
  }
  slots_.resize(static_cast<std::size_t>(config_.prefetch) + 1);
  std::byte* p = memory_.get();
  const std::size_t inputs = input_bytes_.size();
  for (Slot& s : slots_) {
    for (std::size_t i = 0; i < inputs; p += bytes[i++]) s.inputs.push_back(p);
    if (data_.target_field()) s.y = p;
    p += bytes[inputs];
    s.sample = reinterpret_cast<std::int64_t*>(p);
    p += bytes[inputs + 1];
  }
}

void Loader::start(std::vector<std::int64_t> order, std::int64_t epoch, std::int64_t first_batch) {
  const std::int64_t batches = batch_count(static_cast<std::int64_t>(order.size()), config_.batch);
  if (first_batch < 0 || first_batch > batches) {
    throw Error(ErrorCode::state,
                fmt::format("batch {} does not exist in an epoch of {} batches", first_batch, batches),
                "resume with the data and the batch size of the run");
  }
  std::unique_lock lock(mutex_);
  interrupt_ = true;
  consumer_.wait(lock, [this] { return !working_; });
  interrupt_ = false;
  order_ = std::move(order);
  epoch_ = epoch;
  filled_ = taken_ = first_batch;
  end_ = batches;
  held_ = false;
  failure_ = nullptr;
  producer_.notify_one();
}

bool Loader::next(Batch& batch) {
  std::unique_lock lock(mutex_);
  if (std::exchange(held_, false)) producer_.notify_one();
  consumer_.wait(lock, [this] { return taken_ < filled_ || taken_ == end_ || failure_; });
  if (taken_ < filled_) {
    const Slot& s = slot(taken_);
    const auto n = static_cast<std::size_t>(s.count);
    batch.index = taken_;
    batch.count = s.count;
    batch.inputs.clear();
    for (std::size_t i = 0; i < s.inputs.size(); ++i) batch.inputs.emplace_back(s.inputs[i], n * input_bytes_[i]);
    batch.y = {s.y, n * target_bytes_};
    batch.sample = {s.sample, n};
    ++taken_;
    held_ = true;
    return true;
  }
  if (failure_) std::rethrow_exception(failure_);
  return false;
}

bool Loader::may_fill() const {
  const std::int64_t in_use = filled_ - taken_ + (held_ ? 1 : 0);
  return !interrupt_ && !failure_ && filled_ < end_ && in_use < static_cast<std::int64_t>(slots_.size());
}

void Loader::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    producer_.wait(lock, [this] { return stop_ || may_fill(); });
    if (stop_) return;
    working_ = true;
    const std::int64_t index = filled_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      fill(index);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    working_ = false;
    if (failure) {
      failure_ = std::move(failure);
    } else {
      ++filled_;
    }
    consumer_.notify_one();
  }
}

void Loader::fill(std::int64_t index) {
  Slot& s = slot(index);
  const std::int64_t first = index * config_.batch;
  const std::int64_t there = data_.count();
  const SampleDraw draw{config_.train, config_.seed, epoch_};
  s.count = std::min(config_.batch, static_cast<std::int64_t>(order_.size()) - first);
  std::vector<std::byte*> inputs = s.inputs;
  std::byte* y = s.y;
  for (std::int64_t i = 0; i < s.count; ++i) {
    if (interrupt_.load(std::memory_order_relaxed)) return;
    const std::int64_t sample = order_[static_cast<std::size_t>(first + i)];
    if (sample < 0 || sample >= there) {
      throw Error(ErrorCode::data, fmt::format("sample {} is out of range: there are {}", sample, there));
    }
    data_.read(sample, draw, inputs, y);
    s.sample[i] = sample;
    for (std::size_t k = 0; k < inputs.size(); ++k) inputs[k] += input_bytes_[k];
    if (y) y += target_bytes_;
  }
}

}  // namespace trivet
