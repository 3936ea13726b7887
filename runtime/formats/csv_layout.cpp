// What a file of cells is like: its delimiter, its header.
#include <charconv>
#include <exception>
#include <set>

#include "runtime/formats/csv_records.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

constexpr std::size_t kRecords = 64;  // that are looked at

using Record = std::vector<std::string>;

struct Sample {
  char delimiter = ',';
  std::vector<Record> records;
  std::vector<std::int64_t> lines;
  std::exception_ptr failure;  // what ended it
};

// Under a delimiter that is not the file's, quotes may seem to be in wrong places: whether that is an error is known
// when all delimiters have been tried.
Sample sample_with(const std::filesystem::path& path, char delimiter, const TextLimits& limits) {
  Sample sample;
  sample.delimiter = delimiter;
  try {
    CsvRecords records(path, delimiter, limits);
    while (sample.records.size() < kRecords && records.next()) {
      Record& record = sample.records.emplace_back();
      for (const Cell& cell : records.cells()) record.emplace_back(cell.text);
      sample.lines.push_back(records.line());
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::data) throw;
    sample.failure = std::current_exception();
  }
  return sample;
}

std::optional<std::int64_t> whole_number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) return {};
  return value;
}

bool is_number(const std::string& text) { return parse_number(text).has_value(); }

// Either class names, and then rows that end with the number of a class; or nothing, and then a header.
std::optional<CsvSummary> find_summary(const Sample& sample) {
  if (sample.records.size() < 2) return {};
  const Record& first = sample.records[0];
  const Record& second = sample.records[1];
  if (first.size() < 3) return {};
  const auto rows = whole_number(first[0]), columns = whole_number(first[1]);
  if (!rows || !columns || static_cast<std::size_t>(*columns) + 1 != second.size()) return {};
  CsvSummary summary{*rows, {first.begin() + 2, first.end()}};
  const auto empty = [](const std::string& text) { return text.empty(); };
  if (std::all_of(summary.classes.begin(), summary.classes.end(), empty)) {
    summary.classes.clear();
    const bool header = first.size() == second.size() && std::none_of(second.begin(), second.end(), is_number);
    return header ? std::optional(summary) : std::nullopt;
  }
  const auto unusable = [](const std::string& text) { return text.empty() || is_number(text); };
  if (std::any_of(summary.classes.begin(), summary.classes.end(), unusable)) return {};
  const auto last = whole_number(second.back());
  return last && static_cast<std::size_t>(*last) < summary.classes.size() ? std::optional(summary) : std::nullopt;
}

bool is_regular(const Sample& sample) {
  if (sample.failure || sample.records.empty() || sample.records.back().size() < 2) return false;
  const std::size_t cells = sample.records.back().size();
  for (std::size_t i = 1; i < sample.records.size(); ++i) {
    if (sample.records[i].size() != cells) return false;
  }
  return sample.records[0].size() == cells || find_summary(sample).has_value();
}

// The first that splits every record into the same number of cells. The comma comes last, because it also stands in
// texts and numbers. With none, the one that occurs most often, so that an error names the line that differs.
Sample choose_delimiter(const std::filesystem::path& path, const TextLimits& limits) {
  Sample best;
  std::size_t most = 0;
  for (const char delimiter : {'\t', ';', '|', ','}) {
    Sample sample = sample_with(path, delimiter, limits);
    if (is_regular(sample)) return sample;
    std::size_t delimiters = 0;
    for (const Record& record : sample.records) delimiters += record.size() - 1;
    if (delimiters >= most) best = std::move(sample);
    most = std::max(most, delimiters);
  }
  if (best.failure) std::rethrow_exception(best.failure);
  return best;
}

// Whether a column has a number in some row below the first.
bool has_number_below(const Sample& sample, std::size_t first, std::size_t column) {
  for (std::size_t i = first + 1; i < sample.records.size(); ++i) {
    if (column < sample.records[i].size() && is_number(sample.records[i][column])) return true;
  }
  return false;
}

bool occurs_below(const Sample& sample, std::size_t first, std::size_t column) {
  for (std::size_t i = first + 1; i < sample.records.size(); ++i) {
    if (column < sample.records[i].size() && sample.records[i][column] == sample.records[first][column]) return true;
  }
  return false;
}

bool is_header(const Sample& sample, std::size_t first) {
  const Record& record = sample.records[first];
  if (std::any_of(record.begin(), record.end(), is_number)) return false;
  if (std::all_of(record.begin(), record.end(), [](const std::string& t) { return is_missing_word(t); })) return false;
  bool names_only = std::set<std::string>(record.begin(), record.end()).size() == record.size();
  for (std::size_t column = 0; column < record.size(); ++column) {
    if (has_number_below(sample, first, column)) return true;
    names_only = names_only && !occurs_below(sample, first, column);
  }
  return names_only;
}

}  // namespace

CsvLayout sniff_csv(const std::filesystem::path& path, const TextLimits& limits) {
  const Sample sample = choose_delimiter(path, limits);
  CsvLayout layout;
  layout.delimiter = sample.delimiter;
  if (sample.records.empty()) return layout;
  layout.summary = find_summary(sample);
  const std::size_t first = layout.summary ? 1 : 0;
  layout.first_line = sample.lines[first];
  layout.header = is_header(sample, first);
  const Record& record = sample.records[first];
  for (std::size_t i = 0; i < record.size(); ++i) {
    const bool named = layout.header && !record[i].empty();
    layout.names.push_back(named ? record[i] : fmt::format("column_{}", i + 1));
  }
  return layout;
}

}  // namespace trivet
