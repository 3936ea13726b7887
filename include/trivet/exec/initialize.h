// Initial values of states.
#pragma once

#include <cstdint>
#include <span>

#include "trivet/graph/graph.h"

namespace trivet {

// Fills `bytes` (as many as the value's type has) as its Init says. Draws are Philox, keyed by (seed, name): they do
// not depend on other states or on their order. Normal draws by Box and Muller (Ann. Math. Statist. 29, 1958).
void fill_initial(const Value& state, std::uint64_t seed, std::span<std::byte> bytes);

}  // namespace trivet
