// Data parallelism as passes: what each rank computes of its own samples is added up over all ranks, and what one rank
// alone updates is given to the others.
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

// Adds nodes that sum each of `values`, f32 or bf16, over the ranks; the sums, in the order of `values`. All ranks must
// compute them in the same order, by which they are cut into buckets. A plan starts each bucket's sum right after the
// node that makes its last value, and waits for it when nothing else is left to do.
std::vector<ValueId> sum_over_ranks(Graph& graph, std::span<const ValueId> values, int ranks,
                                    const BucketSizes& sizes = {});

// The same for one rank each: adds nodes that sum each of `values` for the rank that `owners` gives. What is returned
// is the sum on that rank, and on the others an f32 scalar, 0, that is there when theirs is on its way. A bucket has
// values of one owner, and is waited for when the next one has started, or else at once, so that the memory of what the
// others have sent is free again while the plan goes on; all owners' buckets fill at the same time, so each has but a
// quarter of 1 / ranks of the size, and at least that of the first.
std::vector<ValueId> sum_for_owners(Graph& graph, std::span<const ValueId> values, std::span<const int> owners,
                                    int rank, int ranks, const BucketSizes& sizes = {});

// Shares out things of these sizes among ranks, whole ones, so that each rank has about as much as the others: the
// largest first, each to the rank that has least so far. The rank of each; equal on all ranks (Graham, "Bounds on
// multiprocessing timing anomalies", 1969: no rank has more than 4/3 of the best division).
std::vector<int> share_out(std::span<const std::size_t> sizes, int ranks);

// A state that one rank updates for all.
struct OwnedState {
  ValueId state;
  ValueId now;    // its new value on the rank `owner`; not looked at on the others
  ValueId after;  // what the new value is made of and all ranks have: nothing is received before
  int owner;
};

// Adds nodes by which rank `rank` of `ranks` sends the new values of its own states, and receives those of all others
// as the states' updates. To be called after all sums. A bucket has states of one owner; it is sent when its last new
// value is there, but after all sums, and a run ends when all are there.
void broadcast_updates(Graph& graph, std::span<const OwnedState> states, int rank, int ranks,
                       const BucketSizes& sizes = {});

}  // namespace trivet
