// What the op cases cannot say about the optimizer steps: the bits of stochastic rounding, and Muon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/math/philox.h"
#include "kernels/math/small_float.h"
#include "tests/ops/op_case_driver.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/muon.h"
#include "trivet/ops/registry.h"

namespace trivet::testing {
namespace {

using kernels::BFloat16;

constexpr std::int64_t kCount = 1003;
constexpr float kValue = 1.0F;
constexpr float kGradient = 0x1p-10F;  // an eighth of the step between bf16 numbers just above 1

Tensor bf16_tensor(float value) {
  const std::vector<BFloat16> values(static_cast<std::size_t>(kCount), kernels::from_f32<BFloat16>(value));
  return Tensor::of<BFloat16>(DType::bf16, {kCount}, values);
}

// A new parameter after one step of 1 - lr * gradient with lr = -1: exactly 1 + 2^-10 before rounding.
Tensor stepped(std::int64_t step, std::int64_t seed, std::int64_t op, bool stochastic, Isa isa) {
  Graph graph;
  const ValueId p = graph.input("p", {DType::bf16, {kCount}});
  const ValueId g = graph.input("g", {DType::bf16, {kCount}});
  const ValueId buffer = graph.input("buffer", {DType::f32, {kCount}});
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  const ValueId t = graph.input("t", {DType::i64, {}});
  const auto out = apply_all(graph, "sgd_step", {p, g, buffer, lr, kNoValue, t},
                             {{"stochastic_rounding", stochastic}, {"seed", seed}, {"op", op}});
  graph.set_output("p", out[0]);
  return evaluate(graph,
                  {{"p", bf16_tensor(kValue)},
                   {"g", bf16_tensor(kGradient)},
                   {"buffer", Tensor({DType::f32, {kCount}})},
                   {"lr", Tensor::scalar_f32(-1)},
                   {"t", Tensor::scalar_i64(step)}},
                  isa)[0];
}

TEST(StochasticRounding, TakesItsBitsFromPhiloxKeyedBySeedOpStepAndElement) {
  for (const Isa isa : isas()) {
    const Tensor found = stepped(5, 11, 3, true, isa);
    const std::uint64_t key = math::mix_key(math::mix_key(11, 3), 5);
    for (std::int64_t i = 0; i < kCount; ++i) {
      const std::uint32_t word = math::philox(key, 0, static_cast<std::uint64_t>(i) / 8).v[i % 8 / 2];
      const BFloat16 expected = kernels::stochastic_bf16(kValue + kGradient, word >> (16 * (i % 2)));
      ASSERT_EQ(found.as<BFloat16>()[static_cast<std::size_t>(i)].bits, expected.bits)
          << "element " << i << " on " << kernels::cpu::isa_name(isa);
    }
  }
}

TEST(StochasticRounding, KeepsAnUpdateBelowTheLastBitOnAverage) {
  double sum = 0;
  constexpr int kSteps = 20;
  for (int step = 0; step < kSteps; ++step) {
    const Tensor found = stepped(step, 1, 1, true, Isa::baseline);
    for (const BFloat16 p : found.as<BFloat16>()) {
      sum += static_cast<double>(kernels::to_f32(p)) - 1;
    }
  }
  // 20,060 draws of 2^-7 with probability 1/8: the mean's standard deviation is 1.9 % of it.
  EXPECT_NEAR(sum / (kSteps * kCount), 0x1p-10, 0.1 * 0x1p-10);
  const Tensor nearest = stepped(0, 1, 1, false, Isa::baseline);
  for (const BFloat16 p : nearest.as<BFloat16>()) EXPECT_EQ(kernels::to_f32(p), 1.0F);
}

TEST(StochasticRounding, DrawsOtherBitsForAnotherStepSeedOrOp) {
  const Tensor one = stepped(5, 11, 3, true, Isa::baseline);
  EXPECT_EQ(stepped(5, 11, 3, true, Isa::baseline).data, one.data);
  EXPECT_NE(stepped(6, 11, 3, true, Isa::baseline).data, one.data);
  EXPECT_NE(stepped(5, 12, 3, true, Isa::baseline).data, one.data);
  EXPECT_NE(stepped(5, 11, 4, true, Isa::baseline).data, one.data);
}

TEST(StochasticRounding, IsRefusedForF32ParametersAndWithoutAStep) {
  const auto message_of = [](DType dtype, bool with_step) -> std::string {
    Graph graph;
    const ValueId p = graph.input("p", {dtype, {3}});
    const ValueId state = graph.input("m", {DType::f32, {3}});
    const ValueId lr = graph.input("lr", {DType::f32, {}});
    const ValueId t = graph.input("t", {DType::i64, {}});
    try {
      apply_all(graph, "lion_step", {p, p, state, lr, kNoValue, with_step ? t : kNoValue},
                {{"stochastic_rounding", true}});
    } catch (const Error& e) {
      return e.message();
    }
    return "";
  };
  EXPECT_THAT(message_of(DType::f32, true), ::testing::HasSubstr("param is f32, expected bf16"));
  EXPECT_THAT(message_of(DType::bf16, false), ::testing::HasSubstr("needs the input 'step'"));
  EXPECT_EQ(message_of(DType::bf16, true), "");
}

// ---- Muon ----

using Matrix = std::vector<std::vector<double>>;

Matrix times(const Matrix& a, const Matrix& b) {
  Matrix c(a.size(), std::vector<double>(b[0].size(), 0.0));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t k = 0; k < b.size(); ++k) {
      for (std::size_t j = 0; j < b[0].size(); ++j) c[i][j] += a[i][k] * b[k][j];
    }
  }
  return c;
}

Matrix transposed(const Matrix& a) {
  Matrix t(a[0].size(), std::vector<double>(a.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[0].size(); ++j) t[j][i] = a[i][j];
  }
  return t;
}

// x' = 3.4445 x - 4.7750 (x x^T) x + 2.0315 (x x^T)^2 x, five times, from x / |x|.
Matrix newton_schulz(Matrix x) {
  double square = 0;
  for (const auto& row : x) {
    for (const double v : row) square += v * v;
  }
  for (auto& row : x) {
    for (double& v : row) v /= std::sqrt(square + 1e-14);
  }
  for (int step = 0; step < 5; ++step) {
    const Matrix gram = times(x, transposed(x));
    const Matrix once = times(gram, x), twice = times(gram, once);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t j = 0; j < x[0].size(); ++j) {
        x[i][j] = 3.4445 * x[i][j] - 4.7750 * once[i][j] + 2.0315 * twice[i][j];
      }
    }
  }
  return x;
}

Tensor drawn(const Shape& shape, std::uint64_t key) {
  Tensor t({DType::f32, shape});
  std::uint64_t i = 0;
  for (float& x : t.as<float>()) x = math::uniform_float(math::philox(key, 0, i++).v[0]) - 0.5F;
  return t;
}

Matrix as_matrix(const Tensor& t, std::size_t rows) {
  const auto values = t.as<float>();
  Matrix m(rows);
  for (std::size_t i = 0; i < values.size(); ++i) {
    m[i / (values.size() / rows)].push_back(static_cast<double>(values[i]));
  }
  return m;
}

class Orthogonalize : public ::testing::TestWithParam<Shape> {};

TEST_P(Orthogonalize, IsTheNewtonSchulzIterationAndBringsSingularValuesNearOne) {
  const Shape shape = GetParam();
  const Tensor x = drawn(shape, 9);
  Graph graph;
  graph.set_output("y", orthogonalize(graph, graph.input("x", x.type)));
  const Tensor y = evaluate(graph, {{"x", x}}, Isa::baseline)[0];
  const Matrix expected = newton_schulz(as_matrix(x, static_cast<std::size_t>(shape[0])));
  Matrix found = as_matrix(y, static_cast<std::size_t>(shape[0]));
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (std::size_t j = 0; j < found[0].size(); ++j) {
      EXPECT_LE(std::abs(found[i][j] - expected[i][j]), 2e-4) << i << ", " << j;
    }
  }
  // The trace of the smaller Gram matrix is the sum of the squared singular values.
  double sum = 0;
  for (const auto& row : found) {
    for (const double v : row) sum += v * v;
  }
  const double mean = sum / static_cast<double>(std::min(shape[0], shape[1]));
  EXPECT_GE(mean, 0.45);
  EXPECT_LE(mean, 1.5);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Orthogonalize,
                         ::testing::Values(Shape{1, 1}, Shape{8, 8}, Shape{5, 17}, Shape{33, 6}));

TEST(Muon, LeavesAZeroGradientWithoutMomentumWithoutEffect) {
  Graph graph;
  graph.set_output("y", orthogonalize(graph, graph.input("x", {DType::f32, {3, 4}})));
  const Tensor y = evaluate(graph, {{"x", Tensor({DType::f32, {3, 4}})}}, Isa::baseline)[0];
  for (const float v : y.as<float>()) EXPECT_EQ(v, 0.0F);
}

TEST(Muon, StepsConvolutionWeightsAsOneMatrix) {
  const Shape shape = {6, 2, 1, 2};
  const Tensor p = drawn(shape, 1), g = drawn(shape, 2), buffer = drawn(shape, 3);
  Graph graph;
  const ValueId param = graph.input("p", p.type);
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  const MuonStep step = muon_step(graph, param, graph.input("g", g.type), graph.input("buffer", buffer.type), lr,
                                  kNoValue, {.momentum = 0.75, .nesterov = true, .weight_decay = 0.25});
  graph.set_output("p", step.param);
  graph.set_output("buffer", step.buffer);
  const auto out =
      evaluate(graph, {{"p", p}, {"g", g}, {"buffer", buffer}, {"lr", Tensor::scalar_f32(0.5F)}}, Isa::baseline);
  const Matrix p0 = as_matrix(p, 6), g0 = as_matrix(g, 6), b0 = as_matrix(buffer, 6);
  Matrix next = b0, direction = b0;
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      next[i][j] = 0.75 * b0[i][j] + 0.25 * g0[i][j];
      direction[i][j] = 0.75 * next[i][j] + 0.25 * g0[i][j];
    }
  }
  const Matrix turned = newton_schulz(direction), found = as_matrix(out[0], 6), found_buffer = as_matrix(out[1], 6);
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      const double expected = p0[i][j] - 0.5 * (std::sqrt(1.5) * turned[i][j] + 0.25 * p0[i][j]);
      EXPECT_LE(std::abs(found[i][j] - expected), 2e-4) << i << ", " << j;
      EXPECT_LE(std::abs(found_buffer[i][j] - next[i][j]), 1e-6) << i << ", " << j;
    }
  }
}

TEST(Muon, RefusesVectorsNamingTheParameter) {
  Graph graph;
  const ValueId p = graph.input("bias", {DType::f32, {3}});
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  try {
    muon_step(graph, p, p, p, lr, kNoValue, {});
    FAIL() << "a vector was accepted";
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), ::testing::HasSubstr("'bias' is f32[3]"));
  }
}

}  // namespace
}  // namespace trivet::testing
