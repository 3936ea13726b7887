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

#include "trivet/data/dataset.h"

namespace trivet {

// Views into the loader's buffers, valid until the next call of next() or start(). Each begins at a multiple of 64
// bytes.
struct Batch {
  std::int64_t index = 0;                          // within the epoch
  std::int64_t count = 0;                          // samples; below the batch size only in the last batch
  std::vector<std::span<const std::byte>> inputs;  // for each of Dataset::inputs(): (count, shape of the field)
  std::span<const std::byte> y;                    // (count, shape of the target); empty without a target
  std::span<const std::int64_t> sample;            // (count): indices in the data set

  // The elements of an input, whose dtype must be T's.
  template <class T>
  std::span<const T> input(std::size_t i) const {
    return {reinterpret_cast<const T*>(inputs[i].data()), inputs[i].size() / sizeof(T)};
  }
  template <class T>
  std::span<const T> targets() const {
    return {reinterpret_cast<const T*>(y.data()), y.size() / sizeof(T)};
  }
};

struct LoaderConfig {
  std::int64_t batch = 1;     // samples
  std::int64_t prefetch = 4;  // batches ready beside the one in use; 0: each is prepared when it is asked for
  bool train = false;         // samples are augmented, keyed by seed and epoch
  std::uint64_t seed = 0;
};

// The batches of `samples` samples.
std::int64_t batch_count(std::int64_t samples, std::int64_t batch);

class Loader {
 public:
  // `data` must outlive the loader. Error(memory) if there is no memory for the buffers.
  Loader(const Dataset& data, LoaderConfig config);
  ~Loader();  // stops the thread, within the time of one sample
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Begins an epoch at its batch number `first_batch`, giving up what was left of the one before. `order`: indices of
  // samples; a batch is the next `batch` of them. Batches depend on (order, epoch, index) alone, so an epoch begun in
  // the middle gives the same as one that was skipped so far. Error(state) if `first_batch` lies beyond the epoch.
  void start(std::vector<std::int64_t> order, std::int64_t epoch, std::int64_t first_batch = 0);

  // The next batch, or false at the end of the epoch. Rethrows what went wrong in the thread: Error(data) if the
  // order holds an index out of range, or if a sample cannot be used.
  bool next(Batch& batch);

  // The bytes of a loader's buffers, for the plan to count. Error(memory) if the product overflows.
  static std::size_t buffer_bytes(const Dataset& data, std::int64_t batch, std::int64_t prefetch);

 private:
  struct Slot {
    std::int64_t count = 0;
    std::vector<std::byte*> inputs;
    std::byte* y = nullptr;  // null without a target
    std::int64_t* sample = nullptr;
  };
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };

  void allocate();
  void run();
  void fill(std::int64_t index);
  Slot& slot(std::int64_t index) { return slots_[static_cast<std::size_t>(index) % slots_.size()]; }
  bool may_fill() const;

  const Dataset& data_;
  const LoaderConfig config_;
  std::vector<std::size_t> input_bytes_;  // of one sample
  std::size_t target_bytes_ = 0;
  std::unique_ptr<std::byte[], Free> memory_;
  std::vector<Slot> slots_;  // batch i lies in slot i modulo their number

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
