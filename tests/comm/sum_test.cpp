#include "runtime/comm/sum.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/comm/values.h"
#include "trivet/base/error.h"

namespace trivet::testing {
namespace {

template <class T>
void expect_tree(DType dtype) {
  for (int ranks = 1; ranks <= 17; ++ranks) {
    for (const std::int64_t elements : {0, 1, 7, 1024, 2500}) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        std::vector<std::vector<T>> inputs;
        std::vector<const void*> sources;
        for (int r = 0; r < ranks; ++r) inputs.push_back(values<T>(r, elements));
        for (const auto& input : inputs) sources.push_back(input.data());
        const std::vector<T> expected = reduced<T>(ranks, elements, op);
        // Into one of the sources, as an all-reduce does.
        std::vector<T> copy(static_cast<std::size_t>(elements));
        T* target = inputs[static_cast<std::size_t>(ranks / 2)].data();
        comm::reduce_tree(target, copy.data(), sources, elements, dtype, op);
        EXPECT_TRUE(same_bits(inputs[static_cast<std::size_t>(ranks / 2)], expected)) << ranks << " x " << elements;
        EXPECT_TRUE(same_bits(copy, expected)) << ranks << " x " << elements;
      }
    }
  }
}

TEST(Sum, AddsInABalancedTreeOfNeighbours) {
  expect_tree<float>(DType::f32);
  expect_tree<double>(DType::f64);
  expect_tree<kernels::BFloat16>(DType::bf16);
  expect_tree<std::int32_t>(DType::i32);
  expect_tree<std::int64_t>(DType::i64);
}

TEST(Sum, KeepsNaNInMaximumAndMinimum) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::max, ReduceOp::min}) {
    for (int place = 0; place < 3; ++place) {
      float inputs[3] = {1, 2, 3};
      inputs[place] = nan;
      float result = 0;
      comm::reduce_tree(&result, nullptr, std::vector<const void*>{&inputs[0], &inputs[1], &inputs[2]}, 1, DType::f32,
                        op);
      EXPECT_TRUE(std::isnan(result)) << place;
    }
  }
}

TEST(Sum, OfIntegersWrapsAround) {
  const std::int32_t a = std::numeric_limits<std::int32_t>::max();
  const std::int32_t b = 1;
  std::int32_t result = 0;
  comm::reduce_tree(&result, nullptr, std::vector<const void*>{&a, &b}, 1, DType::i32, ReduceOp::sum);
  EXPECT_EQ(result, std::numeric_limits<std::int32_t>::min());
}

TEST(Sum, RefusesTypesThatHaveNone) {
  for (const DType dtype : {DType::u8, DType::boolean, DType::f16, DType::i8}) {
    EXPECT_THROW(comm::check_reducible(dtype), Error);
  }
}

}  // namespace
}  // namespace trivet::testing
