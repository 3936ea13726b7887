#include "trivet/ops/precision.h"

#include <gtest/gtest.h>

#include "tests/op_cases/op_case.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

TEST(Bf16Inputs, AreThoseThatTheOpCasesCheck) {
  std::size_t known = 0;
  for (const testing::OpCase& op_case : testing::all_cases()) {
    const std::span<const int> inputs = bf16_inputs(op_case.op);
    if (inputs.empty()) continue;
    ++known;
    EXPECT_EQ(std::vector<int>(inputs.begin(), inputs.end()), op_case.bf16_inputs) << op_case.op;
  }
  EXPECT_GE(known, 20U);
}

TEST(Bf16Inputs, AreFoundByTheWholeName) {
  EXPECT_EQ(bf16_inputs("conv2d").size(), 3U);
  EXPECT_TRUE(bf16_inputs("conv").empty());
  EXPECT_TRUE(bf16_inputs("").empty());
  EXPECT_TRUE(bf16_inputs("zzz").empty());
}

}  // namespace
}  // namespace trivet
