// Gradients of element-wise ops on bf16 values: the op cases compare them for f32 only, where differences are exact.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/ops/op_case_driver.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"

namespace trivet::testing {
namespace {

// Rules of several ops round each of their results, to 8 bits.
constexpr double kTolerance = 6 * 0x1p-8;

Tensor cast_tensor(const Tensor& x, DType to) {
  Graph graph;
  const ValueId in = graph.input("x", x.type);
  graph.set_output("y", apply(graph, "cast", {in}, {{"to", std::string(dtype_name(to))}}));
  return evaluate(graph, {{"x", x}}, kernels::cpu::best_isa()).front();
}

// The gradients of sum(cotangent * output) for the float inputs, where f32 stands for `dtype`.
std::vector<Tensor> gradients_in(const CaseVariant& v, std::span<const Tensor> inputs, const Tensor& cotangent,
                                 DType dtype) {
  Graph graph;
  std::vector<ValueId> ids, wanted;
  std::map<std::string, Tensor> bindings;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = fmt::format("in{}", i);
    const bool is_f32 = inputs[i].type.dtype == DType::f32;
    bindings[name] = is_f32 ? cast_tensor(inputs[i], dtype) : inputs[i];
    ids.push_back(graph.input(name, bindings[name].type));
    if (is_f32) wanted.push_back(ids.back());
  }
  const ValueId y = apply(graph, v.op_case->op, ids, v.variant->attrs);
  bindings["seed"] = cast_tensor(cotangent, dtype);
  const ValueId seed = graph.input("seed", bindings["seed"].type);
  const std::vector<ValueId> found = gradients(graph, y, seed, wanted);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] != kNoValue) graph.set_output(fmt::format("grad{}", i), found[i]);
  }
  return evaluate(graph, bindings, kernels::cpu::best_isa());
}

// The inputs as bf16 holds them, in f32: both gradients then start from the same numbers.
Tensor rounded(const Tensor& x) {
  return x.type.dtype == DType::f32 ? cast_tensor(cast_tensor(x, DType::bf16), DType::f32) : x;
}

void check(const CaseVariant& v) {
  std::vector<Tensor> inputs = draw_inputs(v);
  for (Tensor& x : inputs) x = rounded(x);
  const AppliedOp applied = apply_variant(v);
  const Tensor cotangent = rounded(draw_cotangent(v, applied.graph.type(applied.outputs[0]), 0));
  const std::vector<Tensor> expected = gradients_in(v, inputs, cotangent, DType::f32);
  const std::vector<Tensor> found = gradients_in(v, inputs, cotangent, DType::bf16);
  ASSERT_EQ(found.size(), expected.size()) << v.name();
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].type.dtype, DType::bf16) << v.name();
    // Sums over broadcast dimensions may cancel to less than the rounding of their terms.
    if (found[i].type.shape != cotangent.type.shape) continue;
    EXPECT_TRUE(close_to(found[i], to_ref(expected[i]), kTolerance, fmt::format("{}, gradient {}", v.name(), i)));
  }
}

TEST(Bf16Gradients, AreThoseOfF32Rounded) {
  int checked = 0;
  for (const auto family : {elementwise_cases, unary_cases, activation_cases}) {
    for (const OpCase& op_case : family()) {
      if (op_case.bf16_inputs.empty() || !require_op(op_case.op).gradient) continue;
      for (const Variant& variant : op_case.variants) {
        const bool small = element_count(variant.inputs[0].type.shape) <= 200;
        if (!variant.gradient || !small) continue;
        try {
          check({&op_case, &variant});
        } catch (const std::exception& e) {
          ADD_FAILURE() << op_case.op << "/" << variant.name << ": " << e.what();
        }
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 200);
}

}  // namespace
}  // namespace trivet::testing
