// Batches of an epoch, prepared ahead by a background thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "trivet/data/augment.h"
#include "trivet/data/config.h"
#include "trivet/data/image_data.h"
#include "trivet/data/normalization.h"

namespace trivet {

// Views into the loader's buffers, valid until the next call of next() or start().
struct Batch {
  std::int64_t index = 0;                // within the epoch
  std::int64_t count = 0;                // samples; below the batch size only in the last batch
  std::span<const float> x;              // (count, H, W, C), normalized; at a multiple of 64 bytes
  std::span<const std::int32_t> y;       // (count); empty without labels
  std::span<const std::int64_t> sample;  // (count): indices in the data set
};

struct LoaderConfig {
  std::int64_t batch = 1;     // samples
  std::int64_t prefetch = 4;  // batches ready beside the one in use; 0: each is prepared when it is asked for
  Normalization normalization;
  AugmentConfig augment;   // leave as it is for data that are not trained on
  std::uint64_t seed = 0;  // of the augmentation
};

// The batches of `samples` samples.
std::int64_t batch_count(std::int64_t samples, std::int64_t batch);

class Loader {
 public:
  // `data` must outlive the loader. Error(data) if the normalization has another number of channels than the data, or
  // the padding of crops is not below the image's size; Error(memory) if there is no memory for the buffers.
  Loader(const ImageData& data, LoaderConfig config);
  ~Loader();  // stops the thread, within the time of one sample
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Begins an epoch at its batch number `first_batch`, giving up what was left of the one before. `order`: indices of
  // samples; a batch is the next `batch` of them. Batches depend on (order, epoch, index) alone, so an epoch begun in
  // the middle gives the same as one that was skipped so far. Error(state) if `first_batch` lies beyond the epoch.
  void start(std::vector<std::int64_t> order, std::int64_t epoch, std::int64_t first_batch = 0);

  // The next batch, or false at the end of the epoch. Rethrows what went wrong in the thread: Error(data) if the
  // order holds an index out of range.
  bool next(Batch& batch);

  // The bytes of a loader's buffers, for the plan to count. Error(memory) if the product overflows.
  static std::size_t buffer_bytes(std::size_t sample_elements, std::int64_t batch, std::int64_t prefetch);

 private:
  struct Slot {
    std::int64_t count = 0;
    float* x = nullptr;
    std::int32_t* y = nullptr;
    std::int64_t* sample = nullptr;
  };
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };

  void check() const;
  void allocate();
  void run();
  void fill(std::int64_t index);
  Slot& slot(std::int64_t index) { return slots_[static_cast<std::size_t>(index) % slots_.size()]; }
  bool may_fill() const;

  const ImageData& data_;
  const LoaderConfig config_;
  const std::vector<float> table_;
  std::unique_ptr<std::byte[], Free> memory_;
  std::vector<Slot> slots_;          // batch i lies in slot i modulo their number
  std::uint8_t* scratch_ = nullptr;  // an augmented image, of the thread alone

  std::mutex mutex_;
  std::condition_variable producer_;  // a slot is free, an epoch begins, or it is time to stop
  std::condition_variable consumer_;  // a batch is ready, the thread failed, or it is idle
  // Under the mutex, except that the thread reads order_ and epoch_ while working_ is set, when nobody writes them.
  std::vector<std::int64_t> order_;
  std::int64_t epoch_ = 0;
  std::int64_t filled_ = 0;  // batches before this one are prepared
  std::int64_t taken_ = 0;   // batches before this one were handed out
  std::int64_t end_ = 0;     // batches of the epoch
  bool held_ = false;        // the caller still uses batch taken_ - 1
  bool working_ = false;
  bool stop_ = false;
  std::exception_ptr failure_;
  std::atomic<bool> interrupt_{false};  // what is being prepared is not wanted any more

  std::thread thread_;
};

}  // namespace trivet
