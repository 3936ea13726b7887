// What choosing the fastest of a library's algorithms needs: memory to run them on, and a clock.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/cuda/plugin/cuda_check.h"

namespace trivet::kernels::cuda {

// How many algorithms are timed.
inline constexpr int kCandidates = 16;

// Device memory for timing. Null if there is not enough: then the library's first candidate is taken.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) {
    if (cudaMalloc(&data_, std::max<std::size_t>(bytes, 1)) != cudaSuccess) {
      cudaGetLastError();
      data_ = nullptr;
      return;
    }
    cudaMemset(data_, 0x3c, bytes);  // small numbers of both types: zeros would need less power than numbers do
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // what is timed runs on another stream
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { cudaFree(data_); }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

class Timer {
 public:
  Timer() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }

  // Milliseconds of f(stream), the shortest of some runs after one that does not count.
  template <class F>
  float shortest(const F& f) {
    constexpr int kTimedRuns = 5;
    float best = 1e30F;
    for (int i = 0; i <= kTimedRuns; ++i) {
      check(cudaEventRecord(begin_, stream_), "cudaEventRecord");
      f(stream_);
      check(cudaEventRecord(end_, stream_), "cudaEventRecord");
      check(cudaEventSynchronize(end_), "cudaEventSynchronize");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
      if (i > 0) best = std::min(best, ms);
    }
    return best;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

}  // namespace trivet::kernels::cuda
