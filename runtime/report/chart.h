// Curves as inline SVG.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/report/run_files.h"

namespace trivet::report {

enum class Stroke { solid, dashed, faint };

struct Curve {
  std::string name;
  int colour = 0;  // see the styles' --c0, --c1, ...; they repeat after kColours
  Stroke stroke = Stroke::solid;
  std::vector<Point> points;  // x does not fall
};

inline constexpr int kColours = 8;

struct Chart {
  std::string title;
  std::vector<Curve> curves;
  bool percent = false;        // y is a share, shown in percent
  bool log_scale = false;      // with a switch to a logarithmic y axis
  std::optional<double> mark;  // a vertical line, where the checkpoint is that results belong to
  bool legend = true;
};

// A figure with a legend and values under the pointer; "" if no curve has a point. Long curves are thinned: a point is
// then the mean of its neighbours, over a band from their least to their largest value.
std::string line_chart(const Chart& chart);

// Round numbers from `low` to `high`, about `count` of them.
std::vector<double> linear_ticks(double low, double high, int count);

// Where the smallest and largest values of an axis go; never empty.
struct Range {
  double low = 0;
  double high = 1;
};

// A square picture of marks (x, y) over the diagonal y = x, with names for the axes. A mark's size is its radius.
struct Mark {
  double x = 0;
  double y = 0;
  double radius = 3;
  std::string title;
};
std::string square_chart(const std::string& title, const std::string& x_name, const std::string& y_name,
                         const std::vector<Mark>& marks, Range range, bool line);

}  // namespace trivet::report
