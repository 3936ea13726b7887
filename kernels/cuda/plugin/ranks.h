// What a rank does by itself on its device for sums and broadcasts over ranks, and `assign`: copies, where results do
// not have the places of the inputs. The session does the rest (trivet/exec/collectives.h).
#pragma once

#include <string_view>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

// The kernel of such an op, or null.
const KernelEntry* find_ranks(std::string_view op);

}  // namespace trivet::kernels::cuda
