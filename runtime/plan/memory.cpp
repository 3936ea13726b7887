#include "trivet/plan/memory.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace trivet {
namespace {

bool meet(const LiveBuffer& a, const LiveBuffer& b) { return a.first <= b.last && b.first <= a.last; }

// Puts each buffer, in the given order, into the lowest gap that it fits among those placed before.
Placement place_in_order(std::span<const LiveBuffer> buffers, const std::vector<std::size_t>& order) {
  Placement result;
  result.offsets.assign(buffers.size(), 0);
  std::vector<std::size_t> placed;
  std::vector<std::pair<std::size_t, std::size_t>> taken;  // [begin, end) of those whose lifetimes meet
  for (const std::size_t i : order) {
    taken.clear();
    for (const std::size_t j : placed) {
      if (meet(buffers[i], buffers[j])) taken.emplace_back(result.offsets[j], result.offsets[j] + buffers[j].bytes);
    }
    std::sort(taken.begin(), taken.end());
    std::size_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + buffers[i].bytes <= begin) break;
      offset = std::max(offset, end);
    }
    result.offsets[i] = offset;
    result.size = std::max(result.size, offset + buffers[i].bytes);
    placed.push_back(i);
  }
  return result;
}

}  // namespace

Placement place_buffers(std::span<const LiveBuffer> buffers) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  Placement by_size = place_in_order(buffers, order);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return buffers[a].first < buffers[b].first; });
  Placement by_time = place_in_order(buffers, order);
  return by_time.size < by_size.size ? by_time : by_size;
}

std::size_t peak_live_bytes(std::span<const LiveBuffer> buffers) {
  std::map<int, std::ptrdiff_t> change;
  for (const LiveBuffer& b : buffers) {
    change[b.first] += static_cast<std::ptrdiff_t>(b.bytes);
    change[b.last + 1] -= static_cast<std::ptrdiff_t>(b.bytes);
  }
  std::ptrdiff_t live = 0, peak = 0;
  for (const auto& [step, bytes] : change) {
    live += bytes;
    peak = std::max(peak, live);
  }
  return static_cast<std::size_t>(peak);
}

}  // namespace trivet
