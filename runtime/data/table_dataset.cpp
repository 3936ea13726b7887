// Samples of a table, prepared for the model.
#include <limits>

#include "runtime/data/table_preparation.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

// A category as it is read: the index of each code, and where it goes.
struct Category {
  std::size_t offset = 0;           // in a stored row
  std::vector<std::int32_t> index;  // of each code
  std::int32_t missing = 0;         // index of a missing value
  std::int64_t size = 0;            // indices are below this
  std::size_t at = 0;               // one-hot: of index 0 in x; else in "categories"
};

struct Number {
  std::size_t offset = 0;
  const PreparedColumn* column = nullptr;
};

class TableDataset final : public Dataset {
 public:
  TableDataset(std::shared_ptr<const TableStore> table, const std::string& file, TablePreparation preparation,
               bool with_target)
      : table_(std::move(table)), file_(file), p_(std::move(preparation)) {
    std::int64_t width = p_.numbers();
    for (const PreparedColumn& column : p_.columns) add(column, width);
    if (width > 0) inputs_.push_back({"x", DType::f32, {width}});
    if (!p_.one_hot && !categories_.empty()) {
      inputs_.push_back({"categories", DType::i32, {static_cast<std::int64_t>(categories_.size())}});
    }
    width_ = static_cast<std::size_t>(width);
    if (with_target) add_target();
  }

  std::int64_t count() const override { return table_->count(); }
  const std::vector<Field>& inputs() const override { return inputs_; }
  const std::optional<Field>& target_field() const override { return target_field_; }
  const DataTarget& target() const override { return target_; }

  std::vector<std::int64_t> category_sizes(std::size_t input) const override {
    std::vector<std::int64_t> sizes;
    if (inputs_[input].dtype != DType::i32) return sizes;
    for (const Category& category : categories_) sizes.push_back(category.size);
    return sizes;
  }

  void read(std::int64_t sample, const SampleDraw&, std::span<std::byte* const> inputs, std::byte* y) const override {
    check_index(sample);
    const std::byte* row = table_->row(sample);
    std::size_t next = 0;
    if (width_ > 0) read_x(sample, row, reinterpret_cast<float*>(inputs[next++]));
    if (!p_.one_hot && !categories_.empty()) {
      auto* out = reinterpret_cast<std::int32_t*>(inputs[next]);
      for (const Category& category : categories_) out[category.at] = index(sample, row, category);
    }
    if (y) read_target(sample, y);
  }

  std::int64_t label(std::int64_t sample) const override {
    if (target_.kind != TargetKind::label) {
      throw Error(ErrorCode::internal, "a label of a table without labels was asked for");
    }
    check_index(sample);
    return classes_[static_cast<std::size_t>(table_->code(sample, target_index_))];
  }

  ShownSample show(std::int64_t sample) const override {
    check_index(sample);
    ShownSample shown;
    for (const PreparedColumn& column : p_.columns) {
      const std::size_t i = *table_->find(column.name);
      std::string text;
      if (column.storage == Storage::number) {
        const double value = table_->number(sample, i);
        if (!std::isnan(value)) text = fmt::format("{}", value);
      } else if (const std::int32_t code = table_->code(sample, i); code >= 0) {
        text = table_->columns()[i].values[static_cast<std::size_t>(code)];
      }
      shown.columns.emplace_back(column.name, std::move(text));
    }
    return shown;
  }

 private:
  void add(const PreparedColumn& column, std::int64_t& width) {
    const std::size_t i = *table_->find(column.name);
    if (column.storage == Storage::number) {
      numbers_.push_back({table_->offset(i), &column});
      return;
    }
    Category category{table_->offset(i), {}, column.missing ? 1 : 0, column.sizes(), categories_.size()};
    std::map<std::string_view, std::int32_t> known;
    for (const std::string& value : column.values) {
      known.emplace(value, column.first_value() + static_cast<std::int32_t>(known.size()));
    }
    for (const std::string& value : table_->columns()[i].values) {
      const auto at = known.find(value);
      category.index.push_back(at == known.end() ? 0 : at->second);
    }
    if (p_.one_hot) {
      category.at = static_cast<std::size_t>(width);
      width += category.size;
    }
    categories_.push_back(std::move(category));
    category_names_.push_back(&column.name);
  }

  void add_target() {
    target_ = p_.target;
    target_index_ = *table_->find(p_.target_column);
    const ColumnPlan& column = table_->columns()[target_index_];
    const bool label = target_.kind == TargetKind::label;
    if (label) classes_ = class_of_values(column.values, target_.class_names);
    target_field_ = label ? Field{"y", DType::i32, {}} : Field{"y", DType::f32, {1}};
    for (std::int64_t row = 0; row < table_->count(); ++row) {
      const std::int32_t code = label ? table_->code(row, target_index_) : 0;
      if (label ? code == kMissingCode : std::isnan(table_->number(row, target_index_))) {
        fail_at_row(*table_, file_, row, fmt::format("the target \"{}\" has no value", column.name),
                    "remove rows without a target");
      }
      if (label && (code < 0 || classes_[static_cast<std::size_t>(code)] < 0)) {
        const std::string found = code < 0 ? std::string("a value") : column.values[static_cast<std::size_t>(code)];
        fail_at_row(*table_, file_, row,
                    fmt::format("the target \"{}\" is \"{}\", which is none of the {} classes of the training data",
                                column.name, found, target_.classes),
                    "train with data that have all classes");
      }
    }
  }

  void check_index(std::int64_t sample) const {
    if (sample >= 0 && sample < table_->count()) return;
    throw Error(ErrorCode::data, fmt::format("sample {} is out of range: {} has {}", sample, file_, table_->count()));
  }

  float scaled(std::int64_t sample, double value, double mean, double stddev, const std::string& name) const {
    const auto result = static_cast<float>((value - mean) / stddev);
    if (std::isfinite(result)) return result;
    fail_at_row(*table_, file_, sample, fmt::format("{} in column \"{}\" is too large for a 32-bit float", value, name),
                "is it an error? With data.normalize numbers are scaled to the deviation of the training samples");
  }

  void read_x(std::int64_t sample, const std::byte* row, float* x) const {
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      const PreparedColumn& column = *numbers_[i].column;
      double value = TableStore::read<double>(row + numbers_[i].offset);
      if (std::isnan(value)) {
        if (p_.refuse_missing) refuse_missing(sample, column.name);
        value = column.fill;
      }
      x[i] = scaled(sample, value, column.mean, column.stddev, column.name);
    }
    if (!p_.one_hot) return;
    std::fill(x + numbers_.size(), x + width_, 0.0f);
    for (const Category& category : categories_) {
      x[category.at + static_cast<std::size_t>(index(sample, row, category))] = 1.0f;
    }
  }

  std::int32_t index(std::int64_t sample, const std::byte* row, const Category& category) const {
    const auto code = TableStore::read<std::int32_t>(row + category.offset);
    if (code >= 0) return category.index[static_cast<std::size_t>(code)];
    if (code == kOtherCode) return 0;
    if (p_.refuse_missing) {
      refuse_missing(sample, *category_names_[static_cast<std::size_t>(&category - categories_.data())]);
    }
    return category.missing;
  }

  [[noreturn]] void refuse_missing(std::int64_t sample, const std::string& name) const {
    fail_at_row(*table_, file_, sample, fmt::format("column \"{}\" has no value", name),
                "the model was trained with data.table.missing: error; fill the value in");
  }

  void read_target(std::int64_t sample, std::byte* y) const {
    if (!target_field_) throw Error(ErrorCode::internal, "the target of a table without one was asked for");
    if (target_.kind == TargetKind::label) {
      const std::int32_t value = classes_[static_cast<std::size_t>(table_->code(sample, target_index_))];
      std::memcpy(y, &value, sizeof(value));
    } else {
      const float value =
          scaled(sample, table_->number(sample, target_index_), target_.mean[0], target_.stddev[0], p_.target_column);
      std::memcpy(y, &value, sizeof(value));
    }
  }

  const std::shared_ptr<const TableStore> table_;
  const std::string& file_;
  const TablePreparation p_;
  std::vector<Field> inputs_;
  std::size_t width_ = 0;  // elements of x
  std::vector<Number> numbers_;
  std::vector<Category> categories_;
  std::vector<const std::string*> category_names_;
  std::optional<Field> target_field_;
  DataTarget target_;
  std::size_t target_index_ = 0;
  std::vector<std::int32_t> classes_;  // of each code of the target
};

}  // namespace

std::unique_ptr<Dataset> table_dataset(std::shared_ptr<const TableStore> table, const std::string& file,
                                       TablePreparation preparation, bool with_target) {
  return std::make_unique<TableDataset>(std::move(table), file, std::move(preparation), with_target);
}

}  // namespace trivet
