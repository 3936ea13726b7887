// What the matrix and convolution kernels promise beyond their results, which the op cases check.
#include <gtest/gtest.h>
#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <thread>

#include "trivet/kernels/attrs_convolution.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {
namespace {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

struct Buffer {
  explicit Buffer(std::initializer_list<std::int64_t> shape, std::uint32_t seed = 1) {
    for (const std::int64_t size : shape) view.shape[view.rank++] = size;
    memory.reset(std::aligned_alloc(64, (view.bytes() + 63) / 64 * 64));
    view.data = memory.get();
    for (std::int64_t i = 0; i < view.elements(); ++i) {
      seed = seed * 1664525U + 1013904223U;
      view.as<float>()[i] = static_cast<float>(seed >> 8) / 8388608.0F - 1.0F;
    }
  }
  std::vector<float> values() const { return {view.as<float>(), view.as<float>() + view.elements()}; }

  View view;
  std::unique_ptr<void, Free> memory;
};

// A kernel prepared for the shapes of its buffers, with a workspace that starts as NaN at each run.
class Prepare {
 public:
  Prepare(const char* op, std::vector<View> in, View out, const void* attrs, int threads)
      : entry_(find(op, best_isa())), in_(std::move(in)), out_(out), attrs_(attrs), threads_(threads) {
    const std::vector<TensorDesc> in_desc(in_.begin(), in_.end());
    const TensorDesc out_desc = out_;
    const KernelSpec spec{in_desc, {&out_desc, 1}, attrs_, threads_};
    EXPECT_TRUE(entry_->supports(spec));
    prepared_ = entry_->prepare(spec);
    workspace_floats_ = entry_->workspace(spec, prepared_.get()) / sizeof(float) + 1;
  }

  // With the workspace at one of two places, and NaN in it and in the output.
  std::vector<float> run(int place = 0) {
    std::unique_ptr<void, Free>& workspace = workspaces_[place];
    if (!workspace) workspace.reset(std::aligned_alloc(64, (workspace_floats_ * sizeof(float) + 63) / 64 * 64));
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(static_cast<float*>(workspace.get()), workspace_floats_, kNan);
    std::fill_n(out_.as<float>(), out_.elements(), kNan);
    entry_->run(KernelArgs{in_, {&out_, 1}, workspace.get(), attrs_, prepared_.get(), threads_});
    return {out_.as<float>(), out_.as<float>() + out_.elements()};
  }

 private:
  const KernelEntry* entry_;
  std::vector<View> in_;
  View out_;
  const void* attrs_;
  int threads_;
  std::unique_ptr<Prepared> prepared_;
  std::size_t workspace_floats_ = 0;
  std::unique_ptr<void, Free> workspaces_[2];
};

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const float value : a) ASSERT_TRUE(std::isfinite(value));
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

// Runs each kind of kernel on sizes that divide nothing, so that blocked layouts are padded.
template <class Check>
void for_each_kernel(int threads, const Check& check) {
  LinearAttrs linear;
  linear.activation = Activation::relu;
  MatmulAttrs transposed;
  transposed.transpose_a = true;
  ConvAttrs forward;
  forward.pads = {4, {1, 1, 1, 1}};
  ConvBackwardDataAttrs data;
  static_cast<ConvWindow&>(data) = forward;
  data.input_shape = {4, {43, 9, 11, 33}};
  ConvBackwardWeightsAttrs weights;
  static_cast<ConvWindow&>(weights) = forward;
  weights.kernel_shape = {4, {35, 3, 3, 33}};
  Buffer x({130, 257}, 2), w({131, 257}, 3), bias({131}, 4), y({130, 131}), dw({131, 257});
  Buffer image({43, 9, 11, 33}, 5), kernel({35, 3, 3, 33}, 6), image_out({43, 9, 11, 35}, 7), channel_bias({35}, 8);
  check(Prepare("linear", {x.view, w.view, bias.view}, y.view, &linear, threads));
  check(Prepare("matmul", {y.view, x.view}, dw.view, &transposed, threads));
  check(Prepare("conv2d", {image.view, kernel.view, channel_bias.view}, image_out.view, &forward, threads));
  Buffer gradient({43, 9, 11, 35}, 9);
  check(Prepare("conv2d_backward_data", {gradient.view, kernel.view}, image.view, &data, threads));
  Buffer clean_image({43, 9, 11, 33}, 10);
  check(Prepare("conv2d_backward_weights", {clean_image.view, gradient.view}, kernel.view, &weights, threads));
}

TEST(OneDnnKernels, GiveTheSameBitsFromRunToRun) {
  for (const int threads : {1, 2, 3}) {
    for_each_kernel(threads, [](Prepare kernel) {
      const std::vector<float> first = kernel.run();
      for (int i = 0; i < 3; ++i) expect_same_bits(kernel.run(), first);
    });
  }
}

TEST(OneDnnKernels, GiveTheSameBitsOnAnyNumberOfThreads) {
  std::vector<std::vector<float>> alone;
  for_each_kernel(1, [&alone](Prepare kernel) { alone.push_back(kernel.run()); });
  for (const int threads : {2, 3, 5}) {
    std::size_t i = 0;
    for_each_kernel(threads, [&](Prepare kernel) { expect_same_bits(kernel.run(), alone[i++]); });
    EXPECT_EQ(i, alone.size());
  }
}

// What an earlier run left in the workspace, the padding of packed weights above all, is not relied on.
TEST(OneDnnKernels, ExpectNothingOfTheWorkspace) {
  for_each_kernel(2, [](Prepare kernel) {
    const std::vector<float> first = kernel.run(0);
    expect_same_bits(kernel.run(1), first);
    expect_same_bits(kernel.run(1), first);
    expect_same_bits(kernel.run(0), first);
  });
}

TEST(OneDnnKernels, LeaveTheCallersNumberOfThreads) {
  const int before = omp_get_max_threads();
  set_threads(2);
  const int mine = omp_get_max_threads();  // less than 2 under an OMP_THREAD_LIMIT of 1
  for_each_kernel(3, [mine](Prepare kernel) {
    EXPECT_EQ(omp_get_max_threads(), mine);
    kernel.run();
    EXPECT_EQ(omp_get_max_threads(), mine);
  });
  set_threads(before);
}

TEST(OneDnnKernels, OfSeveralPlansRunAtTheSameTime) {
  const ConvAttrs attrs;
  const auto run = [&attrs](std::vector<float>& result) {
    Buffer x({2, 9, 9, 16}, 2), w({32, 3, 3, 16}, 3), y({2, 7, 7, 32});
    Prepare kernel("conv2d", {x.view, w.view}, y.view, &attrs, 1);
    for (int i = 0; i < 50; ++i) result = kernel.run(i % 2);
  };
  std::vector<float> alone;
  run(alone);
  std::vector<float> results[3];
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) threads.emplace_back([&run, &result] { run(result); });
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& result : results) expect_same_bits(result, alone);
}

TEST(OneDnnKernels, RefuseOtherTypesThanThoseOfModels) {
  TensorDesc desc;
  desc.rank = 2;
  desc.shape[0] = desc.shape[1] = 3;
  const MatmulAttrs attrs;
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::bf16, DType::f16, DType::i8}) {
    desc.dtype = dtype;
    const std::array in = {desc, desc};
    EXPECT_EQ(find("matmul", best_isa())->supports(KernelSpec{in, {&desc, 1}, &attrs, 1}),
              dtype == DType::f32 || dtype == DType::bf16);
  }
}

}  // namespace
}  // namespace trivet::kernels::cpu
