// Paths of kernels that the op cases do not reach in the simulator, because their sizes are left out there: lines that
// are cut into pieces, and products whose rows are read 16 bytes at a time.
#include <gtest/gtest.h>

#include "kernels/cuda/sim/simulator.h"
#include "tests/kernels/cuda/simulated_op.h"
#include "trivet/ops/registry.h"

namespace trivet::testing {
namespace {

const OpCase& case_of(const std::string& op) {
  for (const OpCase& c : cases()) {
    if (c.op == op) return c;
  }
  throw std::runtime_error("there is no case for " + op);
}

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }

// The kernel's results against the case's reference.
void expect_right(const std::string& op, const Variant& variant) {
  const OpCase& op_case = case_of(op);
  const SimulatedOp simulated{{&op_case, &variant}};
  ASSERT_EQ(support_of(simulated), Support::yes) << simulated.name();
  const std::vector<Tensor> inputs = inputs_of(simulated);
  const std::vector<Ref> expected = op_case.reference(to_refs(inputs), variant);
  kernels::cuda::sim::set_schedule(1);
  const std::vector<Tensor> found = simulate(simulated, inputs);
  kernels::cuda::sim::set_schedule(0);
  ASSERT_EQ(found.size(), expected.size()) << simulated.name();
  for (std::size_t o = 0; o < found.size(); ++o) {
    EXPECT_TRUE(close_to(found[o], expected[o], variant.tolerance, simulated.name() + ", output " + std::to_string(o)));
  }
}

TEST(CudaLongLines, SumsRunOnFromPieceToPiece) {
  for (const bool reverse : {false, true}) {
    for (const bool exclusive : {false, true}) {
      const Attrs attrs = {{"axis", std::int64_t{1}}, {"exclusive", exclusive}, {"reverse", reverse}};
      for (const std::int64_t n : {70'000, 98'305}) {
        expect_right("cumulative_sum", {"long_" + std::to_string(n), {f32({2, n}, {.a = 0.5})}, attrs});
      }
    }
  }
}

TEST(CudaLongLines, AreSortedInMemory) {
  for (const bool descending : {false, true}) {
    const Attrs attrs = {{"axis", std::int64_t{-1}}, {"descending", descending}};
    const Fill ties = {.kind = Fill::Kind::index, .a = -50, .b = 50};
    expect_right("sort", {"rows", {f32({3, 2049})}, attrs});
    expect_right("sort", {"ties", {f32({1, 9000}, ties)}, attrs});
    expect_right("sort", {"wide", {{{DType::i64, {2, 2500}}, ties}}, attrs});
    expect_right("sort", {"columns", {f32({2500, 3}, ties)}, {{"axis", std::int64_t{0}}, {"descending", descending}}});
  }
}

TEST(CudaLongLines, HandOnTheirFirstElementsChunkByChunk) {
  const Fill ties = {.kind = Fill::Kind::index, .a = -50, .b = 50};
  for (const bool sorted : {false, true}) {
    for (const std::int64_t k : {1, 50, 1024, 1500}) {
      const Attrs attrs = {{"k", k}, {"axis", std::int64_t{1}}, {"largest", true}, {"sorted", sorted}};
      expect_right("top_k", {"top_" + std::to_string(k), {f32({2, 6500}, ties)}, attrs});
    }
    const Attrs columns = {{"k", std::int64_t{7}}, {"axis", std::int64_t{0}}, {"largest", false}, {"sorted", sorted}};
    expect_right("top_k", {"columns", {f32({4100, 3}, ties)}, columns});
  }
}

std::vector<CaseInput> int8_inputs(DType type, Shape x, Shape w) {
  const double low = type == DType::u8 ? 0 : -128;
  const Fill scales = {.kind = Fill::Kind::uniform, .a = 0.001, .b = 0.1};
  const Shape channels = {w[0]};
  return {{{type, std::move(x)}, {.kind = Fill::Kind::index, .a = low, .b = low + 255}},
          f32({}, {.kind = Fill::Kind::values, .values = {0.013}}),
          {{type, {}}, {.kind = Fill::Kind::values, .values = {type == DType::u8 ? 131.0 : -7.0}}},
          {{DType::i8, std::move(w)}, {.kind = Fill::Kind::index, .a = -128, .b = 128}},
          f32(channels, scales)};
}

TEST(CudaInt8Products, ReadWholeRowsOf16Bytes) {
  using List = std::vector<std::int64_t>;
  for (const DType type : {DType::u8, DType::i8}) {
    expect_right("linear_int8", {"packed", int8_inputs(type, {67, 144}, {70, 144})});
    expect_right("conv2d_int8", {"packed",
                                 int8_inputs(type, {2, 5, 6, 32}, {67, 3, 3, 32}),
                                 {{"pads", List{1, 2, 0, 1}}, {"strides", List{1, 2}}}});
    expect_right("conv2d_int8", {"groups",
                                 int8_inputs(type, {1, 5, 5, 32}, {6, 3, 3, 16}),
                                 {{"groups", std::int64_t{2}}, {"pads", List{1, 1, 1, 1}}}});
  }
}

}  // namespace
}  // namespace trivet::testing
