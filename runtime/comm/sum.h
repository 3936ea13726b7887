// Reducing what the ranks sent, in the order that communicator.h promises.
#pragma once

#include <span>

#include "trivet/comm/communicator.h"

namespace trivet::comm {

// target[i] = sources[0][i] op sources[1][i] op ..., in a balanced tree over the sources: neighbours are added, then
// neighbours among these sums, and so on; the last one of an odd number is carried. Maximum and minimum of a NaN and
// anything are NaN; integers wrap around. `target` may be one of the sources. `copy` gets the same, unless null.
void reduce_tree(void* target, void* copy, std::span<const void* const> sources, std::int64_t elements, DType dtype,
                 ReduceOp op);

// Error(usage) unless reduce_tree() knows the type.
void check_reducible(DType dtype);

}  // namespace trivet::comm
