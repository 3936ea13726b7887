// Accuracy of the elementary functions over the whole range of float32, against the C library in float64.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "kernels/math/philox.h"
#include "tests/ops/op_case_driver.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using testing::isas;

// Results below the normal range may be rounded to 0.
constexpr double kSmallest = 0x1p-126;
constexpr double kLargest = std::numeric_limits<float>::max();

std::vector<float> apply_op(const std::string& op, std::vector<std::vector<float>> inputs, kernels::cpu::Isa isa) {
  Graph graph;
  std::vector<ValueId> ids;
  std::map<std::string, Tensor> bindings;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Shape shape = {static_cast<std::int64_t>(inputs[i].size())};
    const std::string name = fmt::format("x{}", i);
    ids.push_back(graph.input(name, {DType::f32, shape}));
    bindings[name] = Tensor::of<float>(DType::f32, shape, inputs[i]);
  }
  graph.set_output("y", apply(graph, op, ids));
  const std::vector<Tensor> out = evaluate(graph, bindings, isa);
  const std::span<const float> y = out[0].as<float>();
  return {y.begin(), y.end()};
}

// The largest relative error where the result is a normal number; infinity where a result is another one altogether.
struct Worst {
  double error = 0;
  std::size_t where = 0;

  void add(double found, double expected, std::size_t i) {
    double e = std::abs(found - expected) / std::abs(expected);
    if (std::isnan(expected) || std::abs(expected) > kLargest) {
      const bool same = std::isnan(expected) ? std::isnan(found) : found == std::copysign(INFINITY, expected);
      // The last float32 before infinity and what would be rounded to it are neighbours.
      e = same || std::abs(found) > 0.9999999 * kLargest ? 0 : INFINITY;
      if (std::isnan(expected) && !std::isnan(found)) e = INFINITY;
    } else if (std::abs(expected) < kSmallest) {
      e = std::abs(found) <= kSmallest ? 0 : INFINITY;
    }
    if (!(e <= error)) {
      error = e;
      where = i;
    }
  }
};

// Every sign and exponent, `per_exponent` mantissas each, and special values.
std::vector<float> whole_range(int per_exponent) {
  std::vector<float> x = {0.0F, -0.0F, INFINITY, -INFINITY, NAN, 1.0F, -1.0F};
  for (std::uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (int i = 0; i < per_exponent; ++i) {
      const std::uint32_t bits = math::philox(exponent, 0, static_cast<std::uint64_t>(i)).v[0];
      x.push_back(std::bit_cast<float>((bits & 0x807fffffU) | exponent << 23));
    }
  }
  return x;
}

std::vector<float> evenly(double low, double high, int count) {
  std::vector<float> x;
  for (int i = 0; i < count; ++i) x.push_back(static_cast<float>(low + (high - low) * i / (count - 1)));
  return x;
}

struct Function {
  std::string op;
  double (*reference)(double);
  double low, high;  // where its values change most
  double tolerance = 3e-7;
};

void PrintTo(const Function& f, std::ostream* out) { *out << f.op; }

const std::vector<Function>& functions() {
  constexpr double kOneUlp = 1.2e-7;
  static const std::vector<Function> all = {
      {"exp", std::exp, -104, 89},
      {"log", std::log, 0.5, 2},
      {"sqrt", std::sqrt, 0, 4, kOneUlp},
      {"tanh", std::tanh, -10, 10},
      {"erf", std::erf, -4, 4},
      {"sin", std::sin, -1e5, 1e5},
      {"cos", std::cos, -1e5, 1e5},
      {"tan", std::tan, -1e5, 1e5},
      {"asin", std::asin, -1, 1},
      {"acos", std::acos, -1, 1},
      {"atan", std::atan, -5, 5},
      {"sinh", std::sinh, -89.5, 89.5},
      {"cosh", std::cosh, -89.5, 89.5},
      {"asinh", std::asinh, -5, 5},
      {"acosh", std::acosh, 1, 3},
      {"atanh", std::atanh, -1, 1},
      {"floor", std::floor, -1000, 1000, 0},
      {"ceil", std::ceil, -1000, 1000, 0},
      {"round", std::nearbyint, -1000, 1000, 0},
      {"softplus", [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }, -20, 20},
      {"softsign", [](double x) { return std::isinf(x) ? std::copysign(1, x) : x / (1 + std::abs(x)); }, -5, 5},
      {"elu", [](double x) { return x > 0 ? x : std::expm1(x); }, -5, 1},
  };
  return all;
}

class ElementaryFunction : public ::testing::TestWithParam<Function> {};

TEST_P(ElementaryFunction, IsRightToTheLastBitsOverTheWholeRange) {
  const Function& f = GetParam();
  std::vector<float> x = whole_range(256);
  const std::vector<float> changing = evenly(f.low, f.high, 50000);
  x.insert(x.end(), changing.begin(), changing.end());
  for (const auto isa : isas()) {
    const std::vector<float> y = apply_op(f.op, {x}, isa);
    Worst worst;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst.add(static_cast<double>(y[i]), f.reference(static_cast<double>(x[i])), i);
    }
    EXPECT_LE(worst.error, f.tolerance) << f.op
                                        << fmt::format("({:.9g}) is {:.9g}, expected {:.12g}, on {}", x[worst.where],
                                                       y[worst.where], f.reference(static_cast<double>(x[worst.where])),
                                                       kernels::cpu::isa_name(isa));
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, ElementaryFunction, ::testing::ValuesIn(functions()),
                         [](const auto& parameter) { return parameter.param.op; });

// x^y for x of the whole range and y that keep the result in it, where an error of the logarithm counts most.
TEST(Pow, IsRightToTheLastBitsForLargeResults) {
  std::vector<float> x, y;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const math::Philox4 words = math::philox(1, 2, i);
    // Half of the bases near 1, where the exponents are large.
    const float base = i % 2 == 0 ? std::bit_cast<float>(words.v[0] % 0x7f800000U)
                                  : 1.0F + 0.5F * (math::uniform_float(words.v[0]) - 0.5F);
    const double log = std::log2(static_cast<double>(base));
    x.push_back(base);
    y.push_back(static_cast<float>((math::uniform_float(words.v[1]) * 290 - 150) / (log == 0 ? 1 : log)));
  }
  for (const auto isa : isas()) {
    const std::vector<float> found = apply_op("pow", {x, y}, isa);
    Worst worst;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst.add(static_cast<double>(found[i]), std::pow(static_cast<double>(x[i]), static_cast<double>(y[i])), i);
    }
    const std::size_t w = worst.where;
    EXPECT_LE(worst.error, 3e-7) << fmt::format("{:.9g} ^ {:.9g} is {:.9g}, on {}", x[w], y[w], found[w],
                                                kernels::cpu::isa_name(isa));
  }
}

// --- integers at the ends of 64 bits, where float64 references fail ---

std::vector<std::int64_t> apply_i64(const std::string& op, const std::vector<std::int64_t>& a,
                                    const std::vector<std::int64_t>& b, const Attrs& attrs = {}) {
  const Shape shape = {static_cast<std::int64_t>(a.size())};
  Graph graph;
  const ValueId x = graph.input("a", {DType::i64, shape}), y = graph.input("b", {DType::i64, shape});
  graph.set_output("y", apply(graph, op, {x, y}, attrs));
  const std::vector<Tensor> out = evaluate(
      graph,
      {{"a", Tensor::of<std::int64_t>(DType::i64, shape, a)}, {"b", Tensor::of<std::int64_t>(DType::i64, shape, b)}},
      kernels::cpu::best_isa());
  const std::span<const std::int64_t> z = out[0].as<std::int64_t>();
  return {z.begin(), z.end()};
}

TEST(IntegerArithmetic, WrapsAroundAtTheEndsOf64Bits) {
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min(),
                         kMax = std::numeric_limits<std::int64_t>::max();
  using List = std::vector<std::int64_t>;
  EXPECT_EQ(apply_i64("add", {kMax, kMin, kMax}, {1, -1, kMax}), (List{kMin, kMax, -2}));
  EXPECT_EQ(apply_i64("sub", {kMin, 0}, {1, kMin}), (List{kMax, kMin}));
  EXPECT_EQ(apply_i64("mul", {kMin, kMax, std::int64_t{1} << 62}, {-1, 2, 4}), (List{kMin, -2, 0}));
  EXPECT_EQ(apply_i64("div", {kMin, kMin, kMax, kMax}, {-1, 0, -1, 3}), (List{kMin, 0, -kMax, kMax / 3}));
  EXPECT_EQ(apply_i64("mod", {kMin, kMin, kMax, -kMax}, {-1, 0, -2, kMin}), (List{0, 0, -1, -kMax}));
  EXPECT_EQ(apply_i64("mod", {kMin, kMax, -7}, {-1, -2, 3}, {{"fmod", true}}), (List{0, 1, -1}));
}

}  // namespace
}  // namespace trivet
