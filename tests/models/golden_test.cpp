// Ten training steps of small models give the losses that PyTorch computes (tests/golden/make_golden.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/golden/training.h"
#include "trivet/exec/evaluate.h"

namespace trivet {
namespace {

using nlohmann::json;

class GoldenLosses : public ::testing::TestWithParam<golden::Run> {};

TEST_P(GoldenLosses, OfTenStepsAreThoseOfAnIndependentImplementation) {
  const auto [model, optimizer] = GetParam();
  const json golden_file = golden::file(model);
  const json& run = golden_file.at(optimizer);
  Graph graph = golden::training_graph(model, optimizer, run.at("settings"));
  for (const Update& update : graph.updates()) graph.set_output(graph.value(update.state).name, update.value);
  for (const kernels::cpu::Isa isa : {kernels::cpu::Isa::baseline, kernels::cpu::best_isa()}) {
    std::map<std::string, Tensor> bindings = golden::parameters(graph);
    ASSERT_EQ(bindings.size(), golden_file.at("parameters").size());
    for (const auto& [name, shape] : golden_file.at("parameters").items()) {
      ASSERT_EQ(bindings.at(name).type.shape, shape.get<Shape>()) << name;
    }
    bindings["lr"] = Tensor::scalar_f32(run.at("settings").at("lr").get<float>());
    for (std::size_t step = 0; step < run.at("float64").size(); ++step) {
      bindings["x"] = golden::images(static_cast<std::int64_t>(step));
      bindings["labels"] = golden::labels(static_cast<std::int64_t>(step));
      bindings["optimizer_step"] = Tensor::scalar_i64(static_cast<std::int64_t>(step) + 1);
      std::vector<Tensor> out = evaluate(graph, bindings, isa);
      const double expected = run.at("float64")[step].get<double>();
      EXPECT_NEAR(golden::mean_of(out[0]), expected, golden::tolerance(run) * expected)
          << model << " with " << optimizer << " on " << kernels::cpu::isa_name(isa) << ", step " << step;
      for (std::size_t i = 1; i < out.size(); ++i) bindings[graph.outputs()[i].name] = std::move(out[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLosses, ::testing::ValuesIn(golden::kRuns),
                         [](const auto& p) { return fmt::format("{}_{}", p.param.model, p.param.optimizer); });

}  // namespace
}  // namespace trivet
