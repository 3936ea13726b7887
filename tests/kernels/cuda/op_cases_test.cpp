// Every CUDA kernel in the simulator, on the cases of its op that are small.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "kernels/cuda/families.h"
#include "kernels/cuda/sim/simulator.h"
#include "tests/kernels/cuda/simulated_op.h"
#include "trivet/ops/registry.h"

namespace trivet::testing {
namespace {

namespace sim = kernels::cuda::sim;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::int64_t kMostElements = 4096;  // the thread sanitizer takes 18 microseconds for each thread of a kernel
constexpr std::int64_t kMostForAllSchedules = 300;
#else
constexpr std::int64_t kMostElements = 24'000;
constexpr std::int64_t kMostForAllSchedules = 4096;
#endif

using CudaKernels = OpTest;

// Calls `check` for the variants of a case that the kernel supports, with 16-bit floats as bf16 and as f16.
int for_each_supported(const OpCase& op_case, const std::function<void(const SimulatedOp&)>& check) {
  int count = 0;
  for (const Variant& variant : op_case.variants) {
    const CaseVariant v{&op_case, &variant};
    const bool has_bf16 = std::any_of(variant.inputs.begin(), variant.inputs.end(),
                                      [](const CaseInput& i) { return i.type.dtype == DType::bf16; });
    for (const bool as_f16 : {false, true}) {
      const SimulatedOp op{v, as_f16};
      if ((as_f16 && !has_bf16) || support_of(op) != Support::yes || largest_tensor(op) > kMostElements) continue;
      // Attributes name their dtype, so these ops cannot be turned to f16 by their inputs.
      if (as_f16 && (op_case.op == "cast" || op_case.op == "full" || op_case.op == "one_hot")) continue;
      ++count;
      try {
        check(op);
      } catch (const std::exception& e) {
        ADD_FAILURE() << op.name() << ": " << e.what();
      }
    }
  }
  sim::set_schedule(0);
  return count;
}

void check_values(const SimulatedOp& op) {
  const std::vector<Tensor> inputs = inputs_of(op);
  const std::vector<Ref> expected = op.variant.op_case->reference(to_refs(inputs), *op.variant.variant);
  sim::set_schedule(0);
  const std::vector<Tensor> found = simulate(op, inputs);
  ASSERT_EQ(found.size(), expected.size()) << op.name() << ": number of outputs";
  for (std::size_t o = 0; o < found.size(); ++o) {
    const double tolerance = tensor_core_tolerance(*op.variant.op_case, *op.variant.variant, found[o].type.dtype);
    EXPECT_TRUE(close_to(found[o], expected[o], tolerance, op.name() + ", output " + std::to_string(o)));
  }
  if (largest_tensor(op) > kMostForAllSchedules) return;
  for (const unsigned seed : {1u, 2u}) {
    sim::set_schedule(seed);
    const std::vector<Tensor> again = simulate(op, inputs);
    for (std::size_t o = 0; o < found.size(); ++o) {
      EXPECT_TRUE(same_bits(again[o], found[o], op.name() + " with schedule " + std::to_string(seed)));
    }
  }
}

TEST_P(CudaKernels, MatchTheFloat64ReferenceInEverySchedule) {
  EXPECT_GT(for_each_supported(*GetParam(), check_values), 0) << "no variant of this op is small enough";
}

void check_in_place(const SimulatedOp& op) {
  const std::vector<Tensor> inputs = inputs_of(op);
  const AppliedOp applied = apply_variant(op.variant);
  if (largest_tensor(op) > kMostForAllSchedules) return;
  for (const auto& [output, input] : op.variant.op().in_place) {
    if (static_cast<std::size_t>(input) >= applied.inputs.size()) continue;
    const ValueId in = applied.inputs[static_cast<std::size_t>(input)];
    const ValueId out = applied.outputs[static_cast<std::size_t>(output)];
    if (in == kNoValue || applied.graph.type(in) != applied.graph.type(out)) continue;
    const std::vector<Tensor> expected = simulate(op, inputs);
    const std::vector<Tensor> found = simulate(op, inputs, std::vector<std::pair<int, int>>{{output, input}});
    for (std::size_t o = 0; o < found.size(); ++o) {
      EXPECT_TRUE(same_bits(found[o], expected[o],
                            op.name() + ", output " + std::to_string(output) + " over input " + std::to_string(input)));
    }
  }
}

TEST_P(CudaKernels, GiveTheSameBitsInPlace) { for_each_supported(*GetParam(), check_in_place); }

INSTANTIATE_TEST_SUITE_P(Ops, CudaKernels, ::testing::ValuesIn(cases_of([](const OpDef& op) {
                           return kernels::cuda::find(op.name) != nullptr;
                         })),
                         op_name);

// The ops named in the first column of the page's table.
std::set<std::string> documented_ops() {
  std::ifstream page(TRIVET_SOURCE_DIR "/docs/cuda-kernels.md");
  std::set<std::string> ops;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| ")) continue;
    std::istringstream names(line.substr(2, line.find(" |", 2) - 2));
    for (std::string name; names >> name;) {
      if (name.ends_with(',')) name.pop_back();
      if (find_op(name) != nullptr) ops.insert(name);
    }
  }
  return ops;
}

TEST(CudaKernelsPage, NamesEveryOpThatHasAKernelAndNoOther) {
  std::set<std::string> expected;
  for (const OpDef& op : all_ops()) {
    if (kernels::cuda::find(op.name) != nullptr) expected.insert(op.name);
  }
  EXPECT_EQ(documented_ops(), expected);
}

}  // namespace
}  // namespace trivet::testing
