// In the place of nccl.cpp where NCCL's headers are not found.
#include <stdexcept>

#include "kernels/cuda/plugin/nccl.h"

namespace trivet::kernels::cuda {
namespace {

[[noreturn]] void refuse() { throw std::runtime_error("the plug-in was built without NCCL's headers"); }

}  // namespace

void make_ranks_id(TrivetRanksId&) { refuse(); }
TrivetRanks* join_ranks(const TrivetRanksId&, std::int32_t, std::int32_t) { refuse(); }
void call_ranks(TrivetRanks&, const TrivetRanksCall&, void*) { refuse(); }
bool ranks_ready(TrivetRanks&) { refuse(); }
void abort_ranks(TrivetRanks&) noexcept {}
void release_ranks(TrivetRanks*) noexcept {}

}  // namespace trivet::kernels::cuda
