#include <charconv>
#include <unordered_set>

#include "runtime/formats/table_text.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

// Where a word without quotes ends. A quote inside a word belongs to it.
bool ends_word(char c) { return is_blank(c) || c == ',' || c == '{' || c == '}' || c == '%' || c == '\r'; }

// Words, quoted texts and signs of one line.
class ArffLine {
 public:
  ArffLine(std::string_view line, const LineReader& lines) : line_(line), lines_(lines) {}

  // Whether nothing but blanks and a comment is left.
  bool ended() {
    while (at_ < line_.size() && (is_blank(line_[at_]) || line_[at_] == '\r')) ++at_;
    return at_ == line_.size() || line_[at_] == '%';
  }
  bool take(char sign) {
    if (ended() || line_[at_] != sign) return false;
    ++at_;
    return true;
  }
  std::size_t column() const { return at_ + 1; }

  // A word or a quoted text, appended to `out`; true if it was quoted.
  template <class Out>
  bool word(Out& out) {
    const bool none = ended();
    if (!none && (line_[at_] == '\'' || line_[at_] == '"')) {
      quoted(out);
      return true;
    }
    const std::size_t start = at_;
    while (at_ < line_.size() && !ends_word(line_[at_])) ++at_;
    if (at_ == start) {
      fail(none ? std::string("the line ends here, expected a value")
                : fmt::format("found \"{}\", expected a value", line_[at_]),
           "a missing value is written ?");
    }
    out.append(line_.substr(start, at_ - start));
    return false;
  }

  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const {
    lines_.fail(lines_.line(), at_ + 1, message, hint);
  }

 private:
  template <class Out>
  void quoted(Out& out) {
    const std::size_t open = at_;
    const char quote = line_[at_++];
    for (; at_ < line_.size() && line_[at_] != quote; ++at_) {
      if (line_[at_] == '\\' && at_ + 1 < line_.size()) {
        escaped(line_[++at_], out);
      } else {
        out.append(line_.substr(at_, 1));
      }
    }
    if (at_ == line_.size()) {
      at_ = open;
      fail("this quote is never closed", "a quote inside quotes is written \\' or \\\"");
    }
    ++at_;
  }

  template <class Out>
  void escaped(char c, Out& out) {
    const char meant = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
    out.append(std::string_view(&meant, 1));
  }

  std::string_view line_;
  const LineReader& lines_;
  std::size_t at_ = 0;
};

class ArffReader final : public TableReader {
 public:
  ArffReader(const std::filesystem::path& path, const TextLimits& limits) : lines_(path, limits) { read_header(); }

  bool next(std::span<const Cell>& row) override {
    std::string_view text;
    for (;;) {
      if (!lines_.next(text)) return false;
      ArffLine line(text, lines_);
      if (line.ended()) continue;
      row_.clear();
      if (line.take('{')) {
        read_sparse(line);
      } else {
        read_dense(line);
        cells_.assign(row_.finish().begin(), row_.finish().end());
      }
      row = cells_;
      return true;
    }
  }

  std::string digest() override { return lines_.digest(); }

  void fail(const Cell& cell, const std::string& message, const std::string& hint) const override {
    lines_.fail(cell.line, cell.column, message, hint);
  }

 private:
  void read_header() {
    std::string_view text;
    while (lines_.next(text)) {
      ArffLine line(text, lines_);
      if (line.ended()) continue;
      std::string keyword;
      line.word(keyword);
      keyword = lower(keyword);
      if (keyword == "@attribute") {
        read_attribute(line);
      } else if (keyword == "@data") {
        if (columns_.empty()) line.fail("there is no @attribute before @data");
        return check_names(columns_, lines_, lines_.line());
      } else if (keyword != "@relation") {
        lines_.fail(lines_.line(), 1, fmt::format("found \"{}\", expected @relation, @attribute or @data", keyword));
      }
    }
    lines_.fail(lines_.line(), 0, "the file ends before @data", "is this an ARFF file, and is it complete?");
  }

  void read_attribute(ArffLine& line) {
    if (columns_.size() == lines_.limits().columns) {
      line.fail(fmt::format("more than {} attributes", lines_.limits().columns));
    }
    TableColumn column;
    line.word(column.name);
    if (line.take('{')) {
      column.declared = Declared::nominal;
      read_values(line, column);
    } else {
      column.declared = read_type(line);
    }
    columns_.push_back(std::move(column));
  }

  static Declared read_type(ArffLine& line) {
    std::string word;
    const std::size_t start = line.column();
    line.word(word);
    const std::string type = lower(word);
    if (type == "date") return Declared::date;  // what follows is its format
    Declared declared = Declared::nothing;
    if (type == "numeric" || type == "real" || type == "integer") declared = Declared::number;
    if (type == "string") declared = Declared::text;
    if (declared == Declared::nothing) {
      line.fail(fmt::format("found the type \"{}\" (from column {})", word, start),
                "the types are numeric, real, integer, string, date and {value, ...}");
    }
    if (!line.ended()) line.fail(fmt::format("more follows the type {}", type));
    return declared;
  }

  static void read_values(ArffLine& line, TableColumn& column) {
    std::unordered_set<std::string> seen;
    while (!line.take('}')) {
      if (!column.values.empty() && !line.take(',')) line.fail("expected a comma or }");
      std::string value;
      line.word(value);
      if (!seen.insert(value).second) line.fail(fmt::format("the value \"{}\" is declared twice", value));
      column.values.push_back(std::move(value));
    }
    if (!line.ended()) line.fail("more follows the list of values");
  }

  void read_cell(ArffLine& line) {
    line.ended();  // skips blanks
    row_.begin(lines_.line(), line.column());
    if (line.word(row_)) {
      row_.set_literal();
    } else if (row_.current() == "?") {
      row_.set_missing();
    }
  }

  // Values separated by commas, blanks or both, as Weka reads them.
  void read_dense(ArffLine& line) {
    for (;;) {
      read_cell(line);
      const bool comma = line.take(',');
      if (!comma && line.ended()) break;
      if (line.take('{')) line.fail("weights of instances are not supported", "remove them");
      if (row_.size() == columns_.size()) {
        line.fail(fmt::format("more values than the {} attributes", columns_.size()));
      }
    }
    if (row_.size() != columns_.size()) {
      lines_.fail(lines_.line(), 0,
                  fmt::format("found {} values, expected {}, as many as attributes", row_.size(), columns_.size()),
                  "a missing value is written ?");
    }
  }

  // {index value, index value, ...}, after the brace.
  void read_sparse(ArffLine& line) {
    std::vector<std::size_t> indices;
    while (!line.take('}')) {
      if (!indices.empty() && !line.take(',')) line.fail("expected a comma or }");
      indices.push_back(read_index(line, indices));
      read_cell(line);
    }
    if (line.take(',')) line.fail("weights of instances are not supported", "remove them");
    if (!line.ended()) line.fail("more follows the closing brace");
    const std::vector<Cell>& given = row_.finish();
    cells_.clear();
    for (const TableColumn& column : columns_) cells_.push_back(left_out(column));
    for (std::size_t i = 0; i < indices.size(); ++i) cells_[indices[i]] = given[i];
  }

  std::size_t read_index(ArffLine& line, const std::vector<std::size_t>& before) const {
    std::string word;
    line.word(word);
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), index);
    if (error != std::errc{} || end != word.data() + word.size() || index >= columns_.size()) {
      line.fail(fmt::format("found the index \"{}\", expected 0 to {}", word, columns_.size() - 1));
    }
    if (!before.empty() && index <= before.back()) {
      line.fail(fmt::format("index {} follows {}, expected them to rise", index, before.back()));
    }
    return index;
  }

  Cell left_out(const TableColumn& column) const {
    Cell cell{{}, false, true, lines_.line(), 0};
    if (column.declared == Declared::number) {
      cell.text = "0";
      cell.literal = false;
    } else if (column.declared == Declared::nominal && !column.values.empty()) {
      cell.text = column.values.front();
    } else {
      cell.missing = true;
    }
    return cell;
  }

  LineReader lines_;
  RowText row_;
  std::vector<Cell> cells_;
};

}  // namespace

std::unique_ptr<TableReader> open_arff(const std::filesystem::path& path, const TextLimits& limits) {
  return std::make_unique<ArffReader>(path, limits);
}

}  // namespace trivet
