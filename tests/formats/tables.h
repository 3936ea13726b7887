// What a reader of tables makes of a file, as text that tests can compare.
#pragma once

#include <string>
#include <vector>

#include "tests/formats/test_files.h"
#include "trivet/formats/table_reader.h"

namespace trivet::testing {

using Rows = std::vector<std::vector<std::string>>;

struct ReadTable {
  std::vector<std::string> names;
  Rows rows;  // "-": missing; 'text' in quotes: literal
};

inline ReadTable read_all(TableReader& reader) {
  ReadTable table;
  std::span<const Cell> cells;
  while (reader.next(cells)) {
    auto& row = table.rows.emplace_back();
    for (const Cell& cell : cells) {
      const std::string text(cell.text);
      row.push_back(cell.missing ? "-" : cell.literal ? "'" + text + "'" : text);
    }
  }
  for (const TableColumn& column : reader.columns()) table.names.push_back(column.name);
  return table;
}

// Every truncation and every changed byte of a good file is either read or refused with an error of ours.
template <class Open>
void expect_no_crash(const TempDir& dir, const std::string& good, Open open) {
  const auto survives = [&](const std::string& text) {
    try {
      open(dir.write("broken", text));
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::internal) << e.what();
    }
  };
  for (std::size_t size = 0; size < good.size(); ++size) survives(good.substr(0, size));
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char c : {'"', '\'', ',', '{', '}', '\n', '\0', '\xff', '9', '\\'}) {
      std::string changed = good;
      changed[i] = c;
      survives(changed);
    }
  }
}

}  // namespace trivet::testing
