#include "runtime/infer/number_writer.h"

#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/formats/npy.h"
#include "trivet/formats/table_writer.h"

namespace trivet {
namespace {

std::string number(double value) { return fmt::format("{}", static_cast<float>(value)); }

}  // namespace

NumberWriter::NumberWriter(std::string_view format, const std::filesystem::path& path, std::int64_t rows,
                           std::vector<std::string> names, bool targets)
    : format_(format), names_(std::move(names)), file_(path) {
  if (format_ == "csv") {
    std::string header = "index";
    const auto add = [&](const std::string& name) { header.append(1, ',').append(csv_field(name)); };
    for (const std::string& name : names_) add(name);
    for (const std::string& name : names_) {
      if (targets) add(fmt::format("target.{}", name));
    }
    file_.write(header.append("\r\n"));
  } else if (format_ == "npy") {
    file_.write(npy_header({DType::f32, {rows, static_cast<std::int64_t>(names_.size())}}));
  } else if (format_ != "jsonl") {
    throw Error(ErrorCode::usage, fmt::format("unknown format of predictions \"{}\"", format_),
                "the formats are csv, jsonl and npy");
  }
  for (const std::string& name : names_) {
    keys_.push_back(nlohmann::json(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
}

std::string NumberWriter::csv_row(std::int64_t index, std::span<const double> predicted,
                                  std::span<const double> targets) const {
  std::string line = std::to_string(index);
  for (const double value : predicted) line.append(1, ',').append(number(value));
  for (const double value : targets) line.append(1, ',').append(number(value));
  return line.append("\r\n");
}

std::string NumberWriter::json_row(std::int64_t index, std::span<const double> predicted,
                                   std::span<const double> targets) const {
  std::string line = fmt::format("{{\"index\":{}", index);
  for (std::size_t i = 0; i < keys_.size(); ++i) line += fmt::format(",{}:{}", keys_[i], number(predicted[i]));
  if (!targets.empty()) {
    line += ",\"target\":{";
    for (std::size_t i = 0; i < keys_.size(); ++i)
      line += fmt::format("{}{}:{}", i > 0 ? "," : "", keys_[i], number(targets[i]));
    line += "}";
  }
  return line + "}\n";
}

void NumberWriter::add(std::int64_t index, std::span<const double> predicted, std::span<const double> targets) {
  for (const double value : predicted) {
    if (std::isfinite(value)) continue;
    throw Error(ErrorCode::diverged, fmt::format("sample {}: the prediction is {}", index, value),
                "the model's parameters are not usable; choose an earlier checkpoint");
  }
  if (format_ == "csv") return file_.write(csv_row(index, predicted, targets));
  if (format_ == "jsonl") return file_.write(json_row(index, predicted, targets));
  for (const double value : predicted) {
    const auto narrow = static_cast<float>(value);
    file_.write(std::as_bytes(std::span(&narrow, 1)));
  }
}

void NumberWriter::commit() { file_.commit(); }

}  // namespace trivet
