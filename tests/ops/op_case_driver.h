// Runs op cases: draws inputs, applies the op, calls kernels, compares with the reference.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/op_cases/op_case.h"
#include "trivet/graph/graph.h"
#include "trivet/kernels/cpu.h"

namespace trivet::testing {

using kernels::cpu::Isa;

// One variant of one case. Points into cases().
struct CaseVariant {
  const OpCase* op_case = nullptr;
  const Variant* variant = nullptr;

  const OpDef& op() const;
  std::string name() const;  // "softmax/mean_1e4"
};

const std::vector<OpCase>& cases();

// A test for one op, run for each of its variants. One test for each variant would start thousands of processes.
class OpTest : public ::testing::TestWithParam<const OpCase*> {
 protected:
  // Calls `check` for each variant; what it throws is a failure of that variant only.
  static void for_each_variant(const std::function<void(const CaseVariant&)>& check);
};

// The cases of ops that exist and that `wanted` chooses, as test parameters with the op's name.
std::vector<const OpCase*> cases_of(const std::function<bool(const OpDef&)>& wanted);
std::string op_name(const ::testing::TestParamInfo<const OpCase*>& parameter);

// Every instruction set from baseline to the best one of this machine.
std::vector<Isa> isas();

// The inputs of a variant, rounded to their dtypes; absent ones are empty tensors. Draws are keyed by op, variant and
// input, so they do not change when other cases do.
std::vector<Tensor> draw_inputs(const CaseVariant& v);
// Cotangents: standard normal draws of the given type, keyed like the inputs.
Tensor draw_cotangent(const CaseVariant& v, const TensorType& type, int output);

Ref to_ref(const Tensor& tensor);
std::vector<Ref> to_refs(std::span<const Tensor> tensors);

// A graph with the variant's inputs ("in0", "in1", ...) and the op applied to them, named "the_node".
struct AppliedOp {
  Graph graph;
  std::vector<ValueId> inputs;  // kNoValue where absent
  std::vector<ValueId> outputs;
};
AppliedOp apply_variant(const CaseVariant& v);
std::map<std::string, Tensor> bind_inputs(std::span<const Tensor> inputs);

// The op's outputs through evaluate().
std::vector<Tensor> evaluate_variant(const CaseVariant& v, std::span<const Tensor> inputs, Isa isa, int threads);

// Calls the kernel itself. Outputs and workspace start as NaN, so an element that is not written shows; memory behind
// each buffer is guarded, and inputs must be unchanged: a failure of the test otherwise. `in_place` are pairs
// (output, input) that share memory.
std::vector<Tensor> call_kernel(const CaseVariant& v, std::span<const Tensor> inputs, Isa isa,
                                std::span<const std::pair<int, int>> in_place);

// What an absolute error is measured against, given the largest magnitude of a tensor: that magnitude, between 0.01 and
// 1. The values of a softmax over 1,025 are so small that wrong ones would pass a bound relative to 1. A tensor of
// zeros has no scale: where large terms cancel, their rounding is left, and 1 is the scale.
double error_scale(double largest);

// |found - expected| <= tolerance * (error_scale + |expected|); NaN matches NaN only, infinities and integers must be
// equal. A value outside of float32's range is expected as infinity. `where` begins the message.
::testing::AssertionResult close_to(const Tensor& found, const Ref& expected, double tolerance,
                                    const std::string& where);
::testing::AssertionResult same_bits(const Tensor& found, const Tensor& expected, const std::string& where);

}  // namespace trivet::testing
