#include <string_view>

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

// With one more input, which is not read.
OpCase reduce_case(const char* op, bool sums) {
  OpCase result{.op = op,
                .reference = [sums](const std::vector<Ref>& in, const Variant&) -> std::vector<Ref> {
                  if (!sums) return {Ref::zeros({})};
                  return {in.begin(), in.end() - 1};
                },
                .variants = {}};
  const auto add = [&](const char* name, std::vector<CaseInput> inputs) {
    result.variants.push_back({name, std::move(inputs), {{"number", std::int64_t{3}}}, /*gradient=*/false});
  };
  const CaseInput bf16 = {{DType::bf16, {33}}, {}};
  add("one", {f32({5, 7}), f32({2})});
  add("many", {f32({1}), f32({3, 33}), f32({1025}), f32({})});
  add("bf16", {bf16, bf16, f32({3})});
  add("parallel", {f32({3, 100001}), f32({})});
  return result;
}

// One rank by itself sends to nobody, and what it would receive stays as it is.
OpCase broadcast_case(const char* op) {
  const bool sends = std::string_view(op) == "broadcast_ranks_send";
  OpCase result{.op = op,
                .reference = [sends](const std::vector<Ref>& in, const Variant&) -> std::vector<Ref> {
                  if (sends) return {Ref::zeros({})};
                  return {in.begin(), in.begin() + static_cast<std::ptrdiff_t>(in.size() / 2)};
                },
                .variants = {}};
  const auto add = [&](const char* name, std::vector<CaseInput> inputs) {
    result.variants.push_back(
        {name, std::move(inputs), {{"number", std::int64_t{3}}, {"root", std::int64_t{0}}}, /*gradient=*/false});
  };
  const CaseInput bf16 = {{DType::bf16, {33}}, {}};
  add("two", {f32({5, 7}), f32({5, 7})});
  add("types", {f32({3}), bf16, f32({3}), f32({33})});
  add("parallel", {f32({3, 100001}), f32({})});
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

std::vector<OpCase> ranks_cases() {
  return {sum_case("sum_ranks_start"),
          sum_case("sum_ranks_wait"),
          sum_case("reduce_ranks_start"),
          reduce_case("reduce_ranks_wait", true),
          reduce_case("reduce_ranks_sent", false),
          broadcast_case("broadcast_ranks_send"),
          broadcast_case("broadcast_ranks_receive"),
          assign_case()};
}

}  // namespace trivet::testing
