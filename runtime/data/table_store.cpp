#include "runtime/data/table_store.h"

#include <unordered_map>

#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

constexpr std::size_t kMostValues = std::size_t{1} << 16;       // of a category
constexpr std::size_t kLongestValue = 256;                      // bytes; longer texts are no categories
constexpr std::size_t kDictionaryBytes = std::size_t{1} << 30;  // of all columns together

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Dictionary = std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>>;

std::string shortened(std::string_view text) {
  return text.size() <= 60 ? std::string(text) : std::string(text.substr(0, 57)) + "...";
}

}  // namespace

std::unique_ptr<TableReader> TableFile::open() const {
  switch (form) {
    case TableForm::arff:
      return open_arff(path);
    case TableForm::json_lines:
      return open_json_lines(path);
    case TableForm::csv:
      break;
  }
  return open_csv(path);
}

class TableLoader {
 public:
  TableLoader(const TableFile& file, TablePlan plan)
      : file_(file), complete_(plan.complete), reader_(file.open()), store_(new TableStore(file.memory_limit)) {
    store_->columns_ = std::move(plan.columns);
    lay_out();
  }

  std::shared_ptr<const TableStore> load() {
    std::vector<std::byte> row(store_->width_);
    std::span<const Cell> cells;
    while (reader_->next(cells)) {
      if (!fill(cells, row)) return nullptr;
      store_->bytes_.append(row);
      if (!cells.empty()) note_line(cells[0].line);
      ++store_->count_;
    }
    if (store_->count_ == 0) {
      throw Error(ErrorCode::data, fmt::format("{} holds no rows", file_.path.string()),
                  "at least one row of data is needed");
    }
    if (columns().empty()) throw Error(ErrorCode::data, fmt::format("{} has no columns", file_.path.string()));
    store_->bytes_.finish();
    store_->digest_ = reader_->digest();
    return std::move(store_);
  }

 private:
  // Numbers first, so that they are aligned.
  void lay_out() {
    std::size_t& width = store_->width_;
    store_->offsets_.assign(columns().size(), 0);
    dictionaries_.resize(columns().size());
    for (const Storage storage : {Storage::number, Storage::category}) {
      for (std::size_t i = 0; i < columns().size(); ++i) {
        if (columns()[i].storage != storage) continue;
        store_->offsets_[i] = width;
        width += storage == Storage::number ? sizeof(double) : sizeof(std::int32_t);
      }
    }
    // A row of ignored columns alone counts too.
    width = std::max<std::size_t>((width + sizeof(double) - 1) / sizeof(double) * sizeof(double), sizeof(double));
    for (std::size_t i = 0; i < columns().size(); ++i) {
      std::int32_t code = 0;
      for (const std::string& value : columns()[i].values) dictionaries_[i].emplace(value, code++);
    }
  }

  std::vector<ColumnPlan>& columns() { return store_->columns_; }

  // False if a guess was wrong.
  bool fill(std::span<const Cell> cells, std::vector<std::byte>& row) {
    if (cells.size() > columns().size()) return changed(cells.back());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (columns()[i].storage == Storage::number) {
        const std::optional<double> value = number(cells[i], columns()[i]);
        if (!value) return false;
        std::memcpy(row.data() + store_->offsets_[i], &*value, sizeof(double));
      } else if (columns()[i].storage == Storage::category) {
        const std::int32_t value = code(cells[i], i);
        std::memcpy(row.data() + store_->offsets_[i], &value, sizeof(value));
      }
    }
    // JSON lines: keys that the file has further down.
    for (std::size_t i = cells.size(); i < columns().size(); ++i) set_missing(i, row);
    return true;
  }

  void set_missing(std::size_t column, std::vector<std::byte>& row) {
    const double nan = std::nan("");
    if (columns()[column].storage == Storage::number) {
      std::memcpy(row.data() + store_->offsets_[column], &nan, sizeof(nan));
    } else if (columns()[column].storage == Storage::category) {
      std::memcpy(row.data() + store_->offsets_[column], &kMissingCode, sizeof(kMissingCode));
    }
  }

  // JSON lines with more columns than the rows had that were looked at.
  bool changed(const Cell& cell) {
    if (complete_) reader_->fail(cell, "the file has changed while it was read", "start again");
    return false;
  }

  // NaN if it is missing; nothing if the guess was wrong.
  std::optional<double> number(const Cell& cell, const ColumnPlan& column) {
    if (cell.missing) return std::nan("");
    const std::optional<double> value = parse_number(cell.text);
    if (!value || (cell.literal && column.guessed)) {
      if (column.guessed) return {};
      reader_->fail(cell,
                    fmt::format("found \"{}\" in column \"{}\", expected a number", shortened(cell.text), column.name),
                    "a missing number is left empty or written ?; texts are read if data.table.columns calls the "
                    "column a category");
    }
    if (!std::isfinite(*value)) {
      reader_->fail(
          cell, fmt::format("found {} in column \"{}\", expected a finite number", shortened(cell.text), column.name),
          "leave the cell empty if the number is not known");
    }
    return value;
  }

  std::int32_t code(const Cell& cell, std::size_t i) {
    if (cell.missing) return kMissingCode;
    Dictionary& dictionary = dictionaries_[i];
    if (const auto at = dictionary.find(cell.text); at != dictionary.end()) return at->second;
    ColumnPlan& column = columns()[i];
    if (column.unlisted == Unlisted::other) return kOtherCode;
    if (column.unlisted == Unlisted::refuse) {
      const std::string meant = nearest(cell.text, column.values);
      reader_->fail(cell,
                    fmt::format("found \"{}\", which is not among the {} values declared for \"{}\"",
                                shortened(cell.text), column.values.size(), column.name),
                    meant.empty() ? "correct the cell or the declaration" : fmt::format("was \"{}\" meant?", meant));
    }
    if (const std::string problem = check_room(cell.text, column); !problem.empty()) return give_up(cell, i, problem);
    dictionary_bytes_ += cell.text.size() + sizeof(std::string) + 64;
    const auto next = static_cast<std::int32_t>(column.values.size());
    column.values.emplace_back(cell.text);
    dictionary.emplace(column.values.back(), next);
    return next;
  }

  std::string check_room(std::string_view text, const ColumnPlan& column) const {
    if (text.size() > kLongestValue) return fmt::format("it has texts of more than {} bytes", kLongestValue);
    if (column.values.size() == kMostValues) return fmt::format("it has more than {} different texts", kMostValues);
    if (dictionary_bytes_ > kDictionaryBytes) {
      throw Error(ErrorCode::memory,
                  fmt::format("{}: the different texts of its columns take more than {}", file_.path.string(),
                              format_bytes(kDictionaryBytes)),
                  "name the columns of free text under data.table.columns, with the type ignore");
    }
    return {};
  }

  std::int32_t give_up(const Cell& cell, std::size_t i, const std::string& problem) {
    ColumnPlan& column = columns()[i];
    if (column.required) {
      reader_->fail(cell, fmt::format("column \"{}\" cannot be a category: {}", column.name, problem),
                    "choose another type under data.table.columns, or another target");
    }
    column.storage = Storage::none;
    column.reason = problem;
    column.values.clear();
    dictionaries_[i].clear();
    return kMissingCode;
  }

  void note_line(std::int64_t line) {
    const std::int64_t offset = line - store_->count_;
    std::vector<TableStore::Shift>& shifts = store_->shifts_;
    if (shifts.empty() || shifts.back().offset != offset) shifts.push_back({store_->count_, offset});
  }

  const TableFile& file_;
  bool complete_;
  std::unique_ptr<TableReader> reader_;
  std::shared_ptr<TableStore> store_;
  std::vector<Dictionary> dictionaries_;
  std::size_t dictionary_bytes_ = 0;
};

std::shared_ptr<const TableStore> TableStore::load(const TableFile& file, TablePlan plan) {
  return TableLoader(file, std::move(plan)).load();
}

std::optional<std::size_t> TableStore::find(std::string_view name) const {
  const auto at = std::find_if(columns_.begin(), columns_.end(), [&](const ColumnPlan& c) { return c.name == name; });
  if (at == columns_.end()) return {};
  return static_cast<std::size_t>(at - columns_.begin());
}

std::int64_t TableStore::line(std::int64_t i) const {
  if (shifts_.empty()) return i + 1;
  const auto after =
      std::upper_bound(shifts_.begin(), shifts_.end(), i, [](std::int64_t row, const Shift& s) { return row < s.row; });
  return i + (after == shifts_.begin() ? after : std::prev(after))->offset;
}

std::size_t TableStore::resident_bytes() const {
  std::size_t bytes = bytes_.resident_bytes() + shifts_.size() * sizeof(Shift);
  for (const ColumnPlan& column : columns_) {
    for (const std::string& value : column.values) bytes += value.size() + sizeof(std::string);
  }
  return bytes;
}

}  // namespace trivet
