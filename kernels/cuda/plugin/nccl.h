// Ranks that speak through NCCL, which is opened when it is first needed. Calls nothing of CUDA itself: a stream is
// handed on as it is. Functions throw std::exception with the reason.
#pragma once

#include <cstdint>

#include "trivet/kernels/plugin.h"

namespace trivet::kernels::cuda {

// To be given to all ranks, as the functions below are those of the border (trivet/kernels/plugin.h).
void make_ranks_id(TrivetRanksId& id);
TrivetRanks* join_ranks(const TrivetRanksId& id, std::int32_t rank, std::int32_t size);
void call_ranks(TrivetRanks& ranks, const TrivetRanksCall& call, void* stream);
bool ranks_ready(TrivetRanks& ranks);
void abort_ranks(TrivetRanks& ranks) noexcept;
void release_ranks(TrivetRanks* ranks) noexcept;

}  // namespace trivet::kernels::cuda
