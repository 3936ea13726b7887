// Records of a file of cells with a delimiter, and what can be told from the first of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/formats/table_text.h"

namespace trivet {

class CsvRecords {
 public:
  CsvRecords(const std::filesystem::path& path, char delimiter, const TextLimits& limits)
      : lines_(path, limits), delimiter_(delimiter) {}

  // The next record that is not an empty line; false at the end.
  bool next();
  std::span<const Cell> cells() const { return *cells_; }  // valid until next()
  std::int64_t line() const { return first_line_; }        // on which the record begins
  LineReader& lines() { return lines_; }
  const LineReader& lines() const { return lines_; }

 private:
  void read_cell();
  void read_quoted();
  void read_plain();

  LineReader lines_;
  char delimiter_;
  std::string_view rest_;  // the current line
  std::size_t at_ = 0;
  std::int64_t first_line_ = 0;
  RowText row_;
  std::vector<Cell>* cells_ = nullptr;
};

// The first line of scikit-learn's files: numbers of rows and columns, and the names of the classes.
struct CsvSummary {
  std::int64_t rows = 0;
  std::vector<std::string> classes;  // empty: the target is a number
};

struct CsvLayout {
  char delimiter = ',';
  std::optional<CsvSummary> summary;
  bool header = false;
  std::int64_t first_line = 1;     // of the header, or else of the first row
  std::vector<std::string> names;  // a name for each column
};

// From the first 64 records. Error(data) for what LineReader refuses, and for names that are not unique.
CsvLayout sniff_csv(const std::filesystem::path& path, const TextLimits& limits);

}  // namespace trivet
