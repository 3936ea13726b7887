// The host's side of a plug-in, with plug-ins made for it: no GPU is needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/plugins/environment.h"
#include "trivet/base/error.h"
#include "trivet/exec/plugins.h"
#include "trivet/exec/session.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using testing::fake_counts;
using ::testing::HasSubstr;
using testing::SetVariable;
using testing::UsePlugin;

Error refusal(const std::string& device = "cuda") {
  try {
    open_device(device);
  } catch (const Error& e) {
    return e;
  }
  throw std::runtime_error("the device was opened");
}

TEST(Plugin, AbsentOnesAreSaidToBeAbsentAndWhereTheyWereLookedFor) {
  const SetVariable path("TRIVET_PLUGIN_PATH", UsePlugin::folder("nowhere"));
  const PluginReport report = examine_cuda();
  ASSERT_GE(report.searched.size(), 3U);
  EXPECT_EQ(report.searched[0], UsePlugin::folder("nowhere"));
  if (!report.file.empty()) GTEST_SKIP() << "this build has the CUDA plug-in";
  const Error error = refusal();
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_THAT(error.what(), HasSubstr("CUDA cannot be used: there is no libtrivet_cuda.so; looked in "));
  EXPECT_THAT(error.what(), HasSubstr(UsePlugin::folder("nowhere")));
}

TEST(Plugin, RelativeFoldersAreNotLookedIn) {
  const SetVariable path("TRIVET_PLUGIN_PATH", "plugins:.:/");
  EXPECT_EQ(examine_cuda().searched[0], "/");
}

TEST(Plugin, AnotherVersionIsRefusedNamingBoth) {
  const UsePlugin plugin("other_version");
  EXPECT_THAT(refusal().what(), HasSubstr("has version 3 of the interface, this program has 2"));
}

TEST(Plugin, OtherAttributeStructsAreRefused) {
  const UsePlugin plugin("other_layout");
  EXPECT_THAT(refusal().what(), HasSubstr("was built with other structs of attributes"));
}

TEST(Plugin, ALibraryWithoutTheFunctionIsNoPlugin) {
  const UsePlugin plugin("no_query");
  EXPECT_THAT(refusal().what(), HasSubstr("has no function trivet_backend_query"));
}

TEST(Plugin, AMissingLibraryIsNamedWithTheFoldersThatWereSearched) {
  const UsePlugin plugin("needs_missing");
  const SetVariable folders("TRIVET_CUDA_LIBDIRS", "/opt/none:/opt/neither");
  const Error error = refusal();
  EXPECT_THAT(error.what(), HasSubstr("libtrivet_test_missing.so: cannot open shared object file"));
  EXPECT_THAT(error.what(), HasSubstr("looked in /opt/none, /opt/neither, the system's libraries, /usr/local/cuda"));
}

TEST(Plugin, ADamagedFileIsRefused) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("trivet-plugin-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "libtrivet_cuda.so") << "not a library";
  {
    const SetVariable path("TRIVET_PLUGIN_PATH", folder.string());
    EXPECT_THAT(refusal().what(), HasSubstr("libtrivet_cuda.so cannot be opened: "));
  }
  std::filesystem::remove_all(folder);
}

TEST(Plugin, ItsReasonForHavingNoDeviceIsTheError) {
  const UsePlugin plugin("fake");
  const SetVariable problem("TRIVET_FAKE_PROBLEM", "the driver is from 1999");
  EXPECT_THAT(refusal().what(), HasSubstr("CUDA cannot be used: the driver is from 1999"));
  const PluginReport report = examine_cuda();
  EXPECT_EQ(report.problem, "the driver is from 1999");
  EXPECT_TRUE(report.devices.empty());
}

TEST(Plugin, IsExaminedWithItsLibrariesAndDevices) {
  const UsePlugin plugin("fake");
  const PluginReport report = examine_cuda();
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.build, "the CPU's kernels, for tests");
  ASSERT_EQ(report.devices.size(), 2U);
  EXPECT_EQ(report.devices[1].name, "Fake 1");
  ASSERT_EQ(report.libraries.size(), 1U);
  EXPECT_EQ(report.libraries[0].version, "");
  EXPECT_EQ(report.libraries[0].place, "it is nowhere");
}

TEST(OpenDevice, TakesTheNumberOfAGpu) {
  const UsePlugin plugin("fake");
  EXPECT_EQ(open_device("cuda")->description(), "cuda fake");
  EXPECT_EQ(open_device("cuda:1")->memory_bytes(), std::size_t{1} << 30);
  EXPECT_THAT(refusal("cuda:2").what(), HasSubstr("there is no device 2: this machine has 2, counted from 0"));
  for (const char* name : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999", "gpu"}) {
    EXPECT_THAT(refusal(name).what(), HasSubstr("there is no device '")) << name;
  }
}

// s <- s + x w; y = s * 2 of the new value.
Graph accumulator() {
  Graph g("accumulator");
  const ValueId x = g.input("x", {DType::f32, {4, 8}});
  const ValueId w = g.parameter("w", {DType::f32, {3, 8}}, {Init::Kind::normal, 1.0});
  const ValueId s = g.state("s", {DType::f32, {4, 3}}, MemoryClass::optimizer, {Init::Kind::constant, 0.5});
  const ValueId scale = g.input("scale", {DType::f32, {}});
  const ValueId sum = apply(g, "add", {s, apply(g, "mul", {apply(g, "linear", {x, w}), scale})});
  g.set_output("y", apply(g, "add", {sum, sum}));
  g.set_update(s, sum);
  return g;
}

struct Running {
  std::shared_ptr<const Device> device;
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<Arena> arena;
  std::unique_ptr<Session> session;

  explicit Running(const std::string& name, const Graph& graph = accumulator()) : device(open_device(name, {1, {}})) {
    StateLayout states(device->alignment());
    states.add(graph);
    plan = compile(graph, states, *device);
    arena = std::make_shared<Arena>(device, states, std::vector{plan});
    arena->initialize(7);
    session = std::make_unique<Session>(arena, plan);
  }
  void start(int step) {
    std::vector<float> x(32);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(step * 32) + static_cast<float>(i));
    const float scale = 1.0F + static_cast<float>(step);
    session->set_input("x", x.data(), x.size() * sizeof(float));
    session->set_input("scale", &scale, sizeof scale);
    session->run();
  }
};

TEST(Plugin, RunsHaveTheBitsOfTheCpuOneByOneAndRecorded) {
  const UsePlugin plugin("fake");
  Running cpu("cpu"), cuda("cuda");
  for (int step = 0; step < 6; ++step) {
    cpu.start(step);
    cuda.start(step);
    ASSERT_EQ(cuda.session->output("y").data, cpu.session->output("y").data) << "step " << step;
  }
  EXPECT_EQ(cuda.arena->get_state("s").data, cpu.arena->get_state("s").data);
}

TEST(Plugin, RunsThatNobodyWaitsForHaveTheSameBits) {
  const UsePlugin plugin("fake");
  Running cpu("cpu"), cuda("cuda");
  for (int step = 0; step < 9; ++step) {
    cpu.start(step);
    cuda.start(step);
  }
  EXPECT_EQ(cuda.session->output("y").data, cpu.session->output("y").data);
}

TEST(Plugin, AStepIsRecordedOncePerSlotAndThenStartedAsOne) {
  const UsePlugin plugin("fake");
  Running cuda("cuda");
  cuda.start(0);
  const FakeCounts before = fake_counts();
  for (int step = 1; step < 10; ++step) cuda.start(step);
  const FakeCounts& after = fake_counts();
  EXPECT_EQ(after.graphs - before.graphs, 2);
  EXPECT_EQ(after.graph_launches - before.graph_launches, 9);
  EXPECT_EQ(after.kernels - before.kernels, 2 * static_cast<int>(cuda.plan->steps.size()));
}

TEST(Plugin, StepsAllocateNothingAndWaitForNothing) {
  const UsePlugin plugin("fake");
  Running cuda("cuda");
  const FakeCounts before = fake_counts();
  for (int step = 0; step < 5; ++step) cuda.start(step);
  EXPECT_EQ(fake_counts().allocations, before.allocations);
  EXPECT_EQ(fake_counts().synchronizations, before.synchronizations);
}

TEST(Plugin, TwoSessionsTakeTurnsOnOneArena) {
  const UsePlugin plugin("fake");
  const auto run = [](const char* name) {
    Running r(name);
    Session other(r.arena, r.plan);
    std::vector<float> result;
    for (int step = 0; step < 4; ++step) {
      r.start(step);
      const std::vector<float> x(32, 0.25F * static_cast<float>(step));
      const float scale = 2;
      other.set_input("x", x.data(), 128);
      other.set_input("scale", &scale, 4);
      other.run();
    }
    return other.output("y").data;
  };
  EXPECT_EQ(run("cuda"), run("cpu"));
}

TEST(Plugin, WeightsAreKeptPackedWhileTheyDoNotChange) {
  const UsePlugin plugin("fake");
  Graph g("fixed");
  const ValueId x = g.input("x", {DType::f32, {64, 64}});
  const ValueId w = g.parameter("w", {DType::f32, {64, 64}}, {Init::Kind::normal, 1.0});
  g.set_output("y", apply(g, "linear", {x, w}));
  const auto run = [&](const char* name) {
    const auto device = open_device(name, {1, {}});
    StateLayout states(device->alignment());
    states.add(g);
    const auto plan = compile(g, states, *device, {.fixed_states = true});
    const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
    Session session(arena, plan);
    std::vector<std::byte> result;
    const std::vector<float> ones(64 * 64, 1.0F);
    for (const std::uint64_t seed : {1, 1, 2}) {
      arena->initialize(seed);
      for (int i = 0; i < 3; ++i) {
        session.set_input("x", ones.data(), ones.size() * sizeof(float));
        session.run();
      }
      const Tensor y = session.output("y");
      result.insert(result.end(), y.data.begin(), y.data.end());
    }
    return result;
  };
  EXPECT_EQ(run("cuda"), run("cpu"));
}

TEST(Plugin, AKernelThatFailsIsNamedOneByOneAndWhileRecording) {
  const UsePlugin plugin("fake");
  Running cuda("cuda");
  const auto failure = [&](int step) -> std::string {
    const SetVariable fails("TRIVET_FAKE_FAILS", "mul");
    try {
      cuda.start(step);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::internal);
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(failure(0), HasSubstr("the device cannot run a kernel: mul: the kernel was told to fail"));
  cuda.start(0);
  EXPECT_THAT(failure(1), HasSubstr("mul: the kernel was told to fail"));
  cuda.start(1);  // what was half recorded is gone
  EXPECT_EQ(cuda.session->output("y").type.elements(), 12);
}

TEST(Plugin, MoreMemoryThanTheDeviceHasIsAnErrorBeforeItIsAskedFor) {
  const UsePlugin plugin("fake");
  const auto device = open_device("cuda");
  try {
    device->allocate((std::size_t{1} << 30) + 1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::memory);
    EXPECT_THAT(e.what(), HasSubstr("Fake 0 has 1.0 GiB"));
  }
}

TEST(Plugin, DevicesAreClosedWhenNothingRefersToThem) {
  const UsePlugin plugin("fake");
  auto cuda = std::make_unique<Running>("cuda");
  EXPECT_EQ(fake_counts().open_devices, 1);
  const std::shared_ptr<const Plan> plan = cuda->plan;
  cuda.reset();
  EXPECT_EQ(fake_counts().open_devices, 1);  // what the plan prepared is the device's
}

TEST(Plugin, AnOpWithoutAKernelIsAnErrorOfThePlan) {
  const UsePlugin plugin("fake");
  EXPECT_EQ(open_device("cuda")->find("no_such_op"), nullptr);
}

}  // namespace
}  // namespace trivet
