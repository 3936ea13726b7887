// What the columns of a table are: numbers, categories, or nothing to learn from.
#include "runtime/data/table_store.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

struct Scan {
  std::vector<TableColumn> columns;
  std::vector<bool> has_text;  // some cell is neither missing nor a number
  bool complete = false;       // all rows were seen
};

Scan scan(const TableFile& file, std::optional<std::int64_t> rows) {
  const std::unique_ptr<TableReader> reader = file.open();
  Scan result;
  std::span<const Cell> cells;
  std::int64_t seen = 0;
  while (!rows || seen < *rows) {
    if (!reader->next(cells)) {
      result.complete = true;
      break;
    }
    ++seen;
    result.has_text.resize(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (result.has_text[i] || cells[i].missing) continue;
      result.has_text[i] = cells[i].literal || !parse_number(cells[i].text);
    }
  }
  result.columns = reader->columns();
  result.has_text.resize(result.columns.size());
  return result;
}

void plan_by_declaration(const TableColumn& column, bool has_text, bool complete, ColumnPlan& plan) {
  switch (column.declared) {
    case Declared::number:
      plan.storage = Storage::number;
      return;
    case Declared::nominal:
      plan.storage = Storage::category;
      plan.declared = true;
      plan.values = column.values;
      plan.unlisted = Unlisted::refuse;
      return;
    case Declared::text:
      plan.storage = Storage::category;
      return;
    case Declared::date:
      plan.reason = "it is a date";
      return;
    case Declared::nothing:
      break;
  }
  plan.storage = has_text ? Storage::category : Storage::number;
  plan.guessed = !complete;
}

void plan_as(Storage storage, ColumnPlan& plan) {
  if (plan.storage == storage) {
    plan.guessed = false;
    plan.required = true;
    return;
  }
  plan = ColumnPlan{plan.name, storage, {}, false, true, false, {}, Unlisted::add};
}

void apply_types(const TableFile& file, const TableConfig& config, bool complete, std::vector<ColumnPlan>& plan) {
  for (const auto& [name, type] : config.columns) {
    const auto at =
        std::find_if(plan.begin(), plan.end(), [&known = name](const ColumnPlan& c) { return c.name == known; });
    if (at == plan.end()) {
      // Further down, JSON lines may have columns that the first rows do not have.
      if (!complete && file.form == TableForm::json_lines) continue;
      std::vector<std::string> names;
      for (const ColumnPlan& column : plan) names.push_back(column.name);
      const std::string meant = nearest(name, names);
      throw Error(ErrorCode::data,
                  fmt::format("{} has no column \"{}\", which data.table.columns names", file.path.string(), name),
                  meant.empty() ? fmt::format("its columns are {}", join(names, ", "))
                                : fmt::format("was \"{}\" meant?", meant));
    }
    if (type == "number") {
      plan_as(Storage::number, *at);
    } else if (type == "category") {
      plan_as(Storage::category, *at);
    } else if (type == "ignore") {
      plan_as(Storage::none, *at);
      at->reason = "data.table.columns says so";
    } else {
      throw Error(ErrorCode::data, fmt::format("column \"{}\" has the unknown type \"{}\"", name, type),
                  "the types are number, category and ignore");
    }
  }
}

}  // namespace

std::optional<std::size_t> find_target(const std::vector<ColumnPlan>& plan, const TableConfig& config) {
  for (std::size_t i = 0; i < plan.size() && !config.target.empty(); ++i) {
    if (plan[i].name == config.target) return i;
  }
  if (!config.target.empty() || plan.empty()) return {};
  return plan.size() - 1;
}

TablePlan plan_columns(const TableFile& file, const DataConfig& config, std::optional<std::int64_t> rows) {
  const Scan seen = scan(file, rows);
  std::vector<ColumnPlan> plan;
  for (std::size_t i = 0; i < seen.columns.size(); ++i) {
    ColumnPlan& column = plan.emplace_back();
    column.name = seen.columns[i].name;
    plan_by_declaration(seen.columns[i], seen.has_text[i], seen.complete, column);
  }
  apply_types(file, config.table, seen.complete, plan);
  const std::optional<std::size_t> target = find_target(plan, config.table);
  if (target && config.target == "label") plan_as(Storage::category, plan[*target]);
  if (target && config.target == "number") plan_as(Storage::number, plan[*target]);
  return {std::move(plan), seen.complete};
}

}  // namespace trivet
