#include "runtime/report/json_read.h"

#include <fmt/format.h>

namespace trivet::report {
namespace {

using nlohmann::json;

template <class Visit>
void walk(const json& value, const std::string& path, const Visit& visit) {
  if (!value.is_object()) {
    visit(path, value);
    return;
  }
  for (const auto& [key, inner] : value.items()) walk(inner, path.empty() ? key : path + "." + key, visit);
}

}  // namespace

const json& member(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::optional<double> number(const json& value) {
  if (!value.is_number()) return std::nullopt;
  const double result = value.get<double>();
  return std::isfinite(result) ? std::optional(result) : std::nullopt;
}

std::optional<double> number(const json& object, const char* key) { return number(member(object, key)); }

std::string text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  if (value.is_number()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  std::string result;
  if (value.is_array()) {
    for (const json& entry : value) result += (result.empty() ? "" : ", ") + text(entry);
  }
  return result;
}

std::vector<std::pair<std::string, std::string>> flat_texts(const json& value) {
  std::vector<std::pair<std::string, std::string>> result;
  walk(value, "", [&](const std::string& path, const json& leaf) {
    if (const std::string found = text(leaf); !found.empty() && !path.empty()) result.emplace_back(path, found);
  });
  return result;
}

std::vector<std::pair<std::string, double>> flat_numbers(const json& value) {
  std::vector<std::pair<std::string, double>> result;
  walk(value, "", [&](const std::string& path, const json& leaf) {
    if (const auto found = number(leaf); found && !path.empty()) result.emplace_back(path, *found);
  });
  return result;
}

}  // namespace trivet::report
