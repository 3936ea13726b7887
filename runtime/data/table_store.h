// A table in compact rows: a number takes 8 bytes, a category 4. In memory, or beyond a limit in a mapped temporary
// file; a row lies in one piece, so that reading a sample at random touches one page.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/data/config.h"
#include "trivet/formats/mapped_file.h"
#include "trivet/formats/table_reader.h"

namespace trivet {

enum class TableForm { csv, arff, json_lines };

struct TableFile {
  std::filesystem::path path;
  TableForm form = TableForm::csv;
  std::size_t memory_limit = data_memory_limit();

  std::unique_ptr<TableReader> open() const;
};

enum class Storage { none, number, category };

enum class Unlisted { add, refuse, other };  // what becomes of a value that is not in the list

inline constexpr std::int32_t kMissingCode = -1;
inline constexpr std::int32_t kOtherCode = -2;

// How a column is to be stored.
struct ColumnPlan {
  std::string name;
  Storage storage = Storage::none;
  std::string reason;               // storage none: why
  bool guessed = false;             // from some rows only: what contradicts it is no error
  bool required = false;            // if it cannot be stored, that is an error
  bool declared = false;            // the values are the file's own list, in its order
  std::vector<std::string> values;  // category: those that are known
  Unlisted unlisted = Unlisted::add;
};

struct TablePlan {
  std::vector<ColumnPlan> columns;
  bool complete = true;  // all rows were looked at, so that there are no further columns
};

// From the file's declarations, the configuration, and the values of the first `rows` rows, or of all without `rows`.
// Error(data) for a column in the configuration that the file does not have.
TablePlan plan_columns(const TableFile& file, const DataConfig& config, std::optional<std::int64_t> rows);

// Index in `plan` of the column to predict: the one that is named, else the last. Nothing if there is none of that
// name.
std::optional<std::size_t> find_target(const std::vector<ColumnPlan>& plan, const TableConfig& config);

class TableStore {
 public:
  // Nothing if a guess of the plan was wrong. Error(data) with file, line and column for a cell that does not fit its
  // column; Error(data) for a table without rows or columns; Error(io), Error(memory).
  static std::shared_ptr<const TableStore> load(const TableFile& file, TablePlan plan);

  std::int64_t count() const { return count_; }
  // As it was stored: `values` has all values in the order of their codes. What could not be stored has become none.
  const std::vector<ColumnPlan>& columns() const { return columns_; }
  std::optional<std::size_t> find(std::string_view name) const;

  const std::byte* row(std::int64_t i) const { return bytes_.bytes().data() + static_cast<std::size_t>(i) * width_; }
  std::size_t offset(std::size_t column) const { return offsets_[column]; }
  // NaN: missing. All others are finite.
  double number(std::int64_t i, std::size_t column) const { return read<double>(row(i) + offsets_[column]); }
  std::int32_t code(std::int64_t i, std::size_t column) const { return read<std::int32_t>(row(i) + offsets_[column]); }

  template <class T>
  static T read(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
  }

  std::int64_t line(std::int64_t i) const;  // of the file, on which row i begins
  std::size_t resident_bytes() const;
  bool in_file() const { return bytes_.in_file(); }
  const std::string& digest() const { return digest_; }

 private:
  friend class TableLoader;
  explicit TableStore(std::size_t memory_limit) : bytes_(memory_limit) {}

  std::vector<ColumnPlan> columns_;
  std::vector<std::size_t> offsets_;
  std::size_t width_ = 0;
  std::int64_t count_ = 0;
  SpillBuffer bytes_;
  struct Shift {
    std::int64_t row;     // from here on
    std::int64_t offset;  // line - row
  };
  std::vector<Shift> shifts_;
  std::string digest_;
};

}  // namespace trivet
