#include "trivet/base/types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "trivet/base/error.h"

namespace trivet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::array kTypes = {DType::f32,     DType::f64,  DType::i32, DType::i64, DType::u8,
                               DType::boolean, DType::bf16, DType::f16, DType::i8};

// What the Error of `work` says; fails if there is none or if its code is another.
std::string error_text(ErrorCode code, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(DTypeName, ReadsBackAsTheSameType) {
  std::set<std::string> names;
  for (const DType type : kTypes) {
    EXPECT_EQ(dtype_from_name(dtype_name(type)), type) << dtype_name(type);
    EXPECT_TRUE(names.insert(dtype_name(type)).second) << dtype_name(type);
  }
  EXPECT_STREQ(dtype_name(DType::boolean), "bool");
}

TEST(DTypeName, UnknownIsAnErrorThatListsTheKnownOnes) {
  for (const char* name : {"f8", "F32", "", "f32 ", "?"}) {
    const std::string text = error_text(ErrorCode::graph, [&] { dtype_from_name(name); });
    EXPECT_THAT(text, HasSubstr("'" + std::string(name) + "'"));
    for (const DType type : kTypes) EXPECT_THAT(text, HasSubstr(dtype_name(type)));
  }
}

TEST(ElementCount, IsTheProductOfTheDimensions) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({7}), 7);
  EXPECT_EQ(element_count({128, 28, 28, 1}), 100'352);
  EXPECT_EQ(element_count({3, 0, 5}), 0);
  EXPECT_EQ(element_count({std::int64_t{1} << 29, std::int64_t{1} << 29}), std::int64_t{1} << 58);
}

TEST(ElementCount, RefusesANegativeDimensionAndShowsTheShape) {
  EXPECT_THAT(error_text(ErrorCode::graph,
                         [] {
                           element_count({4, -1});
                         }),
              AllOf(HasSubstr("[4,-1]"), HasSubstr("negative")));
  EXPECT_THROW(element_count({0, -1}), Error);
  EXPECT_THROW(element_count({std::numeric_limits<std::int64_t>::min()}), Error);
  EXPECT_THROW(element_count({-2, -3}), Error);
}

TEST(ElementCount, RefusesWhatDoesNotFitAndShowsTheShape) {
  constexpr std::int64_t kHalf = std::int64_t{1} << 32;
  EXPECT_THAT(error_text(ErrorCode::graph,
                         [] {
                           element_count({kHalf, kHalf});
                         }),
              AllOf(HasSubstr("[4294967296,4294967296]"), HasSubstr("too many elements")));
  EXPECT_THROW(element_count({kHalf, kHalf, kHalf, kHalf}), Error);  // 2^128 is 0 in 64 bits
  EXPECT_THROW(element_count({std::numeric_limits<std::int64_t>::max()}), Error);
  EXPECT_THROW(element_count({(std::int64_t{1} << 62) + 1}), Error);
  EXPECT_THROW(element_count({3, std::numeric_limits<std::int64_t>::max()}), Error);
}

TEST(Shape, PrintsItsDimensions) {
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(to_string(Shape{5}), "[5]");
  EXPECT_EQ(to_string(Shape{128, 28, 28, 1}), "[128,28,28,1]");
}

TEST(TensorType, PrintsTypeAndShape) {
  EXPECT_EQ(to_string(TensorType{DType::f32, {128, 10}}), "f32[128,10]");
  EXPECT_EQ(to_string(TensorType{DType::boolean, {}}), "bool[]");
}

TEST(TensorType, KnowsItsSizes) {
  const TensorType type{DType::i64, {2, 3, 5}};
  EXPECT_EQ(type.elements(), 30);
  EXPECT_EQ(type.bytes(), 240u);
  EXPECT_EQ(type.rank(), 3);
  EXPECT_EQ(type.dim(0), 2);
  EXPECT_EQ(type.dim(-1), 5);
  EXPECT_EQ(type.dim(-3), 2);
  EXPECT_EQ(TensorType{}.bytes(), 4u);  // a scalar
}

TEST(TensorType, OfTheLargestShapeCountsItsBytesWithoutOverflow) {
  EXPECT_EQ((TensorType{DType::f64, {std::int64_t{1} << 58}}.bytes()), std::size_t{1} << 61);
}

TEST(TensorType, IsEqualOnlyWithTheSameTypeAndShape) {
  const TensorType type{DType::f32, {2, 3}};
  EXPECT_EQ(type, (TensorType{DType::f32, {2, 3}}));
  EXPECT_NE(type, (TensorType{DType::i32, {2, 3}}));
  EXPECT_NE(type, (TensorType{DType::f32, {3, 2}}));
  EXPECT_NE(type, (TensorType{DType::f32, {2, 3, 1}}));
}

TEST(TensorType, GivesKernelsTheSameDescription) {
  const TensorType type{DType::u8, {1, 2, 3, 4, 5, 6, 7, 8}};
  const kernels::TensorDesc desc = type.desc();
  EXPECT_EQ(desc.dtype, DType::u8);
  EXPECT_EQ(desc.rank, kMaxRank);
  EXPECT_THAT(desc.shape, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_EQ(desc.elements(), type.elements());
  EXPECT_EQ(desc.bytes(), type.bytes());
  EXPECT_EQ(desc.dim(-2), 7);
}

TEST(TensorType, OfARankThatKernelsDoNotTakeIsAnError) {
  EXPECT_THAT(error_text(ErrorCode::graph,
                         [] {
                           (TensorType{DType::f32, Shape(kMaxRank + 1, 1)}.desc());
                         }),
              AllOf(HasSubstr("f32[1,1,1,1,1,1,1,1,1]"), HasSubstr("8")));
}

TEST(Tensor, OfATypeIsZero) {
  const Tensor tensor(TensorType{DType::f64, {2, 3}});
  EXPECT_EQ(tensor.data.size(), 48u);
  EXPECT_THAT(tensor.as<double>(), ElementsAre(0, 0, 0, 0, 0, 0));
}

TEST(Tensor, OfAnImpossibleShapeIsAnError) {
  EXPECT_THROW(Tensor(TensorType{DType::f32, {-1}}), Error);
  EXPECT_THROW(Tensor(TensorType{DType::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}}), Error);
}

TEST(Tensor, KeepsItsOwnCopyOfTheValues) {
  std::vector<float> values = {1, 2, 3, 4};
  const Tensor tensor = Tensor::of<float>(DType::f32, {2, 2}, values);
  values.assign(4, 0);
  EXPECT_EQ(tensor.type, (TensorType{DType::f32, {2, 2}}));
  EXPECT_THAT(tensor.as<float>(), ElementsAre(1, 2, 3, 4));
}

TEST(Tensor, OfScalarsHasRankZero) {
  const Tensor f = Tensor::scalar_f32(1.5F);
  EXPECT_EQ(to_string(f.type), "f32[]");
  EXPECT_THAT(f.as<float>(), ElementsAre(1.5F));
  const Tensor i = Tensor::scalar_i64(-7);
  EXPECT_EQ(to_string(i.type), "i64[]");
  EXPECT_THAT(i.as<std::int64_t>(), ElementsAre(-7));
}

TEST(Tensor, MayHaveNoElements) {
  const Tensor tensor = Tensor::of<float>(DType::f32, {0, 3}, std::span<const float>());
  EXPECT_EQ(tensor.type.elements(), 0);
  EXPECT_TRUE(tensor.as<float>().empty());
  EXPECT_EQ(tensor.view().elements(), 0);
}

TEST(Tensor, OfTooFewOrTooManyValuesIsAnError) {
  const std::vector<float> values = {1, 2, 3, 4};
  for (const std::int64_t size : {3, 5}) {
    EXPECT_THAT(error_text(ErrorCode::internal, [&] { Tensor::of<float>(DType::f32, {size}, values); }),
                HasSubstr("f32[" + std::to_string(size) + "]"));
  }
  EXPECT_THROW(Tensor::of<float>(DType::f64, {4}, values), Error);
}

TEST(Tensor, IsWrittenThroughItsView) {
  Tensor tensor = Tensor::of<std::int32_t>(DType::i32, {2, 2}, std::vector<std::int32_t>{1, 2, 3, 4});
  const kernels::View view = tensor.view();
  EXPECT_EQ(view.dtype, DType::i32);
  EXPECT_EQ(view.rank, 2);
  EXPECT_EQ(view.shape[0], 2);
  EXPECT_EQ(view.shape[1], 2);
  view.as<std::int32_t>()[3] = 9;
  EXPECT_THAT(tensor.as<std::int32_t>(), ElementsAre(1, 2, 3, 9));
  tensor.as<std::int32_t>()[0] = 8;
  EXPECT_EQ(view.as<std::int32_t>()[0], 8);
  EXPECT_EQ(std::as_const(tensor).view().data, view.data);
}

TEST(Tensor, CopiesHaveMemoryOfTheirOwn) {
  Tensor tensor = Tensor::scalar_f32(1);
  Tensor copy = tensor;
  copy.as<float>()[0] = 2;
  EXPECT_EQ(tensor.as<float>()[0], 1.0F);
  EXPECT_NE(tensor.view().data, copy.view().data);
}

}  // namespace
}  // namespace trivet
