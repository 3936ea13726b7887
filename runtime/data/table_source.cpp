// Tables as a source of samples.
#include "runtime/data/sources.h"
#include "runtime/data/table_preparation.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

constexpr std::int64_t kRowsOfGuess = 1000;  // from which column types are guessed, before all rows are looked at

std::shared_ptr<const TableStore> load(const TableFile& file, const DataConfig& config) {
  std::shared_ptr<const TableStore> table = TableStore::load(file, plan_columns(file, config, kRowsOfGuess));
  if (!table) table = TableStore::load(file, plan_columns(file, config, std::nullopt));
  if (!table) throw Error(ErrorCode::data, fmt::format("{} has changed while it was read", file.path.string()));
  return table;
}

class TableSource final : public DataSource {
 public:
  TableSource(const TableFile& file, const DataConfig& config)
      : file_(file), name_(file.path.string()), table_(load(file, config)) {}

  std::int64_t count() const override { return table_->count(); }
  std::string digest() const override { return table_->digest(); }
  std::size_t resident_bytes() const override { return table_->resident_bytes(); }

  Preparation fit(std::span<const std::int64_t> train, const DataConfig& config) const override {
    if (config.augment != AugmentConfig{}) {
      throw Error(ErrorCode::data, fmt::format("{} is a table, and data.augment is for images", name_),
                  "leave data.augment out");
    }
    return to_preparation(fit_table(*table_, name_, train, config));
  }

  bool has_target(const Preparation& preparation) const override {
    return table_->find(table_preparation(preparation, name_).target_column).has_value();
  }

  std::unique_ptr<Dataset> prepare(const Preparation& preparation, bool with_target) const override {
    TablePreparation p = table_preparation(preparation, name_);
    std::shared_ptr<const TableStore> table = stored_for(p, with_target);
    return table_dataset(std::move(table), name_, std::move(p), with_target);
  }

 private:
  std::size_t column(const std::string& name, const char* what) const {
    if (const std::optional<std::size_t> i = table_->find(name)) return *i;
    std::vector<std::string> names;
    for (const ColumnPlan& c : table_->columns()) names.push_back(c.name);
    const std::string meant = nearest(name, names);
    throw Error(ErrorCode::data, fmt::format("{} has no column \"{}\", {}", name_, name, what),
                meant.empty() ? fmt::format("its columns are {}", join(names, ", "))
                              : fmt::format("its column \"{}\" has a similar name", meant));
  }

  // The table with every column stored as the preparation needs it. What this file alone looks like may differ: the
  // digits of a category look like numbers, and a column without values like anything.
  std::shared_ptr<const TableStore> stored_for(const TablePreparation& p, bool with_target) const {
    std::vector<ColumnPlan> plan = table_->columns();
    bool same = true;
    const auto need = [&](std::size_t i, Storage storage, const std::vector<std::string>& values, Unlisted unlisted) {
      if (plan[i].storage == storage) return;
      same = false;
      plan[i] = ColumnPlan{plan[i].name, storage, {}, false, true, false, values, unlisted};
    };
    for (const PreparedColumn& c : p.columns) {
      need(column(c.name, "which the model was trained with"), c.storage, c.values, Unlisted::other);
    }
    if (with_target) {
      const bool label = p.target.kind == TargetKind::label;
      need(column(p.target_column, "the target"), label ? Storage::category : Storage::number, {}, Unlisted::add);
    }
    if (same) return table_;
    for (ColumnPlan& c : plan) {
      if (c.storage == Storage::category && c.unlisted == Unlisted::add) c.values.clear();
    }
    std::shared_ptr<const TableStore> table = TableStore::load(file_, {std::move(plan), true});
    if (!table || table->digest() != table_->digest()) {
      throw Error(ErrorCode::data, fmt::format("{} has changed since it was opened", name_), "start again");
    }
    return table;
  }

  const TableFile file_;
  const std::string name_;
  const std::shared_ptr<const TableStore> table_;
};

}  // namespace

std::unique_ptr<DataSource> open_table(const TableFile& file, const DataConfig& config) {
  return std::make_unique<TableSource>(file, config);
}

}  // namespace trivet
