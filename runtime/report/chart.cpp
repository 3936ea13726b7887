#include "runtime/report/chart.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "runtime/report/html.h"

namespace trivet::report {
namespace {

// The drawing's own units; styles make it as wide as there is room. Small, so that its text is readable on a phone.
constexpr double kWidth = 440, kHeight = 260;
constexpr double kLeft = 56, kRight = 428, kTop = 12, kBottom = 228;
constexpr std::size_t kMostPoints = 300;    // of one curve ...
constexpr std::size_t kMostInChart = 1800;  // ... and of all
constexpr std::size_t kMostDots = 40;

struct Thinned {
  double x = 0, mean = 0, low = 0, high = 0;
};

std::vector<Thinned> thin(const std::vector<Point>& points, std::size_t limit) {
  std::vector<Thinned> result;
  const std::size_t groups = std::min(points.size(), limit);
  for (std::size_t g = 0; g < groups; ++g) {
    const std::size_t begin = g * points.size() / groups;
    const std::size_t end = (g + 1) * points.size() / groups;
    Thinned t{points[end - 1].x, 0, points[begin].y, points[begin].y};
    for (std::size_t i = begin; i < end; ++i) {
      t.mean += points[i].y / static_cast<double>(end - begin);
      t.low = std::min(t.low, points[i].y);
      t.high = std::max(t.high, points[i].y);
    }
    result.push_back(t);
  }
  return result;
}

using ThinCurves = std::vector<std::vector<Thinned>>;

// A straight or logarithmic way from values to the drawing.
struct Axis {
  Range range;
  bool log = false;
  double from = 0, to = 1;

  double at(double value) const {
    const double low = log ? std::log10(range.low) : range.low;
    const double high = log ? std::log10(range.high) : range.high;
    const double v = log ? std::log10(value) : value;
    return from + (v - low) / (high - low) * (to - from);
  }
};

Range widened(double low, double high) {
  if (low > high) return {0, 1};
  const double room = high > low ? (high - low) * 0.04 : high != 0 ? std::abs(high) * 0.1 : 1.0;
  return {low - room, high + room};
}

Range y_range(const ThinCurves& curves, bool log) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& curve : curves) {
    for (const Thinned& t : curve) {
      if (log && t.mean <= 0) continue;
      low = std::min(low, log && t.low <= 0 ? t.mean : t.low);
      high = std::max(high, t.high);
    }
  }
  if (!log) return widened(low, high);
  if (low > high) return {0.1, 1};
  const double room = std::max(std::pow(high / low, 0.04), 1.01);
  return {low / room, high * room};
}

// From step 0, so that the pictures of a run are alike.
Range x_range(const ThinCurves& curves) {
  Range range{0, 1};
  for (const auto& curve : curves) {
    if (curve.empty()) continue;
    range.low = std::min(range.low, curve.front().x);
    range.high = std::max(range.high, curve.back().x);
  }
  return range;
}

// 1, 2 and 5 times powers of ten; only powers of ten where there are many.
std::vector<double> log_ticks(const Range& range) {
  const double decades = std::log10(range.high / range.low);
  if (decades < 0.7) return linear_ticks(range.low, range.high, 5);
  const int first = static_cast<int>(std::floor(std::log10(range.low)));
  const int last = static_cast<int>(std::ceil(std::log10(range.high)));
  const int every = std::max(1, (last - first) / 8);
  std::vector<double> ticks;
  for (int e = first; e <= last; e += every) {
    for (const double m : decades < 3 ? std::vector<double>{1, 2, 5} : std::vector<double>{1}) {
      const double tick = m * std::pow(10.0, e);
      if (tick >= range.low && tick <= range.high) ticks.push_back(tick);
    }
  }
  return ticks;
}

// `ticks`: all of the axis, so that neighbours differ in what is printed.
std::string tick_text(double value, const std::vector<double>& ticks, bool percent) {
  const double factor = percent ? 100 : 1;
  const double step = factor * (ticks.size() > 1 ? ticks[1] - ticks[0] : std::max(std::abs(value), 1e-3));
  const double shown = factor * value;
  const char* unit = percent ? " %" : "";
  if (std::abs(shown) >= 1e5 || step < 1e-4) return fmt::format("{:.4g}{}", shown, unit);
  return fmt::format("{:.{}f}{}", shown, std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9))), unit);
}

std::string log_tick_text(double value, bool percent) {
  return percent ? fmt::format("{:.4g} %", 100 * value) : fmt::format("{:.4g}", value);
}

std::string grid(const Axis& x, const Axis& y, bool percent) {
  std::string out;
  const std::vector<double> y_ticks = y.log ? log_ticks(y.range) : linear_ticks(y.range.low, y.range.high, 5);
  for (const double tick : y_ticks) {
    const double at = y.at(tick);
    out += fmt::format(R"(<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" class="y">{}</text>)", kLeft,
                       at, kRight, kLeft - 6, at + 4,
                       y.log ? log_tick_text(tick, percent) : tick_text(tick, y_ticks, percent));
  }
  const std::vector<double> x_ticks = linear_ticks(x.range.low, x.range.high, 5);
  for (const double tick : x_ticks) {
    if (tick != std::floor(tick)) continue;  // steps are whole
    const double at = x.at(tick);
    out += fmt::format(R"(<path class="grid" d="M{:.1f} {}V{}"/><text x="{:.1f}" y="{}" class="x">{}</text>)", at,
                       kBottom, kBottom + 4, at, kBottom + 17, tick_text(tick, x_ticks, false));
  }
  return out + fmt::format(R"(<path class="axis" d="M{0} {1}V{2}H{3}"/><text x="{3}" y="{4}" class="y">step</text>)",
                           kLeft, kTop, kBottom, kRight, kBottom + 30);
}

bool drawn(const Thinned& t, const Axis& y) { return !y.log || t.mean > 0; }

std::string band(const std::vector<Thinned>& points, const Axis& x, const Axis& y, int colour) {
  std::string there, back;
  bool wide = false;
  for (const Thinned& t : points) {
    if (!drawn(t, y)) continue;
    wide = wide || t.high > t.low;
    const double low = y.log && t.low <= 0 ? t.mean : t.low;
    there += fmt::format("{}{:.1f} {:.1f}", there.empty() ? "M" : "L", x.at(t.x), y.at(t.high));
    back = fmt::format("L{:.1f} {:.1f}", x.at(t.x), y.at(low)) + back;
  }
  if (!wide) return {};
  return fmt::format(R"(<path class="band f{}" d="{}{}Z"/>)", colour, there, back);
}

std::string curve_svg(const Curve& curve, const std::vector<Thinned>& points, const Axis& x, const Axis& y) {
  constexpr const char* kClasses[] = {"", " dashed", " faint"};
  const int colour = curve.colour % kColours;
  std::string path, dots;
  for (const Thinned& t : points) {
    if (!drawn(t, y)) continue;
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x.at(t.x), y.at(t.mean));
    dots += fmt::format(R"(<circle class="f{}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>)", colour, x.at(t.x), y.at(t.mean));
  }
  if (path.empty()) return {};
  std::string out = curve.stroke == Stroke::dashed ? "" : band(points, x, y, colour);
  out += fmt::format(R"(<path class="curve s{}{}" d="{}"/>)", colour, kClasses[static_cast<int>(curve.stroke)], path);
  if (points.size() == 1 || (points.size() <= kMostDots && curve.stroke == Stroke::solid)) out += dots;
  return out;
}

std::string svg(const Chart& chart, const ThinCurves& thinned, bool log) {
  const Axis x{x_range(thinned), false, kLeft, kRight};
  const Axis y{y_range(thinned, log), log, kBottom, kTop};
  std::string out = fmt::format(
      R"(<svg viewBox="0 0 {} {}" class="{}" role="img" aria-label="{}" data-x="{} {} {:.17g} {:.17g}">)", kWidth,
      kHeight, log ? "logarithmic" : "linear", escape(chart.title), kLeft, kRight, x.range.low, x.range.high);
  out += grid(x, y, chart.percent);
  if (chart.mark && *chart.mark >= x.range.low && *chart.mark <= x.range.high) {
    const double at = x.at(*chart.mark);
    out += fmt::format(R"(<path class="mark" d="M{:.1f} {}V{}"><title>the checkpoint of the results</title></path>)",
                       at, kTop, kBottom);
  }
  for (std::size_t i = 0; i < thinned.size(); ++i) out += curve_svg(chart.curves[i], thinned[i], x, y);
  return out + fmt::format(R"(<path class="cursor" d="M0 {}V{}" visibility="hidden"/></svg>)", kTop, kBottom);
}

// What the script shows under the pointer. The names are escaped twice: as JSON, and with it as an attribute.
std::string series_json(const Chart& chart, const ThinCurves& thinned) {
  nlohmann::json series = nlohmann::json::array();
  for (std::size_t i = 0; i < thinned.size(); ++i) {
    std::string points;
    nlohmann::json values = nlohmann::json::array();
    for (const Thinned& t : thinned[i]) {
      for (const double v : {t.x, t.mean}) values.push_back(std::stod(fmt::format("{:.6g}", v)));
    }
    series.push_back(
        {{"name", chart.curves[i].name}, {"colour", chart.curves[i].colour % kColours}, {"points", values}});
  }
  return series.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string legend(const Chart& chart) {
  constexpr const char* kClasses[] = {"", " dashed", " faint"};
  std::string out = "<div class=\"legend\">";
  std::set<int> named;  // a dashed curve goes with the solid one of its colour
  for (const Curve& curve : chart.curves) {
    if (curve.points.empty() || (curve.stroke == Stroke::dashed && named.contains(curve.colour))) continue;
    named.insert(curve.colour);
    out += fmt::format(
        R"(<span><svg viewBox="0 0 22 8" class="key"><path class="curve s{}{}" d="M1 4H21"/></svg>{}</span>)",
        curve.colour % kColours, kClasses[static_cast<int>(curve.stroke)], escape(curve.name));
  }
  return out + "</div>";
}

}  // namespace

std::vector<double> linear_ticks(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double step = power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  for (double k = std::ceil(low / step); k * step <= high && ticks.size() < 100; ++k) ticks.push_back(k * step + 0.0);
  return ticks;
}

std::string line_chart(const Chart& chart) {
  std::size_t curves = 0;
  bool positive = false;
  for (const Curve& curve : chart.curves) {
    curves += curve.points.empty() ? 0 : 1;
    for (const Point& p : curve.points) positive = positive || p.y > 0;
  }
  if (curves == 0) return {};
  ThinCurves thinned;
  const std::size_t limit = std::max<std::size_t>(2, std::min(kMostPoints, kMostInChart / curves));
  for (const Curve& curve : chart.curves) thinned.push_back(thin(curve.points, limit));
  std::string out =
      fmt::format(R"(<figure class="chart" data-percent="{}" data-series="{}"><figcaption>{}</figcaption>)",
                  chart.percent ? 1 : 0, escape(series_json(chart, thinned)), escape(chart.title));
  const bool both = chart.log_scale && positive;
  if (both) out += R"(<label class="switch"><input type="checkbox" class="log"> log scale</label>)";
  out += svg(chart, thinned, false);
  if (both) out += svg(chart, thinned, true);
  if (chart.legend) out += legend(chart);
  return out + "<div class=\"tip\" hidden></div></figure>\n";
}

std::string square_chart(const std::string& title, const std::string& x_name, const std::string& y_name,
                         const std::vector<Mark>& marks, Range range, bool line) {
  constexpr double kSide = 320, kNear = 52, kFar = 308, kUpper = 12, kLower = 268;
  const Axis x{range, false, kNear, kFar};
  const Axis y{range, false, kLower, kUpper};
  std::string out = fmt::format(
      R"(<figure class="square"><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">)",
      escape(title), kSide, kSide, escape(title));
  const std::vector<double> ticks = linear_ticks(range.low, range.high, 5);
  for (const double tick : ticks) {
    out += fmt::format(R"(<path class="grid" d="M{0} {1:.1f}H{2}M{3:.1f} {4}V{5}"/>)", kNear, y.at(tick), kFar,
                       x.at(tick), kUpper, kLower);
    out +=
        fmt::format(R"(<text x="{0}" y="{1:.1f}" class="y">{4}</text><text x="{2:.1f}" y="{3}" class="x">{4}</text>)",
                    kNear - 6, y.at(tick) + 4, x.at(tick), kLower + 17, tick_text(tick, ticks, false));
  }
  out += fmt::format(R"(<path class="mark" d="M{} {}L{} {}"/>)", kNear, kLower, kFar, kUpper);
  std::string path, dots;
  for (const Mark& m : marks) {
    const double at_x = x.at(m.x), at_y = y.at(m.y);
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", at_x, at_y);
    dots += fmt::format(R"(<circle class="f0 point" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>)",
                        at_x, at_y, m.radius, escape(m.title));
  }
  if (line && !path.empty()) out += fmt::format(R"(<path class="curve s0" d="{}"/>)", path);
  out += dots;
  out += fmt::format(R"(<text x="{}" y="{}" class="x">{}</text>)", (kNear + kFar) / 2, kSide - 14, escape(x_name));
  out += fmt::format(R"svg(<text transform="translate(14 {}) rotate(-90)" class="x">{}</text>)svg",
                     (kUpper + kLower) / 2, escape(y_name));
  return out + "</svg></figure>\n";
}

}  // namespace trivet::report
