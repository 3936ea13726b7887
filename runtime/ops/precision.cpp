#include "trivet/ops/precision.h"

#include <algorithm>
#include <array>

namespace trivet {
namespace {

struct Entry {
  std::string_view op;
  std::array<int, 6> inputs;
  std::size_t count;
};

// Sorted by name. Ops that only move elements take any dtype and follow what they are given.
constexpr std::array kEntries = {
    Entry{"add", {0, 1}, 2},
    Entry{"adaptive_average_pool", {0}, 1},
    Entry{"adaptive_max_pool", {0}, 1},
    Entry{"average_pool", {0}, 1},
    Entry{"batch_norm", {0, 5}, 2},
    Entry{"batch_norm_train", {0, 5}, 2},
    Entry{"conv2d", {0, 1, 2}, 3},
    Entry{"dropout", {0}, 1},
    Entry{"gelu", {0}, 1},
    Entry{"global_average_pool", {0}, 1},
    Entry{"global_max_pool", {0}, 1},
    Entry{"group_norm", {0}, 1},
    Entry{"layer_norm", {0}, 1},
    Entry{"linear", {0, 1, 2}, 3},
    Entry{"lstm", {0, 1, 2, 3, 5, 6}, 6},
    Entry{"matmul", {0, 1}, 2},
    Entry{"max_pool", {0}, 1},
    Entry{"mul", {0, 1}, 2},
    Entry{"relu", {0}, 1},
    Entry{"rms_norm", {0}, 1},
    Entry{"sigmoid", {0}, 1},
    Entry{"silu", {0}, 1},
    Entry{"sub", {0, 1}, 2},
    Entry{"tanh", {0}, 1},
};

}  // namespace

std::span<const int> bf16_inputs(std::string_view op) {
  const auto* found = std::lower_bound(kEntries.begin(), kEntries.end(), op,
                                       [](const Entry& entry, std::string_view name) { return entry.op < name; });
  if (found == kEntries.end() || found->op != op) return {};
  return std::span(found->inputs).first(found->count);
}

}  // namespace trivet
