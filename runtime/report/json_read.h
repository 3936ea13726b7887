// Reading JSON that may have any shape: what is missing or of another kind is simply not there.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace trivet::report {

// The member; a null if there is none.
const nlohmann::json& member(const nlohmann::json& object, const char* key);
// Its number, if it is finite.
std::optional<double> number(const nlohmann::json& value);
std::optional<double> number(const nlohmann::json& object, const char* key);
// A string as it is, a number with up to six digits, a list of such joined by commas; else "".
std::string text(const nlohmann::json& value);

// Every number or text in it with its path: "host.cores" -> "2".
std::vector<std::pair<std::string, std::string>> flat_texts(const nlohmann::json& value);
// Every finite number in it with its path.
std::vector<std::pair<std::string, double>> flat_numbers(const nlohmann::json& value);

}  // namespace trivet::report
