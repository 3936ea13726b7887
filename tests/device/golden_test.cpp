// Ten training steps on a device give the losses that PyTorch computes (tests/golden/make_golden.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/device/tested_device.h"
#include "tests/golden/training.h"
#include "trivet/exec/session.h"

namespace trivet::testing {
namespace {

class DeviceGoldenLosses : public ::testing::TestWithParam<golden::Run> {};

TEST_P(DeviceGoldenLosses, OfTenStepsAreThoseOfAnIndependentImplementation) {
  TRIVET_NEEDS_DEVICE();
  const std::shared_ptr<const Device>& device = tested_device().device;
  const auto [model, optimizer] = GetParam();
  const nlohmann::json golden_file = golden::file(model);
  const nlohmann::json& run = golden_file.at(optimizer);
  const Graph graph = golden::training_graph(model, optimizer, run.at("settings"));
  StateLayout states(device->alignment());
  states.add(graph);
  std::shared_ptr<const Plan> plan;
  try {
    plan = compile(graph, states, *device);
  } catch (const Error& e) {
    std::string reason;
    if (!is_no_kernel(e, reason)) throw;
    GTEST_SKIP() << reason;
  }
  const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
  arena->initialize(0);
  for (const auto& [name, value] : golden::parameters(graph)) arena->set_state(name, value);
  Session session(arena, plan);
  const auto set = [&](const char* name, const Tensor& value) {
    session.set_input(name, value.data.data(), value.data.size());
  };
  for (std::size_t step = 0; step < run.at("float64").size(); ++step) {
    set("x", golden::images(static_cast<std::int64_t>(step)));
    set("labels", golden::labels(static_cast<std::int64_t>(step)));
    set("lr", Tensor::scalar_f32(run.at("settings").at("lr").get<float>()));
    if (plan->inputs.contains("optimizer_step")) {
      set("optimizer_step", Tensor::scalar_i64(static_cast<std::int64_t>(step) + 1));
    }
    session.run();
    const double expected = run.at("float64")[step].get<double>();
    EXPECT_NEAR(golden::mean_of(session.output("loss")), expected, golden::tolerance(run) * expected)
        << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DeviceGoldenLosses, ::testing::ValuesIn(golden::kRuns),
                         [](const auto& p) { return fmt::format("{}_{}", p.param.model, p.param.optimizer); });

}  // namespace
}  // namespace trivet::testing
