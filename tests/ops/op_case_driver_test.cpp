// The comparison that all op cases rest on: it must fail where it should.
#include "tests/ops/op_case_driver.h"

#include <limits>

namespace trivet::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kTolerance = 1e-3;

template <class T>
bool close(DType dtype, T found, double expected) {
  Ref ref = Ref::zeros({1});
  ref[0] = expected;
  return static_cast<bool>(close_to(Tensor::of<T>(dtype, {1}, std::span(&found, 1)), ref, kTolerance, "here"));
}

TEST(CloseTo, ComparesFloatsRelativeToTheScaleOfTheTensorAndTheirSize) {
  EXPECT_TRUE(close(DType::f32, 0.0009F, 0));
  EXPECT_FALSE(close(DType::f32, 0.0011F, 0));
  EXPECT_TRUE(close(DType::f32, 1000.9F, 1000));
  EXPECT_FALSE(close(DType::f32, 1001.1F, 1000));
  EXPECT_TRUE(close(DType::f32, 0.10019F, 0.1)) << "small tensors are compared relative to their largest element";
  EXPECT_FALSE(close(DType::f32, 0.10021F, 0.1));
}

TEST(CloseTo, LetsNanMatchNanOnly) {
  EXPECT_TRUE(close(DType::f32, std::numeric_limits<float>::quiet_NaN(), kNan));
  EXPECT_FALSE(close(DType::f32, std::numeric_limits<float>::quiet_NaN(), 1));
  EXPECT_FALSE(close(DType::f32, 1.0F, kNan));
  EXPECT_FALSE(close(DType::f32, std::numeric_limits<float>::quiet_NaN(), kInfinity));
}

TEST(CloseTo, WantsInfinitiesEqualAndExpectsThemBeyondFloat32) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(close(DType::f32, infinity, kInfinity));
  EXPECT_FALSE(close(DType::f32, -infinity, kInfinity));
  EXPECT_FALSE(close(DType::f32, infinity, 1));
  EXPECT_FALSE(close(DType::f32, 1.0F, -kInfinity));
  EXPECT_TRUE(close(DType::f32, infinity, 1e39));
  EXPECT_FALSE(close(DType::f64, kInfinity, 1e39));
}

TEST(CloseTo, WantsIntegersEqual) {
  EXPECT_TRUE(close(DType::i64, std::int64_t{1'000'000}, 1'000'000));
  EXPECT_FALSE(close(DType::i64, std::int64_t{1'000'001}, 1'000'000));
}

TEST(CloseTo, NamesTheElementTheValuesAndTheCount) {
  const std::vector<float> found = {1, 2, 3};
  Ref expected = Ref::zeros({3});
  expected.data = {1, 5, 7};
  const auto result = close_to(Tensor::of<float>(DType::f32, {3}, found), expected, kTolerance, "here");
  EXPECT_FALSE(result);
  const std::string message = result.message();
  for (const char* part : {"here", "element 1 is 2, expected 5", "2 of 3"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST(CloseTo, RefusesAnotherShape) {
  const std::vector<float> found = {1, 1};
  Ref expected = Ref::zeros({2, 1});
  expected.data = {1, 1};
  EXPECT_FALSE(close_to(Tensor::of<float>(DType::f32, {2}, found), expected, kTolerance, "here"));
}

TEST(SameBits, TellsZerosApart) {
  const std::vector<float> a = {0.0F}, b = {-0.0F};
  EXPECT_FALSE(same_bits(Tensor::of<float>(DType::f32, {1}, a), Tensor::of<float>(DType::f32, {1}, b), "here"));
  EXPECT_TRUE(same_bits(Tensor::of<float>(DType::f32, {1}, a), Tensor::of<float>(DType::f32, {1}, a), "here"));
}

TEST(DrawInputs, RoundsToTheDtypeAndStaysInRange) {
  OpCase op_case;
  op_case.op = "any";
  Variant variant;
  variant.name = "fills";
  const Shape shape = {2000};
  variant.inputs = {{{DType::f32, shape}, {Fill::Kind::normal, 5, 2}},
                    {{DType::f32, shape}, {Fill::Kind::uniform, -3, -1}},
                    {{DType::i32, shape}, {Fill::Kind::index, 0, 7}},
                    {{DType::u8, shape}, {Fill::Kind::normal, 0, 1000}},
                    {{DType::f32, shape}, {.kind = Fill::Kind::values, .values = {1, kNan}}}};
  const std::vector<Ref> in = to_refs(draw_inputs({&op_case, &variant}));
  double sum = 0;
  std::set<double> seen;
  for (std::int64_t i = 0; i < 2000; ++i) {
    sum += in[0][i];
    EXPECT_EQ(in[0][i], static_cast<double>(static_cast<float>(in[0][i])));
    EXPECT_TRUE(in[1][i] >= -3 && in[1][i] <= -1);
    seen.insert(in[2][i]);
    EXPECT_TRUE(in[3][i] >= 0 && in[3][i] <= 255);
    EXPECT_EQ(std::isnan(in[4][i]), i % 2 == 1);
  }
  EXPECT_NEAR(sum / 2000, 5, 0.2);
  EXPECT_EQ(seen, (std::set<double>{0, 1, 2, 3, 4, 5, 6}));
}

}  // namespace
}  // namespace trivet::testing
