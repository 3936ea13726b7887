#include "trivet/kernels/ceilings.h"

#include <gtest/gtest.h>

namespace trivet::kernels::cpu {
namespace {

TEST(Ceilings, ArePositiveAndFinite) {
  for (const int threads : {1, 2}) {
    const Ceilings c = measure_ceilings(threads);
    for (const double figure : {c.matrix_flops, c.bf16_matrix_flops, c.int8_matrix_flops, c.vector_flops,
                                c.memory_bytes, c.triad_bytes, c.cache_bytes, c.launch_seconds}) {
      EXPECT_TRUE(std::isfinite(figure));
      EXPECT_GT(figure, 0);
    }
    EXPECT_GE(c.cache_size, static_cast<std::size_t>(threads) * 64 * 1024);
  }
}

}  // namespace
}  // namespace trivet::kernels::cpu
