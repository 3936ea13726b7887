// Aligned columns for people. Programs read the JSON that the same command writes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace trivet {

// Columns that UTF-8 `text` takes on a terminal: combining marks take none, East Asian wide characters two (Unicode
// Standard Annex 11, main blocks). A byte that is not UTF-8 counts as one column.
std::size_t display_width(std::string_view text);

// The longest prefix of `text` that takes at most `columns` columns, never cut inside a character.
std::string_view fit_width(std::string_view text, std::size_t columns);

// `text` with each control character replaced by a space, so that a message from a file or a worker can neither move
// the cursor nor change the terminal.
std::string printable(std::string_view text);

class Table {
 public:
  explicit Table(std::vector<std::string> header);

  // Throws Error(internal) unless there is one cell for each column of the header.
  void add_row(std::vector<std::string> cells);

  std::size_t rows() const { return rows_.size(); }

  // The header and every row, each ended by a newline, with two spaces between columns and none at a line's end. A
  // column is right-aligned if each of its cells is a number ("12", "-1.5", "3 %", "1.5 MiB"), empty or "-".
  std::string str() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace trivet
