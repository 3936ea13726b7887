// The simulator itself: what CUDA's names give, and the broken kernels that it must refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cuda/launch.h"

namespace trivet::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class Simulator : public ::testing::TestWithParam<unsigned> {
 protected:
  Simulator() { sim::set_schedule(GetParam()); }
  ~Simulator() override { sim::set_schedule(0); }
};
INSTANTIATE_TEST_SUITE_P(Schedules, Simulator, ::testing::Values(0u, 1u, 2u));

// The message of a launch that must be refused.
template <class F>
std::string refusal_of(const F& launch) {
  try {
    launch();
  } catch (const sim::SimulationError& e) {
    return e.what();
  }
  return "not refused";
}

// ---- kernels that are right ----

__global__ void numbers_kernel(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[i] = i;
}

TEST_P(Simulator, NumbersBlocksAndThreadsInThreeDimensions) {
  std::vector<unsigned> found(2 * 3 * 2 * 4 * 5 * 3, 0), expected(found.size());
  unsigned* const out = found.data();
  TRIVET_LAUNCH(numbers_kernel, dim3(2, 3, 2), dim3(4, 5, 3), 0, nullptr, out);
  std::iota(expected.begin(), expected.end(), 0u);
  EXPECT_EQ(found, expected);
}

__global__ void shuffles_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* const mine = out + threadIdx.x * 6;
  mine[0] = __shfl_sync(kFullMask, lane, 5);
  mine[1] = __shfl_xor_sync(kFullMask, lane, 3);
  mine[2] = __shfl_down_sync(kFullMask, lane, 2);
  mine[3] = __shfl_up_sync(kFullMask, lane, 2);
  mine[4] = static_cast<int>(__ballot_sync(kFullMask, lane % 2) & 0xFF);
  // The halves of the warp go different ways and meet again.
  mine[5] = lane < 16 ? __shfl_xor_sync(0x0000FFFFu, lane, 15) : __shfl_xor_sync(0xFFFF0000u, 10 * lane, 15);
}

TEST_P(Simulator, ExchangesValuesWithinAWarp) {
  std::vector<int> found(64 * 6);
  int* const out = found.data();
  TRIVET_LAUNCH(shuffles_kernel, dim3(1), dim3(64), 0, nullptr, out);
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    const std::vector<int> mine(found.begin() + 6 * i, found.begin() + 6 * (i + 1));
    EXPECT_EQ(mine, (std::vector<int>{5, lane ^ 3, lane < 30 ? lane + 2 : lane, lane < 2 ? lane : lane - 2, 0xAA,
                                      lane < 16 ? lane ^ 15 : 10 * (lane ^ 15)}));
  }
}

__global__ void votes_kernel(int* out, int* counter) {
  const unsigned i = threadIdx.x;
  if (i >= 70) return;  // threads that have returned hold up nobody
  atomicAdd(counter, 1);
  out[i] = __syncthreads_or(i == 69) * 10 + __syncthreads_or(i == 70);
}

TEST_P(Simulator, OpensABarrierWhenAllThreadsThatLiveAreThere) {
  std::vector<int> found(96, -1);
  int counter = 0;
  int* const out = found.data();
  int* const count = &counter;
  TRIVET_LAUNCH(votes_kernel, dim3(1), dim3(96), 0, nullptr, out, count);
  EXPECT_EQ(counter, 70);
  EXPECT_EQ(found[0], 10);
  EXPECT_EQ(found[69], 10);
  EXPECT_EQ(found[70], -1);
}

__global__ void reverse_kernel(const float* x, float* y) {
  TRIVET_SHARED(float, a, 64);
  TRIVET_DYNAMIC_SHARED(float, b);
  const unsigned i = threadIdx.x;
  a[i] = x[i];
  __syncthreads();
  b[i] = a[63 - i];
  __syncthreads();
  y[i] = b[i / 2 * 2];
}

TEST_P(Simulator, SharesMemoryWithinABlock) {
  std::vector<float> x(64), y(64);
  std::iota(x.begin(), x.end(), 0.0f);
  const float* const in = x.data();
  float* const out = y.data();
  TRIVET_LAUNCH(reverse_kernel, dim3(3), dim3(64), 64 * sizeof(float), nullptr, in, out);
  EXPECT_EQ(y[0], 63);
  EXPECT_EQ(y[63], 1);
}

__global__ void unwritten_kernel(float* y) {
  TRIVET_SHARED(float, a, 32);
  TRIVET_DYNAMIC_SHARED(float, b);
  const unsigned i = threadIdx.x;
  y[i] = a[i];
  y[i + 32] = b[i];
  a[i] = b[i] = 1;
}

TEST_P(Simulator, GivesNanForSharedMemoryThatTheBlockHasNotWritten) {
  std::vector<float> y(64);
  float* const out = y.data();
  TRIVET_LAUNCH(unwritten_kernel, dim3(2), dim3(32), 32 * sizeof(float), nullptr, out);
  for (const float v : y) EXPECT_TRUE(std::isnan(v));
}

// ---- kernels that are wrong ----

__global__ void two_ways_kernel() {
  if (threadIdx.x < 16) {
    __shfl_xor_sync(kFullMask, 1, 1);  // waits for the other half
  } else {
    __syncthreads();  // waits for the first half
  }
}
__global__ void two_lines_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void not_in_mask_kernel() { __shfl_xor_sync(1u, 1, 1); }
__global__ void outside_mask_kernel() {
  if (threadIdx.x < 16) __shfl_sync(0x0000FFFFu, 1, 20);
}
__global__ void masks_kernel() { __syncwarp(threadIdx.x == 0 ? kFullMask : 0x0000FFFFu); }
__global__ void throwing_kernel() { std::vector<int>(threadIdx.x).at(40) = 0; }
__global__ void empty_kernel() {}

TEST_P(Simulator, ReportsADeadlockWithBothPlaces) {
  const std::string message = refusal_of([] { TRIVET_LAUNCH(two_ways_kernel, dim3(2), dim3(32), 0, nullptr); });
  EXPECT_THAT(message, HasSubstr("two_ways_kernel: deadlock"));
  EXPECT_THAT(message, HasSubstr("waits in a warp collective at "));
  EXPECT_THAT(message, HasSubstr("waits in a block barrier at "));
  EXPECT_THAT(message, HasSubstr("simulator_test.cpp:"));
}

TEST_P(Simulator, RefusesBarriersAndCollectivesThatDoNotMatch) {
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(two_lines_kernel, dim3(1), dim3(64), 0, nullptr); }),
              HasSubstr("reached from two lines"));
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(not_in_mask_kernel, dim3(1), dim3(32), 0, nullptr); }),
              HasSubstr("leaves out the calling lane"));
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(outside_mask_kernel, dim3(1), dim3(32), 0, nullptr); }),
              HasSubstr("not in its mask"));
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(masks_kernel, dim3(1), dim3(16), 0, nullptr); }),
              HasSubstr("different masks"));
}

TEST_P(Simulator, RefusesLaunchesThatNoDeviceTakes) {
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(empty_kernel, dim3(1), dim3(2048), 0, nullptr); }),
              HasSubstr("block size"));
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(empty_kernel, dim3(0), dim3(32), 0, nullptr); }), HasSubstr("grid size"));
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(empty_kernel, dim3(1, 65536), dim3(32), 0, nullptr); }),
              HasSubstr("grid size"));
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(empty_kernel, dim3(1), dim3(32), 1u << 20, nullptr); }),
              HasSubstr("shared memory"));
}

TEST_P(Simulator, PassesOnAnExceptionAndWorksAfterwards) {
  EXPECT_THAT(refusal_of([] { TRIVET_LAUNCH(throwing_kernel, dim3(1), dim3(40), 0, nullptr); }),
              HasSubstr("exception in thread "));
  std::vector<float> x(64, 2.0f), y(64);
  const float* const in = x.data();
  float* const out = y.data();
  TRIVET_LAUNCH(reverse_kernel, dim3(1), dim3(64), 64 * sizeof(float), nullptr, in, out);
  EXPECT_EQ(y[0], 2);
}

// Without its first barrier, reverse_kernel reads what others have not written yet when a warp runs ahead.
__global__ void missing_barrier_kernel(const float* x, float* y) {
  TRIVET_SHARED(float, a, 64);
  a[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = a[63 - threadIdx.x];
}

TEST(SimulatorSchedules, ShowAMissingBarrierInTheResults) {
  std::vector<float> x(64, 1.0f), y(64);
  const float* const in = x.data();
  float* const out = y.data();
  sim::set_schedule(1);
#if !defined(__SANITIZE_THREAD__)
  TRIVET_LAUNCH(missing_barrier_kernel, dim3(1), dim3(64), 0, nullptr, in, out);
  EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
#endif
  sim::set_schedule(0);
}

// ---- what the sanitizers see ----

[[maybe_unused]] __global__ void global_overrun_kernel(const float* x, float* y) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i];
}
[[maybe_unused]] __global__ void shared_overrun_kernel(float* y) {
  TRIVET_SHARED(float, a, 63);
  a[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = a[0];
}
[[maybe_unused]] __global__ void dynamic_overrun_kernel(float* y) {
  TRIVET_DYNAMIC_SHARED(float, a);
  a[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = a[0];
}
// A shuffle makes the lanes meet, but does not order their memory.
[[maybe_unused]] __global__ void shuffle_as_barrier_kernel(const float* x, float* y) {
  TRIVET_SHARED(float, a, 32);
  a[threadIdx.x] = x[threadIdx.x];
  __shfl_sync(kFullMask, 0, 0);
  y[threadIdx.x] = a[31 - threadIdx.x];
}
[[maybe_unused]] __global__ void plain_counter_kernel(float* y) { y[0] += 1; }
[[maybe_unused]] __global__ void ordered_kernel(const float* x, float* y) {
  TRIVET_SHARED(float, a, 32);
  a[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  y[threadIdx.x] = a[31 - threadIdx.x];
}

struct Vectors {
  std::vector<float> x = std::vector<float>(64, 1.0f);
  std::vector<float> y = std::vector<float>(64);
  const float* in = x.data();
  float* out = y.data();
};

TEST(SimulatorUnderTheAddressSanitizer, StopsAtOverruns) {
#if defined(__SANITIZE_ADDRESS__)
  const Vectors v;
  const float* const in = v.in;
  float* const out = v.out;
  EXPECT_DEATH(TRIVET_LAUNCH(global_overrun_kernel, dim3(3), dim3(32), 0, nullptr, in, out), "heap-buffer-overflow");
  EXPECT_DEATH(TRIVET_LAUNCH(shared_overrun_kernel, dim3(1), dim3(64), 0, nullptr, out), "heap-buffer-overflow");
  EXPECT_DEATH(TRIVET_LAUNCH(dynamic_overrun_kernel, dim3(1), dim3(64), 63 * sizeof(float), nullptr, out),
               "heap-buffer-overflow");
#else
  GTEST_SKIP() << "built without the address sanitizer";
#endif
}

TEST(SimulatorUnderTheThreadSanitizer, StopsAtRaces) {
#if defined(__SANITIZE_THREAD__)
  const Vectors v;
  const float* const in = v.in;
  float* const out = v.out;
  const auto races = ::testing::ExitedWithCode(66);
  const auto run = [](auto launch) {
    launch();
    std::exit(0);
  };
  EXPECT_EXIT(run([=] { TRIVET_LAUNCH(missing_barrier_kernel, dim3(1), dim3(64), 0, nullptr, in, out); }), races,
              "data race");
  EXPECT_EXIT(run([=] { TRIVET_LAUNCH(shuffle_as_barrier_kernel, dim3(1), dim3(32), 0, nullptr, in, out); }), races,
              "data race");
  EXPECT_EXIT(run([=] { TRIVET_LAUNCH(plain_counter_kernel, dim3(1), dim3(64), 0, nullptr, out); }), races,
              "data race");
  TRIVET_LAUNCH(ordered_kernel, dim3(1), dim3(32), 0, nullptr, in, out);
  EXPECT_EQ(v.y[0], 1);
#else
  GTEST_SKIP() << "built without the thread sanitizer";
#endif
}

}  // namespace
}  // namespace trivet::kernels::cuda
