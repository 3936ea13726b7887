// Tensors larger than the caches are written past them, and by other code than small ones. They must hold the same.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/ops/op_case_driver.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using testing::isas;

// Outputs of 32 MiB and more are written past the caches.
constexpr std::size_t kLargeElements = (std::size_t{33} << 20) / sizeof(float);

struct LargeCase {
  std::string name;
  std::string op;
  // Of the inputs. Those whose first axis is as long as that of the first input, and the first output, are enlarged.
  std::vector<Shape> shapes;
  Attrs attrs = {};
  double tolerance = 0;
};

void PrintTo(const LargeCase& c, std::ostream* out) { *out << c.name; }

// Numbers between 0.5 and 2.5 that a period of rows does not share.
std::vector<float> numbers(std::size_t count, std::size_t input) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = 0.5F + static_cast<float>((i * 7919 + input * 31) % 1009) / 504.5F;
  return x;
}

// The first output, with the rows of the grown inputs repeated.
std::vector<float> first_output(const LargeCase& c, std::int64_t repeats, kernels::cpu::Isa isa) {
  Graph graph;
  std::vector<ValueId> ids;
  std::map<std::string, Tensor> bindings;
  for (std::size_t i = 0; i < c.shapes.size(); ++i) {
    Shape shape = c.shapes[i];
    std::int64_t count = 1;
    for (const std::int64_t d : shape) count *= d;
    const std::vector<float> period = numbers(static_cast<std::size_t>(count), i);
    std::vector<float> x;
    const std::int64_t times = shape[0] == c.shapes[0][0] ? repeats : 1;
    for (std::int64_t t = 0; t < times; ++t) x.insert(x.end(), period.begin(), period.end());
    shape[0] *= times;
    const std::string name = fmt::format("x{}", i);
    ids.push_back(graph.input(name, {DType::f32, shape}));
    bindings[name] = Tensor::of<float>(DType::f32, shape, x);
  }
  graph.set_output("y", apply_all(graph, c.op, ids, c.attrs)[0]);
  const std::vector<Tensor> out = evaluate(graph, bindings, isa, 2);
  const std::span<const float> y = out[0].as<float>();
  return {y.begin(), y.end()};
}

class LargeTensors : public ::testing::TestWithParam<LargeCase> {};

TEST_P(LargeTensors, HoldWhatSmallOnesHold) {
  const LargeCase& c = GetParam();
  for (const auto isa : isas()) {
    const std::vector<float> small = first_output(c, 1, isa);
    const auto repeats = static_cast<std::int64_t>(kLargeElements / small.size() + 1);
    const std::vector<float> large = first_output(c, repeats, isa);
    ASSERT_EQ(large.size(), small.size() * static_cast<std::size_t>(repeats));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < large.size(); ++i) {
      wrong += std::abs(large[i] - small[i % small.size()]) <= c.tolerance ? 0 : 1;  // NaN is wrong
    }
    EXPECT_EQ(wrong, 0U) << "on " << kernels::cpu::isa_name(isa);
  }
}

std::vector<LargeCase> large_cases() {
  const Attrs relu = {{"activation", std::string("relu")}};
  std::vector<LargeCase> all = {
      {"unary", "gelu", {{1003}}},
      {"binary", "add", {{1003}, {1003}}},
      {"scalar", "sub", {{1003}, {1}}},
      {"backward", "gelu_backward", {{1003}, {1003}}},
      {"narrow_softmax", "softmax", {{48, 10}}},
      {"wide_softmax", "softmax", {{3, 512}}},
      {"odd_softmax", "softmax", {{3, 101}}},
      {"narrow_log_softmax", "log_softmax", {{48, 7}}},
      {"wide_log_softmax", "log_softmax", {{3, 512}}},
      {"narrow_softmax_backward", "softmax_backward", {{48, 10}, {48, 10}}},
      {"wide_softmax_backward", "softmax_backward", {{3, 512}, {3, 512}}},
      {"wide_log_softmax_backward", "log_softmax_backward", {{3, 1040}, {3, 1040}}},
      {"longest_buffered_softmax", "softmax", {{3, 4096}}},
      {"long_softmax", "softmax", {{2, 5008}}},
      {"layer_norm", "layer_norm", {{3, 256}, {256}, {256}}},
      {"rms_norm", "rms_norm", {{3, 1040}, {1040}}},
      {"layer_norm_backward", "layer_norm_backward", {{6, 272}, {6, 272}, {272}, {6}, {6}}},
      {"rms_norm_backward", "rms_norm_backward", {{6, 528}, {6, 528}, {528}, {6}}},
      {"batch_norm", "batch_norm", {{5, 33}, {33}, {33}, {33}, {33}}},
      {"wide_batch_norm", "batch_norm", {{5, 1025}, {1025}, {1025}, {1025}, {1025}}, relu},
      {"max_pool", "max_pool", {{1, 20, 22, 5}}, {{"kernel", std::vector<std::int64_t>{2, 2}}}},
  };
  // Rows of a batch depend on all others, whose sums are rounded elsewhere.
  all.push_back({"batch_norm_train", "batch_norm_train", {{60, 16}, {16}, {16}, {16}, {16}}, {}, 2e-5});
  for (LargeCase& c : all) {
    if (c.tolerance == 0) c.tolerance = 1e-6;
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Ops, LargeTensors, ::testing::ValuesIn(large_cases()),
                         [](const auto& parameter) { return parameter.param.name; });

// Both directions of a transpose between rows that are whole cache lines and rows that are not.
TEST(LargeTransposes, PutEachElementInItsPlace) {
  for (const auto isa : isas()) {
    for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{4112, 2100}, {2100, 4112}}) {
      Graph graph;
      const ValueId x = graph.input("x", {DType::f32, {rows, columns}});
      graph.set_output("y", apply(graph, "transpose", {x}));
      const std::vector<float> values = numbers(static_cast<std::size_t>(rows * columns), 0);
      const std::vector<Tensor> out =
          evaluate(graph, {{"x", Tensor::of<float>(DType::f32, {rows, columns}, values)}}, isa, 2);
      const std::span<const float> y = out[0].as<float>();
      std::size_t wrong = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) {
          wrong +=
              y[static_cast<std::size_t>(c * rows + r)] == values[static_cast<std::size_t>(r * columns + c)] ? 0 : 1;
        }
      }
      EXPECT_EQ(wrong, 0U) << rows << " x " << columns << " on " << kernels::cpu::isa_name(isa);
    }
  }
}

}  // namespace
}  // namespace trivet
