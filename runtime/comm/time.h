// Deadlines.
#pragma once

#include <algorithm>
#include <chrono>

namespace trivet::comm {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using std::chrono::milliseconds;

// What is left until then, rounded up; 0 if it has passed.
inline milliseconds remaining(TimePoint deadline) {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
}

}  // namespace trivet::comm
