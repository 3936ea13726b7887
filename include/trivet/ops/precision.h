// Which ops compute in 16 bits.
#pragma once

#include <span>
#include <string_view>

namespace trivet {

// The inputs that may be bf16, or f16, all of them together, where a model's forward part is to compute in it; empty
// for ops that stay in f32. A test compares this with what the op cases check.
std::span<const int> bf16_inputs(std::string_view op);

}  // namespace trivet
