#include "runtime/data/table_preparation.h"

#include <climits>

#include "trivet/base/error.h"

namespace trivet {
namespace {

using nlohmann::json;

json column_json(const PreparedColumn& column) {
  if (column.storage == Storage::number) {
    return {{"name", column.name},
            {"type", "number"},
            {"mean", column.mean},
            {"stddev", column.stddev},
            {"fill", column.fill}};
  }
  return {{"name", column.name}, {"type", "category"}, {"values", column.values}, {"missing", column.missing}};
}

[[noreturn]] void damaged(const std::string& what) {
  throw Error(ErrorCode::checkpoint, fmt::format("the preparation of the table: {}", what),
              "the checkpoint is damaged; choose another one");
}

bool is_scale(double mean, double stddev) { return std::isfinite(mean) && std::isfinite(stddev) && stddev > 0; }

PreparedColumn column_from(const json& from) {
  PreparedColumn column;
  from.at("name").get_to(column.name);
  const std::string type = from.at("type");
  if (type == "number") {
    from.at("mean").get_to(column.mean);
    from.at("stddev").get_to(column.stddev);
    from.at("fill").get_to(column.fill);
    if (is_scale(column.mean, column.stddev) && std::isfinite(column.fill)) return column;
  } else if (type == "category") {
    column.storage = Storage::category;
    from.at("values").get_to(column.values);
    from.at("missing").get_to(column.missing);
    if (column.values.size() <= std::size_t{1} << 24) return column;
  }
  damaged(fmt::format("column \"{}\" is unusable", column.name));
}

TablePreparation read(const json& values) {
  TablePreparation p;
  for (const json& column : values.at("columns")) p.columns.push_back(column_from(column));
  for (const json& ignored : values.at("ignored")) p.ignored.push_back({ignored.at("name"), ignored.at("reason")});
  values.at("warnings").get_to(p.warnings);
  p.one_hot = values.at("categories").get<std::string>() == "one_hot";
  p.refuse_missing = values.at("missing").get<std::string>() == "error";
  values.at("target_column").get_to(p.target_column);
  values.at("target").get_to(p.target);
  if (p.columns.empty()) damaged("it has no columns");
  if (p.target.kind == TargetKind::none) damaged("it has no target");
  if (p.target.kind == TargetKind::number &&
      (p.target.mean.size() != 1 || !is_scale(p.target.mean[0], p.target.stddev[0]))) {
    damaged("its target is unusable");
  }
  return p;
}

}  // namespace

std::int64_t TablePreparation::numbers() const {
  return std::count_if(columns.begin(), columns.end(),
                       [](const PreparedColumn& c) { return c.storage == Storage::number; });
}

Preparation to_preparation(const TablePreparation& p) {
  json columns = json::array(), ignored = json::array();
  for (const PreparedColumn& column : p.columns) columns.push_back(column_json(column));
  for (const TablePreparation::Ignored& i : p.ignored) ignored.push_back({{"name", i.name}, {"reason", i.reason}});
  return {"table",
          {{"columns", columns},
           {"ignored", ignored},
           {"warnings", p.warnings},
           {"categories", p.one_hot ? "one_hot" : "indices"},
           {"missing", p.refuse_missing ? "error" : "impute"},
           {"target_column", p.target_column},
           {"target", p.target}}};
}

TablePreparation table_preparation(const Preparation& preparation, const std::string& file) {
  if (preparation.kind != "table") {
    throw Error(ErrorCode::data,
                fmt::format("{} is a table, the model was trained on data of the kind \"{}\"", file, preparation.kind),
                "give data of the form that the model was trained on");
  }
  try {
    return read(preparation.values);
  } catch (const json::exception& e) {
    damaged(e.what());
  }
}

void fail_at_row(const TableStore& table, const std::string& file, std::int64_t row, const std::string& message,
                 const std::string& hint) {
  const std::int64_t line = std::min<std::int64_t>(table.line(row), INT_MAX);
  throw Error(ErrorCode::data, SourcePlace{file, static_cast<int>(line), 0}, fmt::format("sample {}: {}", row, message),
              hint);
}

}  // namespace trivet
