#include "trivet/formats/table_writer.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/formats/npy.h"

namespace trivet {
namespace {

class CsvWriter : public PredictionWriter {
 public:
  CsvWriter(const std::filesystem::path& path, const Table& table) : PredictionWriter(path, table) {
    file_.write(table.labels ? "index,predicted,confidence,label\r\n" : "index,predicted,confidence\r\n");
  }

 private:
  void write_row(const Row& row) override {
    const float confidence = row.probabilities[static_cast<std::size_t>(row.predicted)];
    line_ = fmt::format("{},{},{}", row.index, name(row.predicted), confidence);
    if (row.label) line_.append(1, ',').append(name(*row.label));
    line_ += "\r\n";
    file_.write(line_);
  }

  std::string name(std::int64_t c) const {
    return table_.names.empty() ? std::to_string(c) : csv_field(table_.names[static_cast<std::size_t>(c)]);
  }

  std::string line_;
};

class JsonLinesWriter : public PredictionWriter {
 public:
  JsonLinesWriter(const std::filesystem::path& path, const Table& table) : PredictionWriter(path, table) {}

 private:
  void write_row(const Row& row) override {
    const float confidence = row.probabilities[static_cast<std::size_t>(row.predicted)];
    line_.clear();
    const auto out = std::back_inserter(line_);
    fmt::format_to(out, R"({{"index":{},"predicted":{},"confidence":{},"probabilities":[{}])", row.index,
                   name(row.predicted), confidence, fmt::join(row.probabilities, ","));
    if (row.label) fmt::format_to(out, R"(,"label":{})", name(*row.label));
    line_ += "}\n";
    file_.write(line_);
  }

  std::string name(std::int64_t c) const {
    if (table_.names.empty()) return std::to_string(c);
    const nlohmann::json text = table_.names[static_cast<std::size_t>(c)];
    return text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  std::string line_;
};

class NpyWriter : public PredictionWriter {
 public:
  NpyWriter(const std::filesystem::path& path, const Table& table) : PredictionWriter(path, table) {
    file_.write(npy_header({DType::f32, {table.rows, table.classes}}));
  }

 private:
  void write_row(const Row& row) override { file_.write(std::as_bytes(row.probabilities)); }
};

}  // namespace

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted(1, '"');
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  quoted += '"';
  return quoted;
}

std::unique_ptr<PredictionWriter> PredictionWriter::create(std::string_view format, const std::filesystem::path& path,
                                                           const Table& table) {
  if (table.rows < 0 || table.classes < 1 ||
      (!table.names.empty() && table.names.size() != static_cast<std::size_t>(table.classes))) {
    throw Error(ErrorCode::internal, fmt::format("predictions of {} rows, {} classes and {} names", table.rows,
                                                 table.classes, table.names.size()));
  }
  if (format == "csv") return std::make_unique<CsvWriter>(path, table);
  if (format == "jsonl") return std::make_unique<JsonLinesWriter>(path, table);
  if (format == "npy") return std::make_unique<NpyWriter>(path, table);
  throw Error(ErrorCode::usage, fmt::format("unknown format of predictions \"{}\"", format),
              "the formats are csv, jsonl and npy");
}

void PredictionWriter::add(std::int64_t index, std::span<const float> probabilities,
                           std::optional<std::int32_t> label) {
  if (probabilities.size() != static_cast<std::size_t>(table_.classes) || label.has_value() != table_.labels) {
    throw Error(ErrorCode::internal,
                fmt::format("sample {}: {} probabilities and {} label, expected {} and {}", index, probabilities.size(),
                            label ? "a" : "no", table_.classes, table_.labels ? "a label" : "none"));
  }
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (!std::isfinite(probabilities[i])) {
      throw Error(ErrorCode::diverged,
                  fmt::format("sample {}: the probability of class {} is {}", index, i, probabilities[i]),
                  "the model's parameters are not usable; choose an earlier checkpoint");
    }
  }
  const auto best = std::max_element(probabilities.begin(), probabilities.end());
  write_row({index, best - probabilities.begin(), probabilities, label});
  ++written_;
}

void PredictionWriter::commit() {
  if (written_ != table_.rows) {
    throw Error(ErrorCode::internal, fmt::format("{} rows were written, {} expected", written_, table_.rows));
  }
  file_.commit();
}

}  // namespace trivet
