// Every op case on a device, through plan and session, against the float64 reference.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/math/small_float.h"
#include "tests/device/tested_device.h"
#include "tests/ops/op_case_driver.h"
#include "trivet/exec/session.h"

namespace trivet::testing {
namespace {

constexpr int kRuns = 3;  // one by one, then recorded, then replayed

// The variant with its 16-bit floats as f16.
Variant with_f16(Variant variant) {
  for (CaseInput& input : variant.inputs) {
    if (input.type.dtype == DType::bf16) input.type.dtype = DType::f16;
  }
  return variant;
}

bool has_bf16(const Variant& variant) {
  return std::any_of(variant.inputs.begin(), variant.inputs.end(),
                     [](const CaseInput& i) { return !i.absent && i.type.dtype == DType::bf16; });
}

// Outputs of each run. Nothing, with the reason, if the device has no kernel for the variant.
std::vector<std::vector<Tensor>> run_on_device(const CaseVariant& v, std::span<const Tensor> inputs,
                                               std::string& no_kernel) {
  const std::shared_ptr<const Device>& device = tested_device().device;
  AppliedOp applied = apply_variant(v);
  for (std::size_t o = 0; o < applied.outputs.size(); ++o) {
    applied.graph.set_output(fmt::format("out{}", o), applied.outputs[o]);
  }
  StateLayout states(device->alignment());
  states.add(applied.graph);
  std::shared_ptr<const Plan> plan;
  try {
    plan = compile(applied.graph, states, *device);
  } catch (const Error& e) {
    if (!is_no_kernel(e, no_kernel)) throw;
    return {};
  }
  const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
  arena->initialize(0);
  Session session(arena, plan);
  std::vector<std::vector<Tensor>> runs;
  for (int i = 0; i < kRuns; ++i) {
    for (std::size_t in = 0; in < inputs.size(); ++in) {
      if (!v.variant->inputs[in].absent) {
        session.set_input(fmt::format("in{}", in), inputs[in].data.data(), inputs[in].data.size());
      }
    }
    session.run();
    runs.emplace_back();
    for (std::size_t o = 0; o < applied.outputs.size(); ++o) {
      runs.back().push_back(session.output(fmt::format("out{}", o)));
    }
  }
  return runs;
}

struct Count {
  int checked = 0, without_kernel = 0;
  std::string first_without;
};

void check(const CaseVariant& v, const std::string& dtype, Count& count) {
  const std::vector<Tensor> inputs = draw_inputs(v);
  std::string no_kernel;
  const auto runs = run_on_device(v, inputs, no_kernel);
  if (runs.empty()) {
    if (count.without_kernel++ == 0) count.first_without = no_kernel;
    return;
  }
  ++count.checked;
  const std::vector<Ref> expected = v.op_case->reference(to_refs(inputs), *v.variant);
  ASSERT_EQ(runs[0].size(), expected.size()) << v.name() << ": number of outputs";
  for (std::size_t o = 0; o < expected.size(); ++o) {
    const std::string where = fmt::format("{}{}, output {}", v.name(), dtype, o);
    const double tolerance = tensor_core_tolerance(*v.op_case, *v.variant, runs[0][o].type.dtype);
    EXPECT_TRUE(close_to(runs[0][o], expected[o], tolerance, where));
    for (std::size_t i = 1; i < runs.size(); ++i) {
      EXPECT_TRUE(same_bits(runs[i][o], runs[0][o], fmt::format("{}, run {}", where, i + 1)));
    }
  }
}

class DeviceOps : public OpTest {};

TEST_P(DeviceOps, MatchTheFloat64ReferenceOnEveryRun) {
  TRIVET_NEEDS_DEVICE();
  Count count;
  for_each_variant([&](const CaseVariant& v) {
    check(v, "", count);
    if (!has_bf16(*v.variant)) return;
    const Variant f16 = with_f16(*v.variant);
    const CaseVariant as_f16{v.op_case, &f16};
    try {
      apply_variant(as_f16);
    } catch (const Error&) {
      return;  // an op whose rules have no f16
    }
    check(as_f16, " as f16", count);
  });
  RecordProperty("variants_checked", count.checked);
  RecordProperty("variants_without_kernel", count.without_kernel);
  if (count.checked == 0) GTEST_SKIP() << "no kernel: " << count.first_without;
}

INSTANTIATE_TEST_SUITE_P(Ops, DeviceOps, ::testing::ValuesIn(cases_of([](const OpDef& op) {
                           return !op.alias && op.name.find("sum_ranks") == std::string::npos;
                         })),
                         op_name);

}  // namespace
}  // namespace trivet::testing
