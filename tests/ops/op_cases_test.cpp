// What every op promises, checked for every variant of its case. Failures begin with the op's and the variant's name.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/op_case_driver.h"
#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet::testing {
namespace {

using InPlacePairs = std::vector<std::pair<int, int>>;

using OpValues = OpTest;

void check_values(const CaseVariant& v) {
  const std::vector<Tensor> inputs = draw_inputs(v);
  const std::vector<Ref> expected = v.op_case->reference(to_refs(inputs), *v.variant);
  for (const Isa isa : isas()) {
    const std::vector<Tensor> found = evaluate_variant(v, inputs, isa, 1);
    ASSERT_EQ(found.size(), expected.size()) << v.name() << ": number of outputs";
    for (std::size_t o = 0; o < found.size(); ++o) {
      const std::string where = fmt::format("{} on {}, output {}", v.name(), kernels::cpu::isa_name(isa), o);
      EXPECT_TRUE(close_to(found[o], expected[o], v.variant->tolerance, where));
    }
  }
}
TEST_P(OpValues, MatchTheFloat64ReferenceOnEveryInstructionSet) { for_each_variant(check_values); }

void check_threads(const CaseVariant& v) {
  const std::vector<Tensor> inputs = draw_inputs(v);
  for (const Isa isa : isas()) {
    const std::vector<Tensor> expected = evaluate_variant(v, inputs, isa, 1);
    for (const int threads : {2, 3}) {
      const std::vector<Tensor> found = evaluate_variant(v, inputs, isa, threads);
      for (std::size_t o = 0; o < found.size(); ++o) {
        EXPECT_TRUE(same_bits(
            found[o], expected[o],
            fmt::format("{} on {} with {} threads, output {}", v.name(), kernels::cpu::isa_name(isa), threads, o)));
      }
    }
  }
}

using OpKernel = OpTest;

TEST_P(OpKernel, GivesTheSameBitsOnAnyNumberOfThreads) { for_each_variant(check_threads); }

// The op's in_place pairs that this variant's types allow: each by itself, and as many as fit together.
std::vector<InPlacePairs> in_place_choices(const CaseVariant& v) {
  std::vector<InPlacePairs> choices = {{}};
  InPlacePairs together;
  const AppliedOp applied = apply_variant(v);
  for (const auto& [output, input] : v.op().in_place) {
    if (static_cast<std::size_t>(input) >= applied.inputs.size()) continue;
    if (static_cast<std::size_t>(output) >= applied.outputs.size()) continue;
    const ValueId in = applied.inputs[static_cast<std::size_t>(input)];
    if (in == kNoValue ||
        applied.graph.type(in) != applied.graph.type(applied.outputs[static_cast<std::size_t>(output)]))
      continue;
    choices.push_back({{output, input}});
    const bool taken = std::any_of(together.begin(), together.end(),
                                   [o = output, i = input](const auto& p) { return p.first == o || p.second == i; });
    if (!taken) together.emplace_back(output, input);
  }
  if (together.size() > 1) choices.push_back(together);
  return choices;
}

void check_buffers(const CaseVariant& v) {
  const std::vector<Tensor> inputs = draw_inputs(v);
  for (const Isa isa : isas()) {
    const std::vector<Tensor> expected = evaluate_variant(v, inputs, isa, 1);
    for (const InPlacePairs& pairs : in_place_choices(v)) {
      const std::vector<Tensor> found = call_kernel(v, inputs, isa, pairs);
      std::vector<std::string> shared;
      for (const auto& [output, input] : pairs)
        shared.push_back(fmt::format(" output {} over input {}", output, input));
      for (std::size_t o = 0; o < found.size(); ++o) {
        EXPECT_TRUE(same_bits(found[o], expected[o],
                              fmt::format("{} on {}, in place:{}, output {}", v.name(), kernels::cpu::isa_name(isa),
                                          fmt::join(shared, ","), o)));
      }
    }
  }
}
TEST_P(OpKernel, StaysInItsBuffersAndGivesTheSameBitsInPlace) { for_each_variant(check_buffers); }

INSTANTIATE_TEST_SUITE_P(Ops, OpKernel, ::testing::ValuesIn(cases_of([](const OpDef& op) { return !op.alias; })),
                         op_name);

TEST(OpCases, CoverEveryOpOfTheRegistry) {
  std::set<std::string> covered;
  for (const OpCase& op_case : cases()) {
    if (!op_case.variants.empty()) covered.insert(op_case.op);
  }
  for (const OpDef& op : all_ops()) {
    EXPECT_TRUE(covered.contains(op.name)) << "op '" << op.name << "' has no case in tests/op_cases/";
  }
}

TEST(OpCases, NameOpsOfTheRegistryOnceEach) {
  std::set<std::string> seen;
  for (const OpCase& op_case : cases()) {
    EXPECT_NE(find_op(op_case.op), nullptr) << "a case names op '" << op_case.op << "', which does not exist";
    EXPECT_TRUE(seen.insert(op_case.op).second) << "op '" << op_case.op << "' has two cases";
  }
}

TEST(OpCases, CheckTheGradientOfEveryDifferentiableOp) {
  for (const OpCase& op_case : cases()) {
    const OpDef* op = find_op(op_case.op);
    if (!op || !op->gradient) continue;
    const bool checked =
        std::any_of(op_case.variants.begin(), op_case.variants.end(), [](const Variant& v) { return v.gradient; });
    EXPECT_TRUE(checked) << "op '" << op->name << "' has a gradient, but none of its variants checks it";
  }
}

TEST(Ops, RefuseAWrongNumberOfInputsNamingTheNode) {
  for (const OpDef& op : all_ops()) {
    std::vector<int> wrong;
    if (op.min_inputs > 0) wrong.push_back(op.min_inputs - 1);
    if (op.max_inputs < kAnyInputs) wrong.push_back(op.max_inputs + 1);
    for (const int count : wrong) {
      Graph graph;
      const ValueId x = graph.input("x", {DType::f32, {2, 3}});
      try {
        graph.add(op, std::vector<ValueId>(static_cast<std::size_t>(count), x), {}, "the_node");
        ADD_FAILURE() << op.name << " accepts " << count << " inputs";
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::graph) << op.name;
        EXPECT_THAT(e.message(), ::testing::AllOf(::testing::HasSubstr("the_node"), ::testing::HasSubstr(op.name)));
      }
    }
  }
}

// Types near the right ones: another rank, another size, another dtype.
std::vector<TensorType> near_types(const TensorType& type) {
  std::vector<TensorType> types;
  types.push_back({type.dtype, {}});
  types.push_back({type.dtype, Shape(kMaxRank, 1)});
  TensorType longer = type, shorter = type;
  longer.shape.push_back(3);
  types.push_back(longer);
  if (type.rank() > 0) {
    shorter.shape.pop_back();
    types.push_back(shorter);
  }
  for (std::size_t d = 0; d < type.shape.size(); ++d) {
    for (const std::int64_t size : {std::int64_t{0}, type.shape[d] + 1}) {
      TensorType t = type;
      t.shape[d] = size;
      types.push_back(std::move(t));
    }
  }
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::boolean, DType::bf16,
                            DType::f16, DType::i8}) {
    if (dtype != type.dtype) types.push_back({dtype, type.shape});
  }
  return types;
}

// Whatever a shape rule is given, it accepts or throws Error(graph) with the node's name; nothing else.
void check_near_types(const CaseVariant& v) {
  for (std::size_t changed = 0; changed < v.variant->inputs.size(); ++changed) {
    if (v.variant->inputs[changed].absent) continue;
    for (const TensorType& type : near_types(v.variant->inputs[changed].type)) {
      Graph graph;
      std::vector<ValueId> inputs;
      for (std::size_t i = 0; i < v.variant->inputs.size(); ++i) {
        const CaseInput& input = v.variant->inputs[i];
        inputs.push_back(input.absent ? kNoValue
                                      : graph.input(fmt::format("in{}", i), i == changed ? type : input.type));
      }
      const std::string where = fmt::format("{} with input {} as {}", v.name(), changed, to_string(type));
      try {
        graph.add(v.op(), inputs, v.variant->attrs, "the_node");
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::graph) << where << ": " << e.what();
        EXPECT_THAT(e.message(), ::testing::HasSubstr("the_node")) << where;
      } catch (const std::exception& e) {
        ADD_FAILURE() << where << ": " << e.what();
      }
    }
  }
}

TEST_P(OpValues, HaveTypesThatFitOrAnErrorThatNamesTheNode) { for_each_variant(check_near_types); }

INSTANTIATE_TEST_SUITE_P(Ops, OpValues, ::testing::ValuesIn(cases_of([](const OpDef&) { return true; })), op_name);

}  // namespace
}  // namespace trivet::testing
