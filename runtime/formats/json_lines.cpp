#include <nlohmann/json.hpp>
#include <unordered_map>

#include "runtime/formats/table_text.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

using nlohmann::json;

class JsonLinesReader final : public TableReader, private json::json_sax_t {
 public:
  JsonLinesReader(const std::filesystem::path& path, const TextLimits& limits) : lines_(path, limits) {}

  bool next(std::span<const Cell>& row) override {
    std::string_view line;
    do {
      if (!lines_.next(line)) return false;
    } while (trimmed(line).empty());
    text_.clear();
    keys_.clear();
    open_ = false;
    json::sax_parse(line.begin(), line.end(), static_cast<json::json_sax_t*>(this));
    const std::vector<Cell>& cells = text_.finish();
    row_.assign(columns_.size(), Cell{{}, true, false, lines_.line(), 0});
    for (std::size_t i = 0; i < cells.size(); ++i) row_[keys_[i]] = cells[i];
    row = row_;
    return true;
  }

  std::string digest() override { return lines_.digest(); }

  void fail(const Cell& cell, const std::string& message, const std::string& hint) const override {
    lines_.fail(cell.line, cell.column, message, hint);
  }

 private:
  [[noreturn]] void refuse(const std::string& found) const {
    const std::string where = open_ ? fmt::format(" under \"{}\"", columns_[key_].name) : std::string();
    lines_.fail(lines_.line(), 0,
                fmt::format("found {}{}, expected {}", found, where,
                            open_ ? "a text, a number, true, false or null" : "an object"),
                "give one object of plain values on each line, such as {\"age\": 31, \"job\": \"cook\"}");
  }

  bool value(std::string_view text, bool literal) {
    if (!open_) refuse(fmt::format("\"{}\"", text.substr(0, 40)));
    begin_cell();
    text_.append(text);
    if (literal) text_.set_literal();
    return true;
  }

  void begin_cell() {
    text_.begin(lines_.line(), 0);
    keys_.push_back(key_);
  }

  bool null() override {
    if (!open_) refuse("null");
    begin_cell();
    text_.set_missing();
    return true;
  }
  bool boolean(bool flag) override { return value(flag ? "true" : "false", true); }
  bool number_integer(json::number_integer_t number) override { return value(std::to_string(number), false); }
  bool number_unsigned(json::number_unsigned_t number) override { return value(std::to_string(number), false); }
  bool number_float(json::number_float_t, const std::string& text) override { return value(text, false); }
  bool string(std::string& text) override {
    if (text.find('\0') != std::string::npos) refuse("a text with a zero byte");
    return value(text, true);
  }
  bool binary(json::binary_t&) override { refuse("bytes"); }
  bool start_object(std::size_t) override {
    if (open_) refuse("an object");
    return open_ = true;
  }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { refuse("a list"); }
  bool end_array() override { return true; }

  bool key(std::string& name) override {
    const auto [at, fresh] = index_.emplace(name, columns_.size());
    if (fresh && (name.empty() || columns_.size() == lines_.limits().columns)) {
      lines_.fail(lines_.line(), 0,
                  name.empty() ? std::string("a key is empty")
                               : fmt::format("more than {} different keys", lines_.limits().columns));
    }
    if (fresh) columns_.push_back({name, Declared::nothing, {}});
    if (fresh) last_line_.push_back(0);
    key_ = at->second;
    if (std::exchange(last_line_[key_], lines_.line()) == lines_.line()) {
      lines_.fail(lines_.line(), 0, fmt::format("the key \"{}\" occurs twice in one object", name));
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const json::exception& e) override {
    // The library's text begins with its own name and number in brackets, and its own count of the column.
    const std::string what = e.what();
    const std::size_t from = what.find(": ");
    lines_.fail(lines_.line(), position,
                fmt::format("this is no JSON: {}", from == std::string::npos ? what : what.substr(from + 2)),
                "each line is an object of its own, without commas between lines; NaN is written null");
  }

  LineReader lines_;
  RowText text_;
  std::vector<std::size_t> keys_;  // the column of each cell of the line
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<std::int64_t> last_line_;  // on which each column's key was seen
  std::vector<Cell> row_;
  std::size_t key_ = 0;
  bool open_ = false;
};

}  // namespace

std::unique_ptr<TableReader> open_json_lines(const std::filesystem::path& path, const TextLimits& limits) {
  return std::make_unique<JsonLinesReader>(path, limits);
}

}  // namespace trivet
