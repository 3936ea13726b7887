// Learning from the training samples of a table.
#include <set>

#include "runtime/data/moments.h"
#include "runtime/data/table_preparation.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

constexpr std::int64_t kWidestInput = std::int64_t{1} << 20;  // elements of x
constexpr std::int64_t kFewestForIds = 20;                    // with fewer samples, texts that all differ say nothing

std::optional<std::string> number_name(const std::string& text) {
  const std::optional<double> value = parse_number(text);
  if (!value || !std::isfinite(*value)) return {};
  return fmt::format("{}", *value + 0.0);  // + 0.0: without the sign of -0
}

bool all_numbers(const std::vector<std::string>& texts) {
  return std::all_of(texts.begin(), texts.end(), [](const std::string& t) { return number_name(t).has_value(); });
}

class Fit {
 public:
  Fit(const TableStore& table, const std::string& file, std::span<const std::int64_t> train, const DataConfig& config)
      : table_(table), file_(file), train_(train), config_(config) {
    p_.one_hot = config.table.categories == "one_hot";
    p_.refuse_missing = config.table.missing == "error";
  }

  TablePreparation run() {
    if (train_.empty()) throw Error(ErrorCode::data, fmt::format("{}: there are no samples to learn from", file_));
    for (const std::int64_t row : train_) {
      if (row >= 0 && row < table_.count()) continue;
      throw Error(ErrorCode::data, fmt::format("sample {} is out of range: {} has {}", row, file_, table_.count()));
    }
    const std::size_t target = target_column();
    for (std::size_t i = 0; i < table_.columns().size(); ++i) {
      if (i != target) fit_input(i);
    }
    check_width();
    fit_target(target);
    return std::move(p_);
  }

 private:
  const ColumnPlan& column(std::size_t i) const { return table_.columns()[i]; }

  std::size_t target_column() const {
    const std::optional<std::size_t> target = find_target(table_.columns(), config_.table);
    if (!target) {
      std::vector<std::string> names;
      for (const ColumnPlan& c : table_.columns()) names.push_back(c.name);
      const std::string meant = nearest(config_.table.target, names);
      throw Error(ErrorCode::data,
                  fmt::format("{} has no column \"{}\", the target of data.table.target", file_, config_.table.target),
                  meant.empty() ? fmt::format("its columns are {}", join(names, ", "))
                                : fmt::format("was \"{}\" meant?", meant));
    }
    if (column(*target).storage == Storage::none) {
      throw Error(
          ErrorCode::data,
          fmt::format("{}: the target \"{}\" is ignored: {}", file_, column(*target).name, column(*target).reason),
          "name the column to predict under data.table.target");
    }
    return *target;
  }

  void warn(std::size_t i, const std::string& what) {
    p_.warnings.push_back(fmt::format("column \"{}\" {}", column(i).name, what));
  }
  void ignore(std::size_t i, const std::string& reason, bool warning) {
    p_.ignored.push_back({column(i).name, reason});
    if (warning) warn(i, fmt::format("is ignored: {}", reason));
  }

  void fit_input(std::size_t i) {
    const ColumnPlan& from = column(i);
    if (from.storage == Storage::none) return ignore(i, from.reason, from.reason != "data.table.columns says so");
    if (p_.refuse_missing) check_present(i);
    if (from.storage == Storage::number) {
      fit_number(i);
    } else {
      fit_category(i);
    }
  }

  void check_present(std::size_t i) const {
    for (const std::int64_t row : train_) {
      const bool missing = column(i).storage == Storage::number ? std::isnan(table_.number(row, i))
                                                                : table_.code(row, i) == kMissingCode;
      if (missing) refuse_missing(row, i);
    }
  }
  [[noreturn]] void refuse_missing(std::int64_t row, std::size_t i) const {
    fail_at_row(table_, file_, row, fmt::format("column \"{}\" has no value", column(i).name),
                "fill it in, or let it be filled: data.table.missing: impute");
  }

  Moments moments(std::size_t i) const {
    Moments moments;
    for (const std::int64_t row : train_) {
      const double value = table_.number(row, i);
      if (!std::isnan(value)) moments.add(value);
    }
    if (moments.count > 0 && !std::isfinite(moments.deviation())) {
      throw Error(ErrorCode::data,
                  fmt::format("{}: the numbers of column \"{}\", from {} to {}, are too large to standardise", file_,
                              column(i).name, moments.smallest, moments.largest),
                  "give them in a larger unit, or take their logarithm");
    }
    return moments;
  }

  void fit_number(std::size_t i) {
    const Moments found = moments(i);
    if (found.count == 0) return ignore(i, "it has no values in the training samples", true);
    PreparedColumn c;
    c.name = column(i).name;
    c.fill = found.mean;
    if (config_.normalize) {
      c.mean = found.mean;
      c.stddev = found.deviation();
    }
    if (found.smallest == found.largest && train_.size() > 1) warn(i, "has one value in all training samples");
    p_.columns.push_back(std::move(c));
  }

  void fit_category(std::size_t i) {
    const ColumnPlan& from = column(i);
    std::vector<std::int64_t> counts(from.values.size(), 0);
    std::int64_t missing = 0, present = 0;
    for (const std::int64_t row : train_) {
      const std::int32_t code = table_.code(row, i);
      if (code >= 0) ++counts[static_cast<std::size_t>(code)];
      ++(code >= 0 ? present : missing);
    }
    PreparedColumn c;
    c.name = from.name;
    c.storage = Storage::category;
    c.missing = missing > 0;
    for (std::size_t v = 0; v < counts.size(); ++v) {
      if (counts[v] > 0) c.values.push_back(from.values[v]);
    }
    if (present == 0) return ignore(i, "it has no values in the training samples", true);
    const bool ids = static_cast<std::int64_t>(c.values.size()) == present && present >= kFewestForIds;
    if (ids && !from.declared && !from.required) {
      return ignore(i, fmt::format("each of its {} values is different, as names and numbers of things are", present),
                    true);
    }
    if (c.values.size() == 1 && !c.missing && train_.size() > 1) warn(i, "has one value in all training samples");
    if (!from.declared) std::sort(c.values.begin(), c.values.end());
    p_.columns.push_back(std::move(c));
  }

  void check_width() const {
    if (p_.columns.empty()) {
      throw Error(ErrorCode::data, fmt::format("{}: no column is left to learn from", file_),
                  p_.ignored.empty()
                      ? std::string("the table has only its target")
                      : fmt::format("column \"{}\" is ignored: {}", p_.ignored[0].name, p_.ignored[0].reason));
    }
    std::int64_t width = p_.numbers();
    for (const PreparedColumn& c : p_.columns) {
      if (p_.one_hot && c.storage == Storage::category) width += c.sizes();
    }
    if (width > kWidestInput) {
      throw Error(
          ErrorCode::data,
          fmt::format("{}: {} inputs, one for each number and each value of a category; at most {} are possible", file_,
                      width, kWidestInput),
          "use data.table.categories: indices, or ignore columns of many values");
    }
  }

  void fit_target(std::size_t i) {
    p_.target_column = column(i).name;
    for (const std::int64_t row : train_) {
      const bool missing = column(i).storage == Storage::number ? std::isnan(table_.number(row, i))
                                                                : table_.code(row, i) == kMissingCode;
      if (missing) {
        fail_at_row(table_, file_, row, fmt::format("the target \"{}\" has no value", column(i).name),
                    "remove rows without a target from the training data");
      }
    }
    if (column(i).storage == Storage::category) return fit_classes(i);
    const Moments found = moments(i);
    p_.target.kind = TargetKind::number;
    p_.target.target_names = {column(i).name};
    p_.target.mean = {config_.normalize ? found.mean : 0.0};
    p_.target.stddev = {config_.normalize ? found.deviation() : 1.0};
    if (found.smallest == found.largest && train_.size() > 1)
      warn(i, "is the target and has one value in all training samples");
  }

  void fit_classes(std::size_t i) {
    p_.target.kind = TargetKind::label;
    p_.target.class_names = class_names(i);
    p_.target.classes = static_cast<std::int64_t>(p_.target.class_names.size());
    std::set<std::int32_t> seen;
    for (const std::int64_t row : train_) seen.insert(table_.code(row, i));
    if (seen.size() == 1) warn(i, "is the target and has one class in all training samples");
  }

  std::vector<std::string> class_names(std::size_t i) const {
    const std::vector<std::string>& values = column(i).values;
    if (column(i).declared) return values;
    if (!all_numbers(values)) {
      std::vector<std::string> sorted = values;
      std::sort(sorted.begin(), sorted.end());
      return sorted;
    }
    std::set<double> numbers;
    for (const std::string& value : values) numbers.insert(*parse_number(value));
    std::vector<std::string> names;
    for (const double number : numbers) names.push_back(*number_name(fmt::format("{}", number)));
    if (config_.classes == 0) return names;
    for (const double number : numbers) {
      if (number >= 0 && number < static_cast<double>(config_.classes) && number == std::floor(number)) continue;
      throw Error(ErrorCode::data,
                  fmt::format("{}: the target \"{}\" has the label {}, expected 0 to {}", file_, column(i).name, number,
                              config_.classes - 1),
                  "raise model.classes, or leave it out");
    }
    names.clear();
    for (std::int64_t c = 0; c < config_.classes; ++c) names.push_back(std::to_string(c));
    return names;
  }

  const TableStore& table_;
  const std::string& file_;
  std::span<const std::int64_t> train_;
  const DataConfig& config_;
  TablePreparation p_;
};

}  // namespace

TablePreparation fit_table(const TableStore& table, const std::string& file, std::span<const std::int64_t> train,
                           const DataConfig& config) {
  return Fit(table, file, train, config).run();
}

std::vector<std::int32_t> class_of_values(const std::vector<std::string>& values,
                                          const std::vector<std::string>& classes) {
  std::map<std::string, std::int32_t> index;
  for (const std::string& name : classes) index.emplace(name, static_cast<std::int32_t>(index.size()));
  const bool numbers = all_numbers(classes);
  std::vector<std::int32_t> result;
  for (const std::string& value : values) {
    auto at = index.find(value);
    if (at == index.end() && numbers) at = index.find(number_name(value).value_or(value));
    result.push_back(at == index.end() ? -1 : at->second);
  }
  return result;
}

}  // namespace trivet
