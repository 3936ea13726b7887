#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>

#include "kernels/cpu/families.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {
namespace {

std::vector<Isa> isas() {
  std::vector<Isa> result;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) result.push_back(static_cast<Isa>(i));
  return result;
}

std::vector<std::string> offered_ops() {
  std::vector<std::string> ops;
  for (auto family : {matrix_kernels, convolution_kernels, baseline::elementwise_kernels, baseline::reduction_kernels,
                      baseline::shape_kernels, baseline::pooling_kernels, baseline::normalization_kernels,
                      baseline::loss_kernels, baseline::random_kernels, baseline::optimizer_kernels}) {
    for (const KernelEntry& entry : family()) ops.emplace_back(entry.op);
  }
  return ops;
}

TEST(KernelRegistry, FindsEveryOfferedKernelByItsOpOnEveryInstructionSet) {
  for (const std::string& op : offered_ops()) {
    for (const Isa isa : isas()) {
      const KernelEntry* entry = find(op, isa);
      ASSERT_NE(entry, nullptr) << op << " on " << isa_name(isa);
      EXPECT_EQ(entry->op, op);
      EXPECT_NE(entry->supports, nullptr) << op;
      EXPECT_NE(entry->run, nullptr) << op;
    }
  }
}

TEST(KernelRegistry, HasOneKernelForEachOp) {
  const std::vector<std::string> ops = offered_ops();
  const std::set<std::string> distinct(ops.begin(), ops.end());
  EXPECT_EQ(distinct.size(), ops.size());
  EXPECT_THAT(
      ops, ::testing::IsSupersetOf({"matmul", "linear", "conv2d", "conv2d_backward_data", "conv2d_backward_weights"}));
}

TEST(KernelRegistry, HasNothingForAnUnknownOp) {
  for (const Isa isa : isas()) {
    EXPECT_EQ(find("no_such_op", isa), nullptr);
    EXPECT_EQ(find("", isa), nullptr);
  }
}

TEST(KernelRegistry, NamesEachInstructionSet) {
  EXPECT_STREQ(isa_name(Isa::baseline), "baseline");
  EXPECT_STREQ(isa_name(Isa::avx2), "avx2");
  EXPECT_STREQ(isa_name(Isa::avx512), "avx512");
}

TEST(Threads, SetTheCallingThreadsParallelRegions) {
  const int before = omp_get_max_threads();
  set_threads(3);
  EXPECT_EQ(omp_get_max_threads(), std::min(3, omp_get_thread_limit()));
  set_threads(0);  // at least the calling thread itself
  EXPECT_EQ(omp_get_max_threads(), 1);
  set_threads(before);
}

}  // namespace
}  // namespace trivet::kernels::cpu
