// Memory planning: buffers with lifetimes get offsets in one arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace trivet {

// A buffer is live from step `first` to step `last`, both included.
struct LiveBuffer {
  std::size_t bytes = 0;  // a multiple of the alignment
  int first = 0;
  int last = 0;
};

struct Placement {
  std::vector<std::size_t> offsets;
  std::size_t size = 0;  // of the arena
};

// Two buffers whose lifetimes meet never overlap. Tries two greedy orders, largest first and earliest first, and keeps
// the smaller result. (Optimal placement is NP-hard: Garey and Johnson, problem SR2.)
Placement place_buffers(std::span<const LiveBuffer> buffers);

// The largest number of bytes live at one step: no placement can be smaller.
std::size_t peak_live_bytes(std::span<const LiveBuffer> buffers);

}  // namespace trivet
