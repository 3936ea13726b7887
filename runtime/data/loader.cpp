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

struct SlotBytes {
  std::size_t x;
  std::size_t y;
  std::size_t sample;
  std::size_t total() const { return x + y + sample; }
};

SlotBytes slot_bytes(std::size_t sample_elements, std::int64_t batch) {
  const auto n = static_cast<std::size_t>(batch);
  return {aligned(checked_product(checked_product(n, sizeof(float)), sample_elements)),
          aligned(checked_product(n, sizeof(std::int32_t))), aligned(checked_product(n, sizeof(std::int64_t)))};
}

// `Channels` known to the compiler makes the inner loop disappear. A table look-up gives the correctly rounded value,
// and so the same bits on every machine.
template <std::size_t Channels>
void convert_fixed(const std::uint8_t* in, std::size_t pixels, const float* table, float* out) {
  for (std::size_t i = 0; i < pixels; ++i, in += Channels, out += Channels) {
    for (std::size_t c = 0; c < Channels; ++c) out[c] = table[c * 256 + in[c]];
  }
}

// in, out: (pixels, channels); table: (channels, 256).
void convert(const std::uint8_t* in, std::size_t pixels, std::size_t channels, const float* table, float* out) {
  if (channels == 1) return convert_fixed<1>(in, pixels, table, out);
  if (channels == 3) return convert_fixed<3>(in, pixels, table, out);
  for (std::size_t i = 0; i < pixels; ++i, in += channels, out += channels) {
    for (std::size_t c = 0; c < channels; ++c) out[c] = table[c * 256 + in[c]];
  }
}

}  // namespace

std::int64_t batch_count(std::int64_t samples, std::int64_t batch) { return samples / batch + (samples % batch != 0); }

std::size_t Loader::buffer_bytes(std::size_t sample_elements, std::int64_t batch, std::int64_t prefetch) {
  const auto slots = static_cast<std::size_t>(prefetch) + 1;
  return checked_product(slots, slot_bytes(sample_elements, batch).total()) + aligned(sample_elements);
}

Loader::Loader(const ImageData& data, LoaderConfig config)
    : data_(data), config_(std::move(config)), table_(config_.normalization.table()) {
  check();
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

void Loader::check() const {
  if (config_.batch < 1 || config_.prefetch < 0) {
    throw Error(ErrorCode::internal,
                fmt::format("a loader with batch {} and prefetch {}", config_.batch, config_.prefetch));
  }
  const auto channels = static_cast<std::size_t>(data_.channels);
  if (config_.normalization.mean.size() != channels || config_.normalization.stddev.size() != channels) {
    throw Error(ErrorCode::data,
                fmt::format("the images have {} channels, the normalization is for {}", data_.channels,
                            config_.normalization.mean.size()),
                "give images with as many channels as those that the model was trained on");
  }
  const std::int64_t padding = config_.augment.crop_padding;
  if (padding < 0 || (padding > 0 && padding >= std::min(data_.height, data_.width))) {
    throw Error(
        ErrorCode::data,
        fmt::format("crops with a padding of {} pixels on images of {} x {}", padding, data_.height, data_.width),
        "choose a padding below the image's height and width");
  }
}

void Loader::allocate() {
  const SlotBytes bytes = slot_bytes(data_.sample_elements(), config_.batch);
  const std::size_t total = buffer_bytes(data_.sample_elements(), config_.batch, config_.prefetch);
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, total)));
  if (!memory_) {
    throw Error(ErrorCode::memory, fmt::format("no memory for the loader's buffers of {} bytes", total),
                "use a smaller batch or prefetch fewer");
  }
  slots_.resize(static_cast<std::size_t>(config_.prefetch) + 1);
  std::byte* p = memory_.get();
  for (Slot& s : slots_) {
    s.x = reinterpret_cast<float*>(p);
    s.y = reinterpret_cast<std::int32_t*>(p + bytes.x);
    s.sample = reinterpret_cast<std::int64_t*>(p + bytes.x + bytes.y);
    p += bytes.total();
  }
  scratch_ = reinterpret_cast<std::uint8_t*>(p);
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
    batch = {taken_, s.count, {s.x, n * data_.sample_elements()}, {s.y, data_.labels.empty() ? 0 : n}, {s.sample, n}};
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
  s.count = std::min(config_.batch, static_cast<std::int64_t>(order_.size()) - first);
  const std::size_t elements = data_.sample_elements();
  const auto channels = static_cast<std::size_t>(data_.channels);
  for (std::int64_t i = 0; i < s.count; ++i) {
    if (interrupt_.load(std::memory_order_relaxed)) return;
    const std::int64_t sample = order_[static_cast<std::size_t>(first + i)];
    if (sample < 0 || sample >= data_.count) {
      throw Error(ErrorCode::data, fmt::format("sample {} is out of range: there are {}", sample, data_.count));
    }
    const std::uint8_t* pixels = data_.sample(sample);
    const AugmentDraw draw = draw_augmentation(config_.augment, config_.seed, epoch_, sample);
    if (draw != AugmentDraw{}) {
      augment_image(data_, draw, pixels, scratch_);
      pixels = scratch_;
    }
    convert(pixels, elements / channels, channels, table_.data(), s.x + static_cast<std::size_t>(i) * elements);
    s.sample[i] = sample;
    if (!data_.labels.empty()) s.y[i] = data_.labels[static_cast<std::size_t>(sample)];
  }
}

}  // namespace trivet
