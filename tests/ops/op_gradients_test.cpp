// The gradient rule of every differentiable op against central differences of its case's float64 reference, with
// random cotangents: a cotangent of ones would hide every error that sums to zero (softmax, norms).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/math/philox.h"
#include "tests/ops/op_case_driver.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"

namespace trivet::testing {
namespace {

// In float64 a central difference is exact to about 1e-7, so what is left is float32's rounding in the backward
// kernels: sums of up to a few thousand terms, 100 times the unit roundoff of 6e-8 and some room for terms that
// cancel. Variants whose outputs are allowed more error allow it for their gradients as well.
constexpr double kGradientTolerance = 2e-5;
constexpr double kDefaultTolerance = 2e-6;

// Inputs up to this many elements are checked at every element, larger ones at kSampledElements.
constexpr std::int64_t kAllElements = 200;
constexpr std::int64_t kSampledElements = 64;

std::vector<int> differentiable_inputs(const CaseVariant& v) {
  std::vector<int> result;
  for (std::size_t i = 0; i < v.variant->inputs.size(); ++i) {
    const CaseInput& input = v.variant->inputs[i];
    const std::vector<int>& listed = v.op_case->differentiable;
    const bool wanted = listed.empty() || std::find(listed.begin(), listed.end(), static_cast<int>(i)) != listed.end();
    if (wanted && !input.absent && is_float(input.type.dtype)) result.push_back(static_cast<int>(i));
  }
  return result;
}

std::vector<const OpCase*> differentiable_cases() {
  return cases_of([](const OpDef& op) { return op.gradient != nullptr; });
}

// What the ops' gradient rules give for one cotangent of output `output`: one tensor for each of `wrt`, none where no
// gradient flows.
std::vector<std::optional<Tensor>> gradients_of_output(const CaseVariant& v, std::span<const Tensor> inputs,
                                                       std::span<const int> wrt, int output, const Tensor& cotangent,
                                                       Isa isa) {
  AppliedOp applied = apply_variant(v);
  const ValueId seed = applied.graph.input("seed", cotangent.type);
  std::vector<ValueId> wanted;
  for (const int i : wrt) wanted.push_back(applied.inputs[static_cast<std::size_t>(i)]);
  const std::vector<ValueId> found =
      gradients(applied.graph, applied.outputs[static_cast<std::size_t>(output)], seed, wanted);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] != kNoValue) applied.graph.set_output(fmt::format("grad{}", i), found[i]);
  }
  auto bindings = bind_inputs(inputs);
  bindings["seed"] = cotangent;
  std::vector<Tensor> values = evaluate(applied.graph, bindings, isa);
  std::vector<std::optional<Tensor>> result(found.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] != kNoValue) result[i] = std::move(values[next++]);
  }
  return result;
}

// The float outputs with their cotangents. An op may declare an output other than the first as not differentiable
// (statistics kept for the backward pass): its rule then says so in an Error, and the output is left out.
std::map<int, Tensor> cotangents_of(const CaseVariant& v, std::span<const Tensor> inputs, std::span<const int> wrt) {
  std::map<int, Tensor> cotangents;
  const AppliedOp applied = apply_variant(v);
  for (std::size_t o = 0; o < applied.outputs.size(); ++o) {
    const TensorType& type = applied.graph.type(applied.outputs[o]);
    if (!is_float(type.dtype)) continue;
    const int output = static_cast<int>(o);
    Tensor cotangent = draw_cotangent(v, type, output);
    try {
      gradients_of_output(v, inputs, wrt, output, cotangent, Isa::baseline);
    } catch (const Error& e) {
      EXPECT_TRUE(o > 0 && e.code() == ErrorCode::graph) << v.name() << ", output " << o << ": " << e.what();
      EXPECT_THAT(e.message(), ::testing::HasSubstr("no gradient")) << v.name() << ", output " << o;
      continue;
    }
    cotangents.emplace(output, std::move(cotangent));
  }
  return cotangents;
}

// sum over outputs of sum(cotangent * output), in float64.
double scalar_loss(const CaseVariant& v, const std::vector<Ref>& inputs, const std::map<int, Ref>& cotangents) {
  const std::vector<Ref> outputs = v.op_case->reference(inputs, *v.variant);
  double loss = 0;
  for (const auto& [o, cotangent] : cotangents) {
    const Ref& output = outputs[static_cast<std::size_t>(o)];
    for (std::int64_t i = 0; i < output.size(); ++i) loss += cotangent[i] * output[i];
  }
  return loss;
}

// Central difference with respect to one element. The step is small enough that the third derivative does not count. It
// grows with the element, because sums of numbers near 1e4 lose their last digits.
double central_difference(const CaseVariant& v, std::vector<Ref>& inputs, const std::map<int, Ref>& cotangents,
                          int input, std::int64_t element) {
  double& x = inputs[static_cast<std::size_t>(input)][element];
  const double middle = x;
  const double step = std::max(1e-5, 1e-7 * std::abs(middle));
  x = middle + step;
  const double above = x;
  const double loss_above = scalar_loss(v, inputs, cotangents);
  x = middle - step;
  const double below = x;
  const double loss_below = scalar_loss(v, inputs, cotangents);
  x = middle;
  return (loss_above - loss_below) / (above - below);
}

std::vector<std::int64_t> elements_to_check(std::int64_t count, std::uint64_t key) {
  std::vector<std::int64_t> elements;
  if (count <= kAllElements) {
    for (std::int64_t i = 0; i < count; ++i) elements.push_back(i);
    return elements;
  }
  elements = {0, count - 1};
  for (std::int64_t i = 2; i < kSampledElements; ++i) {
    elements.push_back(math::philox(key, 0, static_cast<std::uint64_t>(i)).v[0] % count);
  }
  return elements;
}

using OpGradient = OpTest;

void check_gradient(const CaseVariant& v) {
  if (!v.variant->gradient) return;
  const std::vector<Tensor> inputs = draw_inputs(v);
  const std::vector<int> wrt = differentiable_inputs(v);
  ASSERT_FALSE(wrt.empty()) << v.name() << " has no input to differentiate by";
  const std::map<int, Tensor> cotangents = cotangents_of(v, inputs, wrt);
  ASSERT_FALSE(cotangents.empty()) << v.name() << " has no differentiable output";

  // found[isa][wrt]: the sum over the outputs' contributions.
  std::vector<std::vector<Ref>> found;
  for (const Isa isa : isas()) {
    std::vector<Ref> sums;
    for (const int i : wrt) sums.push_back(Ref::zeros(inputs[static_cast<std::size_t>(i)].type.shape));
    for (const auto& [output, cotangent] : cotangents) {
      const std::vector<std::optional<Tensor>> parts = gradients_of_output(v, inputs, wrt, output, cotangent, isa);
      for (std::size_t w = 0; w < wrt.size(); ++w) {
        if (!parts[w]) continue;
        const Ref part = to_ref(*parts[w]);
        for (std::int64_t k = 0; k < part.size(); ++k) sums[w][k] += part[k];
      }
    }
    found.push_back(std::move(sums));
  }

  std::vector<Ref> reference_inputs = to_refs(inputs);
  std::map<int, Ref> reference_cotangents;
  for (const auto& [output, cotangent] : cotangents) reference_cotangents.emplace(output, to_ref(cotangent));
  const double tolerance = kGradientTolerance * std::max(1.0, v.variant->tolerance / kDefaultTolerance);
  for (std::size_t w = 0; w < wrt.size(); ++w) {
    const std::vector<std::int64_t> elements =
        elements_to_check(found[0][w].size(), static_cast<std::uint64_t>(wrt[w]));
    std::vector<double> expected;
    double largest = 0;
    for (const std::int64_t k : elements) {
      expected.push_back(central_difference(v, reference_inputs, reference_cotangents, wrt[w], k));
      largest = std::max(largest, std::abs(expected.back()));
    }
    ASSERT_TRUE(std::isfinite(largest)) << v.name()
                                        << " has no finite gradient: its variant should set gradient = false";
    const double scale = error_scale(largest);
    for (std::size_t e = 0; e < elements.size(); ++e) {
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double value = found[i][w][elements[e]];
        ASSERT_LE(std::abs(value - expected[e]), tolerance * (scale + std::abs(expected[e])))
            << v.name() << " on " << kernels::cpu::isa_name(isas()[i]) << ": gradient of input " << wrt[w]
            << ", element " << elements[e] << " is " << value << ", expected " << expected[e];
      }
    }
  }
}
TEST_P(OpGradient, MatchesCentralDifferencesForRandomCotangents) { for_each_variant(check_gradient); }

// y = op(x) + op(x): both uses contribute the same bits, so the sum is exactly twice the gradient of one use.
void check_two_uses(const CaseVariant& v) {
  if (!v.variant->gradient) return;
  const std::vector<Tensor> inputs = draw_inputs(v);
  const std::vector<int> wrt = differentiable_inputs(v);
  AppliedOp applied = apply_variant(v);
  const TensorType type = applied.graph.type(applied.outputs[0]);
  for (const int i : wrt) {
    const DType dtype = inputs[static_cast<std::size_t>(i)].type.dtype;
    if (type.dtype != DType::f32 || dtype != DType::f32) return;  // only f32 is added
  }
  const Tensor cotangent = draw_cotangent(v, type, 0);
  const std::vector<std::optional<Tensor>> once = gradients_of_output(v, inputs, wrt, 0, cotangent, Isa::baseline);

  const ValueId again = applied.graph.add(v.op(), applied.inputs, v.variant->attrs, "the_node_again")[0];
  const ValueId y = apply(applied.graph, "add", {applied.outputs[0], again});
  const ValueId seed = applied.graph.input("seed", type);
  std::vector<ValueId> wanted;
  for (const int i : wrt) wanted.push_back(applied.inputs[static_cast<std::size_t>(i)]);
  const std::vector<ValueId> found = gradients(applied.graph, y, seed, wanted);
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i] != kNoValue, once[i].has_value()) << v.name() << ", input " << wrt[i];
    if (found[i] != kNoValue) applied.graph.set_output(fmt::format("grad{}", i), found[i]);
  }
  auto bindings = bind_inputs(inputs);
  bindings["seed"] = cotangent;
  const std::vector<Tensor> twice = evaluate(applied.graph, bindings, Isa::baseline);
  std::size_t next = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == kNoValue) continue;
    Tensor expected = *once[i];
    for (float& g : expected.as<float>()) g *= 2;
    EXPECT_TRUE(same_bits(twice[next++], expected, fmt::format("{}, gradient of input {}", v.name(), wrt[i])));
  }
}
TEST_P(OpGradient, OfTwoUsesIsTheSumOfBoth) { for_each_variant(check_two_uses); }

INSTANTIATE_TEST_SUITE_P(Ops, OpGradient, ::testing::ValuesIn(differentiable_cases()), op_name);

// op(x, x): both inputs of one node are the same value.
TEST(Gradients, OfOneValueAsBothInputsIsTheSumOfBoth) {
  const std::vector<float> values = {0.5F, -1.25F, 2.0F, 0.75F};
  const Tensor x = Tensor::of<float>(DType::f32, {2, 2}, values);
  for (const std::string op : {"add", "sub", "mul", "matmul"}) {
    Graph graph;
    const ValueId a = graph.input("a", x.type);
    const ValueId b = graph.input("b", x.type);
    const ValueId shared = graph.input("shared", x.type);
    const std::vector<ValueId> apart = gradients(graph, apply(graph, op, {a, b}), kNoValue, std::vector{a, b});
    const std::vector<ValueId> both =
        gradients(graph, apply(graph, op, {shared, shared}), kNoValue, std::vector{shared});
    graph.set_output("da", apart[0]);
    graph.set_output("db", apart[1]);
    graph.set_output("dshared", both[0]);
    const auto out = evaluate(graph, {{"a", x}, {"b", x}, {"shared", x}}, Isa::baseline);
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(out[2].as<float>()[i], out[0].as<float>()[i] + out[1].as<float>()[i]) << op << ", element " << i;
    }
  }
}

}  // namespace
}  // namespace trivet::testing
