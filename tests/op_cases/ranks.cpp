#include "tests/op_cases/op_case.h"
#include "tests/op_cases/shapes.h"

namespace trivet::testing {
namespace {

// What one rank's kernels do; tests/train has the sums over several.
OpCase sum_case(const char* op) {
  OpCase result{.op = op, .reference = [](const std::vector<Ref>& in, const Variant&) { return in; }, .variants = {}};
  const auto add = [&](const char* name, std::vector<CaseInput> inputs) {
    result.variants.push_back({name, std::move(inputs), {{"number", std::int64_t{3}}}, /*gradient=*/false});
  };
  const CaseInput bf16 = {{DType::bf16, {33}}, {}};
  add("one", {f32({5, 7})});
  add("scalar", {f32({})});
  add("many", {f32({1}), f32({3, 33}), f32({1025})});
  add("bf16", {bf16, bf16});
  add("parallel", {f32({3, 100001})});
  return result;
}

OpCase assign_case() {
  OpCase result{.op = "assign",
                .reference = [](const std::vector<Ref>& in, const Variant&) -> std::vector<Ref> { return {in[1]}; },
                .variants = {}};
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::boolean, DType::bf16,
                            DType::f16, DType::i8}) {
    const CaseInput input = {{dtype, {5, 7}}, {.kind = Fill::Kind::index, .a = 1, .b = 2}};
    const CaseInput other = {{dtype, {5, 7}}, {.kind = Fill::Kind::index, .a = 0, .b = 2}};
    result.variants.push_back({std::string("of_") + dtype_name(dtype), {input, other}, {}, /*gradient=*/false});
  }
  result.variants.push_back({"scalar", {f32({}), f32({})}, {}, /*gradient=*/false});
  result.variants.push_back({"parallel", {f32({3, 100001}), f32({3, 100001})}, {}, /*gradient=*/false});
  return result;
}

}  // namespace

std::vector<OpCase> ranks_cases() { return {sum_case("sum_ranks_start"), sum_case("sum_ranks_wait"), assign_case()}; }

}  // namespace trivet::testing
