// What training has learnt about a table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/table_store.h"
#include "trivet/data/dataset.h"

namespace trivet {

// A column that the model is fed with.
struct PreparedColumn {
  std::string name;
  Storage storage = Storage::number;
  // Number: x = (value - mean) / stddev; a missing value counts as `fill`, the mean of those that are there.
  double mean = 0, stddev = 1, fill = 0;
  // Category: 0 is what training did not know; then, if it met missing values, 1 is missing; then these.
  std::vector<std::string> values;
  bool missing = false;

  std::int64_t sizes() const { return 1 + (missing ? 1 : 0) + static_cast<std::int64_t>(values.size()); }
  std::int32_t first_value() const { return missing ? 2 : 1; }
};

struct TablePreparation {
  std::vector<PreparedColumn> columns;  // in the file's order
  struct Ignored {
    std::string name, reason;
  };
  std::vector<Ignored> ignored;
  std::vector<std::string> warnings;
  bool one_hot = true;  // categories are columns of x; else indices in a field of their own
  bool refuse_missing = false;
  std::string target_column;
  DataTarget target;

  std::int64_t numbers() const;
  std::int64_t categories() const { return static_cast<std::int64_t>(columns.size()) - numbers(); }
};

// {"columns": [{"name", "type": "number", "mean", "stddev", "fill"} or {"name", "type": "category", "values",
// "missing"}], "ignored": [{"name", "reason"}], "warnings": [...], "categories": "one_hot" or "indices", "missing":
// "impute" or "error", "target_column", "target"}
Preparation to_preparation(const TablePreparation& preparation);

// Error(data) if it is of another kind than a table; Error(checkpoint) if it is damaged. `file` is for the former.
TablePreparation table_preparation(const Preparation& preparation, const std::string& file);

// From the training samples alone, but for the names of the classes: they are those of the whole table.
// Error(data) with the line for what cannot be used.
TablePreparation fit_table(const TableStore& table, const std::string& file, std::span<const std::int64_t> train,
                           const DataConfig& config);

// The class of each value of a category column, in the order of its codes; -1: none of the classes. Where all classes
// are numbers, "1.0" is the class "1".
std::vector<std::int32_t> class_of_values(const std::vector<std::string>& values,
                                          const std::vector<std::string>& classes);

// `table` and `file` must outlive it, the former by sharing it.
std::unique_ptr<Dataset> table_dataset(std::shared_ptr<const TableStore> table, const std::string& file,
                                       TablePreparation preparation, bool with_target);

// Error(data) at row `row` of the file.
[[noreturn]] void fail_at_row(const TableStore& table, const std::string& file, std::int64_t row,
                              const std::string& message, const std::string& hint);

}  // namespace trivet
