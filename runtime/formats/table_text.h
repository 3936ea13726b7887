// What the readers of tables share.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/formats/table_reader.h"

namespace trivet {

inline bool is_blank(char c) { return c == ' ' || c == '\t'; }
std::string_view trimmed(std::string_view text);

// The cells of a row under construction. Their texts lie in one buffer, and views of it are made when it is complete.
class RowText {
 public:
  void clear();
  // Begins a cell, whose text is what is appended until the next one begins.
  void begin(std::int64_t line, std::size_t column);
  void append(std::string_view text) { text_.append(text); }
  void append(char c) { text_.push_back(c); }
  void set_literal() { cells_.back().literal = true; }
  void set_missing() { cells_.back().missing = true; }
  std::string_view current() const { return std::string_view(text_).substr(starts_.back()); }
  std::size_t size() const { return cells_.size(); }
  std::size_t bytes() const { return text_.size(); }
  std::vector<Cell>& finish();

 private:
  std::string text_;
  std::vector<std::size_t> starts_;
  std::vector<Cell> cells_;
};

// Error(data) if two columns have the same name, or one of them none.
void check_names(const std::vector<TableColumn>& columns, const LineReader& lines, std::int64_t line);

}  // namespace trivet
