// NCCL itself, as far as it goes without a GPU.
#ifdef TRIVET_HAVE_NCCL
#include "kernels/cuda/plugin/nccl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trivet::kernels::cuda {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Nccl, HasTheFunctionsThatAreCalledAndMakesIdsThatDiffer) {
  TrivetRanksId ids[2] = {};
  try {
    for (TrivetRanksId& id : ids) make_ranks_id(id);
  } catch (const std::exception& e) {
    EXPECT_THAT(e.what(), Not(HasSubstr("has no function")));
    EXPECT_THAT(e.what(), Not(HasSubstr("has version")));
    GTEST_SKIP() << e.what();  // it is not there, or finds no network interface
  }
  EXPECT_NE(std::string(ids[0].bytes, sizeof ids[0].bytes), std::string(ids[1].bytes, sizeof ids[1].bytes));
}

}  // namespace
}  // namespace trivet::kernels::cuda
#endif
