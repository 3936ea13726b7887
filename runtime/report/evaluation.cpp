// Confusion matrix, classes, calibration, scatter.
#include <fmt/format.h>

#include "runtime/report/chart.h"
#include "runtime/report/encode.h"
#include "runtime/report/html.h"
#include "runtime/report/json_read.h"
#include "runtime/report/metric.h"
#include "runtime/report/sections.h"
#include "trivet/report/report.h"

namespace trivet::report {
namespace {

using nlohmann::json;

constexpr std::size_t kMostCells = 32;       // classes of a matrix with numbers; larger ones are a picture
constexpr std::size_t kMostClasses = 4096;   // of that picture
constexpr std::int64_t kPictureSide = 200;   // pixels
constexpr std::size_t kMostRows = 100;       // of the table of classes
constexpr std::size_t kMostOpen = 25;        // of them that are seen at first
constexpr std::size_t kMostConfusions = 15;  // of the list of confusions
constexpr std::size_t kLongestName = 200;    // bytes
constexpr std::size_t kMostPoints = 500;
constexpr double kLargestDrawn = 1e100;

struct Confusion {
  std::vector<std::vector<double>> counts;  // [truth][predicted]
  std::vector<std::string> names;

  std::size_t size() const { return counts.size(); }
  double row_sum(std::size_t truth) const { return std::accumulate(counts[truth].begin(), counts[truth].end(), 0.0); }
};

// Nothing unless it is a square of counts.
std::optional<Confusion> read_confusion(const json& evaluation) {
  const json& rows = member(evaluation, "confusion");
  if (!rows.is_array() || rows.empty() || rows.size() > kMostClasses) return std::nullopt;
  Confusion confusion;
  for (const json& row : rows) {
    if (!row.is_array() || row.size() != rows.size()) return std::nullopt;
    std::vector<double> counts;
    for (const json& cell : row) {
      const auto count = number(cell);
      if (!count || *count < 0 || *count > 1e15) return std::nullopt;
      counts.push_back(*count);
    }
    confusion.counts.push_back(std::move(counts));
  }
  const json& names = member(evaluation, "classes");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::string name = names.is_array() && i < names.size() ? text(names[i]) : "";
    confusion.names.push_back(name.empty() ? fmt::format("{}", i) : shorten(name, kLongestName));
  }
  return confusion;
}

std::string cell(const Confusion& c, std::size_t truth, std::size_t predicted, double sum) {
  const double count = c.counts[truth][predicted];
  if (count == 0) return "<td class=\"zero\">0</td>";
  const bool right = truth == predicted;
  // Errors are few: their root makes them visible beside what is right.
  const double share = sum > 0 ? count / sum : 0;
  const double heat = 0.08 + 0.92 * (right ? share : std::sqrt(share));
  return fmt::format("<td class=\"{}{}\" style=\"--h:{:.2f}\" title=\"{} taken for {}: {:.0f} of {:.0f}\">{:.0f}</td>",
                     right ? 'd' : 'e', heat > 0.55 ? " strong" : "", heat, escape(shorten(c.names[truth], 40)),
                     escape(shorten(c.names[predicted], 40)), count, sum, count);
}

std::string matrix_table(const Confusion& c) {
  std::string out = "<div class=\"scroll\"><table class=\"matrix\"><thead><tr><th></th>";
  for (const std::string& name : c.names) {
    out += fmt::format("<th title=\"{0}\"><span class=\"v\">{0}</span></th>", escape(name));
  }
  out += "</tr></thead><tbody>\n";
  for (std::size_t truth = 0; truth < c.size(); ++truth) {
    out += fmt::format("<tr><th title=\"{0}\">{0}</th>", escape(c.names[truth]));
    const double sum = c.row_sum(truth);
    for (std::size_t predicted = 0; predicted < c.size(); ++predicted) out += cell(c, truth, predicted, sum);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

// For more classes than numbers can be read: a pixel for each cell or block of cells, darker with the root of its
// share.
std::string matrix_picture(const Confusion& c) {
  const auto side = std::min(static_cast<std::int64_t>(c.size()), kPictureSide);
  const auto n = static_cast<std::size_t>(side);
  std::vector<double> sums(n * n), rows(n);
  for (std::size_t truth = 0; truth < c.size(); ++truth) {
    const std::size_t y = truth * n / c.size();
    for (std::size_t predicted = 0; predicted < c.size(); ++predicted) {
      sums[y * n + predicted * n / c.size()] += c.counts[truth][predicted];
      rows[y] += c.counts[truth][predicted];
    }
  }
  Image image{side, side, 1, {}};
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double share = rows[i / n] > 0 ? sums[i] / rows[i / n] : 0;
    image.pixels.push_back(static_cast<std::uint8_t>(std::lround(255 * (1 - std::sqrt(share)))));
  }
  return fmt::format("<img class=\"pixels\" alt=\"confusion matrix of {} classes\" src=\"{}\">\n", c.size(),
                     png_uri(image));
}

std::string confusions_table(const Confusion& c) {
  struct Pair {
    double count;
    std::size_t truth, predicted;
  };
  std::vector<Pair> pairs;
  for (std::size_t t = 0; t < c.size(); ++t) {
    for (std::size_t p = 0; p < c.size(); ++p) {
      if (t != p && c.counts[t][p] > 0) pairs.push_back({c.counts[t][p], t, p});
    }
  }
  if (pairs.empty()) return {};
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.count > b.count; });
  pairs.resize(std::min(pairs.size(), kMostConfusions));
  std::string out =
      "<div><h3>Most frequent confusions</h3><div class=\"scroll\"><table><thead><tr><th>truth</th><th>predicted</th>"
      "<th class=\"n\">samples</th></tr></thead><tbody>\n";
  for (const Pair& p : pairs) {
    out += fmt::format("<tr><td>{}</td><td>{}</td><td class=\"n\">{:.0f}</td></tr>\n", escape(c.names[p.truth]),
                       escape(c.names[p.predicted]), p.count);
  }
  return out + "</tbody></table></div></div>\n";
}

std::string confusion_part(const json& evaluation) {
  const auto confusion = read_confusion(evaluation);
  if (!confusion) return {};
  std::string out =
      "<h3>Confusion matrix</h3><p class=\"muted small\">A row is what samples are, a column what they "
      "were taken for; the shade is the share of the row.</p>\n<div class=\"pair\">";
  out += confusion->size() <= kMostCells ? matrix_table(*confusion) : matrix_picture(*confusion);
  return out + confusions_table(*confusion) + "</div>\n";
}

std::string classes_part(const json& evaluation) {
  const json& classes = member(evaluation, "per_class");
  if (!classes.is_array() || classes.empty()) return {};
  const std::size_t rows = std::min(classes.size(), kMostRows);
  std::string out = classes.size() > kMostOpen ? "<details>" : "<details open>";
  out += "<summary>Classes</summary><div class=\"scroll\"><table><thead><tr><th>class</th>";
  for (const char* key : {"precision", "recall", "f1", "support"}) {
    out += fmt::format("<th class=\"n\">{}</th>", std::string_view(key) == "support" ? "samples" : metric_label(key));
  }
  out += "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < rows; ++i) {
    out += fmt::format("<tr><td>{}</td>", escape(shorten(text(member(classes[i], "name")), kLongestName)));
    for (const char* key : {"precision", "recall", "f1", "support"}) {
      const auto value = number(classes[i], key);
      const bool count = std::string_view(key) == "support";
      out += fmt::format("<td class=\"n\">{}</td>", !value ? "-" : fmt::format("{:.{}f}", *value, count ? 0 : 4));
    }
    out += "</tr>\n";
  }
  out += "</tbody></table></div>\n";
  if (rows < classes.size()) {
    out += fmt::format("<p class=\"muted small\">The first {} of {}; evaluation.json has all.</p>\n", rows,
                       classes.size());
  }
  return out + "</details>\n";
}

std::string calibration_part(const json& evaluation) {
  const json& bins = member(evaluation, "calibration");
  if (!bins.is_array()) return {};
  std::vector<Mark> marks;
  double most = 0;
  for (const json& bin : bins) most = std::max(most, number(bin, "count").value_or(0));
  for (const json& bin : bins) {
    const auto confidence = number(bin, "confidence"), accuracy = number(bin, "accuracy");
    const double count = number(bin, "count").value_or(0);
    if (!confidence || !accuracy || count <= 0 || marks.size() == kMostPoints) continue;
    marks.push_back({std::clamp(*confidence, 0.0, 1.0), std::clamp(*accuracy, 0.0, 1.0),
                     2 + 7 * std::sqrt(count / most),
                     fmt::format("confidence {:.3f}, accuracy {:.3f}, {:.0f} samples", *confidence, *accuracy, count)});
  }
  if (marks.empty()) return {};
  std::string out = square_chart("Calibration", "confidence", "accuracy", marks, {0, 1}, true);
  out +=
      "<p class=\"muted small\">On the dotted line, predictions of 80 % confidence are right in 80 % of the cases. "
      "Larger dots stand for more samples.</p>";
  return "<div class=\"square\">" + out + "</div>\n";
}

std::string scatter_part(const json& evaluation) {
  const json& pairs = member(evaluation, "scatter");
  if (!pairs.is_array()) return {};
  std::vector<Mark> marks;
  Range range{1, 0};
  for (const json& pair : pairs) {
    if (!pair.is_array() || pair.size() != 2 || marks.size() == kMostPoints) continue;
    const auto truth = number(pair[0]), predicted = number(pair[1]);
    if (!truth || !predicted || std::max(std::abs(*truth), std::abs(*predicted)) > kLargestDrawn) continue;
    const double low = std::min(*truth, *predicted), high = std::max(*truth, *predicted);
    range = marks.empty() ? Range{low, high} : Range{std::min(range.low, low), std::max(range.high, high)};
    marks.push_back({*truth, *predicted, 2.5, fmt::format("truth {:.6g}, predicted {:.6g}", *truth, *predicted)});
  }
  if (marks.empty()) return {};
  const double room = range.high > range.low ? (range.high - range.low) * 0.04 : std::max(1.0, std::abs(range.high));
  const std::string chart = square_chart("Predicted against true numbers", "truth", "predicted", marks,
                                         {range.low - room, range.high + room}, false);
  return "<div class=\"square\">" + chart + "</div>\n";
}

std::string figures(const json& evaluation) {
  std::string out;
  for (const char* key :
       {"accuracy", "top_k", "macro_f1", "weighted_f1", "auc", "calibration_error", "r2", "mae", "rmse", "samples"}) {
    const auto value = number(evaluation, key);
    if (!value) continue;
    out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", metric_label(key), format_result(key, *value));
  }
  return out.empty() ? out : "<dl class=\"figures\">" + out + "</dl>\n";
}

}  // namespace

std::string evaluation_section(const json& evaluation) {
  if (!evaluation.is_object()) return {};
  const std::string split = text(member(evaluation, "split"));
  const std::string pictures = calibration_part(evaluation) + scatter_part(evaluation);
  std::string content = figures(evaluation) + confusion_part(evaluation);
  const std::string classes = classes_part(evaluation);
  if (!classes.empty() || !pictures.empty()) content += "<div class=\"pair\">" + classes + pictures + "</div>\n";
  return section("evaluation", split.empty() ? "Evaluation" : "Evaluation on the " + shorten(split, 40) + " samples",
                 content);
}

}  // namespace trivet::report
