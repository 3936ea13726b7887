#include "runtime/formats/csv_records.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {

bool CsvRecords::next() {
  do {
    if (!lines_.next(rest_)) return false;
  } while (trimmed(rest_).empty());
  row_.clear();
  at_ = 0;
  first_line_ = lines_.line();
  for (;;) {
    read_cell();
    if (row_.size() > lines_.limits().columns) {
      lines_.fail(first_line_, at_ + 1, fmt::format("more than {} columns", lines_.limits().columns),
                  "is this a table, with a row on each line?");
    }
    if (at_ == rest_.size()) break;
    ++at_;  // the delimiter
  }
  cells_ = &row_.finish();
  return true;
}

void CsvRecords::read_cell() {
  while (at_ < rest_.size() && is_blank(rest_[at_]) && rest_[at_] != delimiter_) ++at_;
  row_.begin(lines_.line(), at_ + 1);
  if (at_ < rest_.size() && rest_[at_] == '"') {
    read_quoted();
  } else {
    read_plain();
  }
  if (is_missing_word(row_.current())) row_.set_missing();
}

void CsvRecords::read_plain() {
  const std::size_t end = std::min(rest_.find(delimiter_, at_), rest_.size());
  const std::string_view text = trimmed(rest_.substr(at_, end - at_));
  if (const std::size_t cr = text.find('\r'); cr != std::string_view::npos) {
    lines_.fail(lines_.line(), at_ + cr + 1, "a carriage return inside a line", "end lines with LF or CR LF");
  }
  row_.append(text);
  at_ = end;
}

void CsvRecords::read_quoted() {
  const std::int64_t open_line = lines_.line();
  const std::size_t open_column = ++at_;
  for (;;) {
    const std::size_t quote = rest_.find('"', at_);
    row_.append(rest_.substr(at_, quote - at_));
    if (quote != std::string_view::npos) {
      at_ = quote + 1;
      if (at_ == rest_.size() || rest_[at_] != '"') break;
      row_.append('"');
      ++at_;
      continue;
    }
    row_.append('\n');
    if (row_.bytes() > lines_.limits().line || !lines_.next(rest_)) {
      lines_.fail(open_line, open_column, "this quote is never closed", "a quote inside quotes is written twice: \"\"");
    }
    at_ = 0;
  }
  while (at_ < rest_.size() && is_blank(rest_[at_]) && rest_[at_] != delimiter_) ++at_;
  if (at_ < rest_.size() && rest_[at_] != delimiter_) {
    lines_.fail(lines_.line(), at_ + 1,
                fmt::format("found \"{}\" after the closing quote, expected the next cell", rest_[at_]),
                "a quote inside quotes is written twice: \"\"");
  }
}

namespace {

class CsvReader final : public TableReader {
 public:
  CsvReader(const std::filesystem::path& path, const TextLimits& limits)
      : layout_(sniff_csv(path, limits)), records_(path, layout_.delimiter, limits) {
    for (const std::string& name : layout_.names) columns_.push_back({name, Declared::nothing, {}});
    check_names(columns_, records_.lines(), layout_.first_line);
    if (layout_.summary && !layout_.summary->classes.empty()) {
      columns_.back().declared = Declared::nominal;
      columns_.back().values = layout_.summary->classes;
    }
    for (int skip = (layout_.summary ? 1 : 0) + (layout_.header ? 1 : 0); skip > 0; --skip) records_.next();
  }

  bool next(std::span<const Cell>& row) override {
    if (!records_.next()) {
      check_rows();
      return false;
    }
    ++rows_;
    cells_.assign(records_.cells().begin(), records_.cells().end());
    if (cells_.size() != columns_.size()) {
      records_.lines().fail(
          records_.line(), 0,
          fmt::format("found {} cells, expected {} as on line {}", cells_.size(), columns_.size(), layout_.first_line),
          fmt::format("cells are separated by {}; those that hold it need quotes", delimiter()));
    }
    if (layout_.summary && !layout_.summary->classes.empty()) name_class(cells_.back());
    row = cells_;
    return true;
  }

  std::string digest() override { return records_.lines().digest(); }

  void fail(const Cell& cell, const std::string& message, const std::string& hint) const override {
    records_.lines().fail(cell.line, cell.column, message, hint);
  }

 private:
  std::string delimiter() const {
    return layout_.delimiter == '\t' ? "tabs" : fmt::format("\"{}\"", layout_.delimiter);
  }

  void name_class(Cell& cell) const {
    if (cell.missing) return;
    const std::vector<std::string>& classes = layout_.summary->classes;
    const double number = parse_number(cell.text).value_or(-1);
    if (number < 0 || number >= static_cast<double>(classes.size()) || number != std::floor(number)) {
      fail(cell, fmt::format("found the class \"{}\", expected 0 to {}", cell.text, classes.size() - 1),
           fmt::format("the first line of the file names {} classes", classes.size()));
    }
    cell.text = classes[static_cast<std::size_t>(number)];
  }

  void check_rows() const {
    if (!layout_.summary || layout_.summary->rows == rows_) return;
    records_.lines().fail(1, 1, fmt::format("the first line announces {} rows, found {}", layout_.summary->rows, rows_),
                          "the file is not complete; if its first line is a row, put a header before it");
  }

  CsvLayout layout_;
  CsvRecords records_;
  std::vector<Cell> cells_;
  std::int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<TableReader> open_csv(const std::filesystem::path& path, const TextLimits& limits) {
  return std::make_unique<CsvReader>(path, limits);
}

}  // namespace trivet
