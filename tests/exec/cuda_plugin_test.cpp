// The plug-in for CUDA itself, as far as this machine goes. Built where there is a toolkit.
#ifdef TRIVET_CUDA_PLUGIN
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/plugin/architectures.h"
#include "tests/plugins/environment.h"
#include "trivet/base/error.h"
#include "trivet/exec/device.h"
#include "trivet/exec/plugins.h"
#include "trivet/exec/session.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::SetVariable;

class CudaPlugin : public ::testing::Test {
 protected:
  const SetVariable path_{"TRIVET_PLUGIN_PATH", TRIVET_CUDA_PLUGIN};
};

TEST_F(CudaPlugin, OpensAndNamesWhatItWasBuiltForAndTheLibrariesItFinds) {
  const PluginReport report = examine_cuda();
  ASSERT_EQ(report.file, TRIVET_CUDA_PLUGIN "/libtrivet_cuda.so");
  EXPECT_THAT(report.build, HasSubstr("CUDA 13."));
  EXPECT_THAT(report.build, HasSubstr("sm_"));
  std::vector<std::string> names;
  for (const auto& library : report.libraries) {
    names.push_back(library.name);
    EXPECT_NE(library.place, "") << library.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"driver", "CUDA runtime", "cuBLASLt", "cuDNN", "NCCL", "CUPTI", "NVRTC"}));
}

TEST_F(CudaPlugin, WithoutAGpuSaysWhy) {
  const PluginReport report = examine_cuda();
  if (!report.devices.empty()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THAT(report.problem, AnyOf(HasSubstr("there is no NVIDIA driver"), HasSubstr("driver is too old"),
                                    HasSubstr("finds no NVIDIA GPU"), HasSubstr("the driver says")));
  try {
    open_device("cuda");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::usage);
    EXPECT_EQ(e.message(), "CUDA cannot be used: " + report.problem);
  }
}

// What is at "y" after three runs with the same input.
Tensor run_on(const char* name, const Graph& g) {
  const auto device = open_device(name, {1, {}});
  StateLayout states(device->alignment());
  states.add(g);
  const auto plan = compile(g, states, *device);
  const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
  arena->initialize(1);
  Session session(arena, plan);
  std::vector<float> input(64 * 48);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::sin(static_cast<float>(i));
  for (int i = 0; i < 3; ++i) {
    session.set_input("x", input.data(), input.size() * sizeof(float));
    session.run();
  }
  return session.output("y");
}

void expect_same_on_both(const Graph& g) {
  const Tensor cpu = run_on("cpu", g), cuda = run_on("cuda", g);
  ASSERT_EQ(cuda.type, cpu.type);
  for (std::size_t i = 0; i < cpu.as<float>().size(); ++i) {
    EXPECT_NEAR(cuda.as<float>()[i], cpu.as<float>()[i], 1e-4F) << i;
  }
}

TEST_F(CudaPlugin, GpuRunsALinearLayerAsTheCpuDoes) {
  if (examine_cuda().devices.empty()) GTEST_SKIP() << "no GPU here: 1 case was not run";
  Graph g("linear");
  const ValueId x = g.input("x", {DType::f32, {64, 48}});
  const ValueId w = g.parameter("w", {DType::f32, {32, 48}}, {Init::Kind::normal, 1.0});
  const ValueId b = g.parameter("b", {DType::f32, {32}}, {Init::Kind::normal, 1.0});
  g.set_output("y", apply(g, "linear", {x, w, b}, {{"activation", std::string("relu")}}));
  expect_same_on_both(g);
}

TEST_F(CudaPlugin, GpuRunsConvolutionsAsTheCpuDoes) {
  if (examine_cuda().devices.empty()) GTEST_SKIP() << "no GPU here: 3 cases were not run";
  for (const Shape& pads : {Shape{1, 1, 1, 1}, Shape{2, 0, 1, 3}, Shape{0, 0, 0, 0}}) {
    Graph g("convolution");
    const ValueId x = g.input("x", {DType::f32, {4, 16, 16, 3}});
    const ValueId w = g.parameter("w", {DType::f32, {8, 3, 3, 3}}, {Init::Kind::normal, 1.0});
    const ValueId b = g.parameter("b", {DType::f32, {8}}, {Init::Kind::normal, 1.0});
    g.set_output("y", apply(g, "conv2d", {x, w, b}, {{"activation", std::string("relu")}, {"pads", pads}}));
    expect_same_on_both(g);
  }
}

TEST(Architectures, CodeRunsOnItsMajorVersionAndOnLaterOnesOnlyIfItIsNotFinal) {
  using kernels::cuda::runs_on;
  EXPECT_TRUE(runs_on("80-real,90a-real", 8, 0));
  EXPECT_TRUE(runs_on("80-real,90a-real", 8, 9));
  EXPECT_TRUE(runs_on("80-real,90a-real", 9, 0));
  EXPECT_FALSE(runs_on("80-real,90a-real", 7, 5));
  EXPECT_FALSE(runs_on("80-real,90a-real", 10, 0));
  EXPECT_FALSE(runs_on("86-real", 8, 0));
  EXPECT_TRUE(runs_on("80-real,120", 12, 1));
  EXPECT_FALSE(runs_on("80-real,120", 10, 0));
  EXPECT_TRUE(runs_on("80", 12, 0));
  EXPECT_FALSE(runs_on("90a", 10, 0));
  EXPECT_FALSE(runs_on("", 9, 0));
  EXPECT_EQ(kernels::cuda::architectures_text("80-real,90a-real,120"), "sm_80, sm_90a, sm_120 and later");
}

}  // namespace
}  // namespace trivet
#endif
