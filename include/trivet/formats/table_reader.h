// Tables in files of text, row by row: CSV and its relatives, ARFF, JSON lines. Plain or gzip, told apart by content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/formats/line_reader.h"

namespace trivet {

// What a file declares about a column; CSV and JSON lines declare nothing.
enum class Declared { nothing, number, nominal, text, date };

struct TableColumn {
  std::string name;
  Declared declared = Declared::nothing;
  std::vector<std::string> values;  // nominal: in the file's order, each once
};

struct Cell {
  std::string_view text;   // valid until the next row
  bool missing = false;    // whatever `text` says
  bool literal = false;    // text by its form, even if it looks like a number: a JSON string, a quoted ARFF value
  std::int64_t line = 0;   // where it begins
  std::size_t column = 0;  // in bytes from 1; 0: unknown
};

class TableReader {
 public:
  virtual ~TableReader() = default;

  // Names are unique and not empty. JSON lines: those seen so far, so that it grows.
  const std::vector<TableColumn>& columns() const { return columns_; }

  // The next row: a cell for each column, valid until the next call; false at the end.
  // Error(data) with file, line and column.
  virtual bool next(std::span<const Cell>& row) = 0;

  // As LineReader's, of the whole file once next() has returned false.
  virtual std::string digest() = 0;

  // Error(data) at a cell of this file.
  [[noreturn]] virtual void fail(const Cell& cell, const std::string& message, const std::string& hint) const = 0;

 protected:
  std::vector<TableColumn> columns_;
};

// RFC 4180: cells in quotes may hold the delimiter, line ends and doubled quotes. Beyond it: the delimiter is the one
// of tab, semicolon, bar and comma that gives every line the same number of cells; blanks around a cell do not count;
// empty lines are left out. The first line is a header if none of its cells is a number, and either a column has
// numbers below it, or its cells differ from each other and from all below them (of the first 64 rows). Columns without
// a name are called column_1, column_2, ... A first line "rows,columns,class,class,..." as in scikit-learn's files
// names the classes of the last column, whose cells are then 0, 1, ... A cell is missing if it is empty, ?, NA, N/A,
// NaN or null, in capitals or not.
std::unique_ptr<TableReader> open_csv(const std::filesystem::path& path, const TextLimits& limits = {});

// ARFF of Weka (https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/): numeric, real, integer,
// nominal, string and date attributes, dense and sparse rows, quotes with escapes, comments. ? without quotes is a
// missing value. What a sparse row leaves out is 0 or the attribute's first nominal value. Relational attributes and
// weights of instances are refused.
std::unique_ptr<TableReader> open_arff(const std::filesystem::path& path, const TextLimits& limits = {});

// One JSON object a line, of texts, numbers, flags and nulls; objects and lists inside are refused. Columns in the
// order in which the keys are first seen; null and keys left out are missing values.
std::unique_ptr<TableReader> open_json_lines(const std::filesystem::path& path, const TextLimits& limits = {});

// The number that the whole text spells, with a sign, a fraction or an exponent; "inf" and numbers beyond f64 are
// infinite. Nothing if it is no number, or NaN.
std::optional<double> parse_number(std::string_view text);

// Whether a cell of this text is missing, by the rule of open_csv.
bool is_missing_word(std::string_view text);

}  // namespace trivet
