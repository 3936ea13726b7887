// Data parallelism as a pass: what each rank computes of its own samples is added up over all ranks.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "trivet/graph/graph.h"

namespace trivet {

// Tensors that are computed one after the other are added in one go, a bucket, as soon as the last of them is there.
// The first bucket is small, so that the way to the other ranks is in use early; PyTorch's sizes (Li et al., "PyTorch
// Distributed: Experiences on Accelerating Data Parallel Training", 2020).
struct BucketSizes {
  std::size_t first = std::size_t{1} << 20;  // bytes
  std::size_t others = std::size_t{25} << 20;
};

// Adds nodes that sum each of `values`, f32 or bf16, over the ranks; the sums, in the order of `values`. A plan starts
// each bucket's sum right after the node that makes its last value, and waits for it when nothing else is left to do.
std::vector<ValueId> sum_over_ranks(Graph& graph, std::span<const ValueId> values, int ranks,
                                    const BucketSizes& sizes = {});

}  // namespace trivet
