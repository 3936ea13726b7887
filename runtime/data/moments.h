// Mean and deviation in one pass: Welford, "Note on a method for calculating corrected sums of squares and products",
// Technometrics 4(3), 1962.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace trivet {

struct Moments {
  std::int64_t count = 0;
  double mean = 0;
  double squares = 0;  // the sum of squared deviations
  double smallest = std::numeric_limits<double>::infinity();
  double largest = -std::numeric_limits<double>::infinity();

  void add(double value) {
    ++count;
    const double delta = value - mean;
    mean += delta / static_cast<double>(count);
    squares += delta * (value - mean);
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
  }

  // Population deviation; 1 if all values are the same. Not finite if the values are too large for it.
  double deviation() const {
    if (count == 0 || smallest == largest) return 1.0;
    const double result = std::sqrt(squares / static_cast<double>(count));
    return result == 0 ? 1.0 : result;
  }
};

}  // namespace trivet
