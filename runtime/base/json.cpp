#include "trivet/base/json.h"

#include <nlohmann/json.hpp>

namespace trivet {
namespace {

constexpr int kDeepest = 32;

struct TooDeep {};

}  // namespace

nlohmann::json parse_json(std::string_view text) {
  using nlohmann::json;
  const auto check = [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) throw TooDeep{};
    return true;
  };
  try {
    json value = json::parse(text, check, false);
    return value.is_discarded() ? json() : value;
  } catch (const TooDeep&) {
    return {};
  }
}

}  // namespace trivet
