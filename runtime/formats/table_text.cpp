#include "runtime/formats/table_text.h"

#include <charconv>
#include <cstdlib>
#include <unordered_map>

#include "trivet/base/error.h"

namespace trivet {
namespace {

bool same_word(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b; });
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<double> parse_number(std::string_view text) {
  const bool plus = text.starts_with('+');
  if (plus) text.remove_prefix(1);
  if (text.empty() || (plus && text.front() == '-')) return {};
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return {};
  // Out of range means too large or too small, and only strtod says which.
  if (error == std::errc::result_out_of_range) return std::strtod(std::string(text).c_str(), nullptr);
  if (error != std::errc{} || std::isnan(value)) return {};
  return value;
}

bool is_missing_word(std::string_view text) {
  if (text.size() > 4) return false;
  if (text.empty() || text == "?") return true;
  return same_word(text, "na") || same_word(text, "n/a") || same_word(text, "nan") || same_word(text, "null");
}

void RowText::clear() {
  text_.clear();
  starts_.clear();
  cells_.clear();
}

void RowText::begin(std::int64_t line, std::size_t column) {
  starts_.push_back(text_.size());
  Cell& cell = cells_.emplace_back();
  cell.line = line;
  cell.column = column;
}

std::vector<Cell>& RowText::finish() {
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    const std::size_t end = i + 1 < cells_.size() ? starts_[i + 1] : text_.size();
    cells_[i].text = std::string_view(text_).substr(starts_[i], end - starts_[i]);
  }
  return cells_;
}

void check_names(const std::vector<TableColumn>& columns, const LineReader& lines, std::int64_t line) {
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto [other, fresh] = seen.emplace(columns[i].name, i);
    if (columns[i].name.empty()) lines.fail(line, 0, fmt::format("column {} has an empty name", i + 1), "name it");
    if (!fresh) {
      lines.fail(line, 0,
                 fmt::format("columns {} and {} have the same name, \"{}\"", other->second + 1, i + 1, columns[i].name),
                 "give each column a name of its own");
    }
  }
}

}  // namespace trivet
