// Typed access to a section's values.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/formats/config_tree.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

std::string name_of(const ConfigState& state, std::size_t section, const std::string& key) {
  return full_name(state.sections[section].name, key);
}

void expected(ConfigState& state, const std::string& name, const ConfigValue& value, const std::string& what,
              const std::string& hint) {
  state.problems.push_back({value.place, fmt::format("{}: expected {}, found {}", name, what, describe(value)), hint});
}

bool is_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string_view without_sign(std::string_view text) {
  return !text.empty() && (text[0] == '-' || text[0] == '+') ? text.substr(1) : text;
}

// from_chars knows no '+'.
std::string_view without_plus(std::string_view text) { return text.starts_with('+') ? text.substr(1) : text; }

std::string range_text(const NumberRange& range) {
  if (range.open_min) return fmt::format("a number above {} and at most {}", range.min, range.max);
  if (range.open_max) return fmt::format("a number from {} to less than {}", range.min, range.max);
  return fmt::format("a number from {} to {}", range.min, range.max);
}

bool in_range(double value, const NumberRange& range) {
  const bool above = range.open_min ? value > range.min : value >= range.min;
  const bool below = range.open_max ? value < range.max : value <= range.max;
  return above && below;
}

// How to write a scalar of another form as the number that was meant.
std::string number_hint(const ConfigValue& value, bool whole) {
  if (value.kind != ConfigValue::Kind::scalar) return "";
  const std::string& text = value.text;
  if (value.quoted && is_number_form(text)) return "remove the quotes";
  std::string digits = text;
  std::erase(digits, '_');
  if (digits != text && is_number_form(digits)) return fmt::format("write {}", digits);
  double number = 0;
  const std::string_view plain = without_plus(text);
  const bool read =
      is_number_form(text) && std::from_chars(plain.data(), plain.data() + plain.size(), number).ec == std::errc();
  if (whole && read && std::abs(number) < 1e15 && std::trunc(number) == number) {
    const std::string meant = fmt::format("{}", static_cast<std::int64_t>(number));
    if (meant != text) return fmt::format("write {}", meant);
  }
  return "";
}

std::int64_t read_integer(ConfigState& state, const std::string& name, const ConfigValue& value, std::int64_t fallback,
                          std::int64_t min, std::int64_t max) {
  const std::string_view text = without_plus(value.text);
  std::int64_t result = 0;
  const bool form = value.kind == ConfigValue::Kind::scalar && !value.quoted && is_integer_form(value.text);
  if (form && std::from_chars(text.data(), text.data() + text.size(), result).ec == std::errc() && result >= min &&
      result <= max) {
    return result;
  }
  expected(state, name, value, fmt::format("an integer from {} to {}", min, max), number_hint(value, true));
  return fallback;
}

double read_number(ConfigState& state, const std::string& name, const ConfigValue& value, double fallback,
                   const NumberRange& range) {
  const std::string_view text = without_plus(value.text);
  double result = 0;
  const bool form = value.kind == ConfigValue::Kind::scalar && !value.quoted && is_number_form(value.text);
  if (form && std::from_chars(text.data(), text.data() + text.size(), result).ec == std::errc() &&
      in_range(result, range)) {
    return result == 0 ? 0.0 : result;  // no negative zero
  }
  expected(state, name, value, range_text(range), number_hint(value, false));
  return fallback;
}

std::string read_text(ConfigState& state, const std::string& name, const ConfigValue& value,
                      const std::string& fallback) {
  if (value.kind == ConfigValue::Kind::scalar && !value.text.empty()) return value.text;
  expected(state, name, value, "text that is not empty", "");
  return fallback;
}

std::string read_choice(ConfigState& state, const std::string& name, const ConfigValue& value,
                        std::span<const std::string> choices) {
  const bool scalar = value.kind == ConfigValue::Kind::scalar;
  if (scalar && std::find(choices.begin(), choices.end(), value.text) != choices.end()) return value.text;
  const std::string meant = scalar ? nearest(value.text, choices) : "";
  const std::string what = choices.size() == 1 ? choices[0] : "one of " + join(choices, ", ");
  expected(state, name, value, what, meant.empty() ? "" : fmt::format("did you mean '{}'?", meant));
  return "";
}

// Finds the value of `key` in an opened section, and makes the key known.
const ConfigValue* ask(ConfigState& state, std::size_t section, const std::string& key) {
  ConfigSection& opened = state.sections[section];
  if (std::find(opened.valid_keys.begin(), opened.valid_keys.end(), key) == opened.valid_keys.end()) {
    opened.valid_keys.push_back(key);
  }
  return opened.value == nullptr ? nullptr : opened.value->find(key);
}

const ConfigValue* require(ConfigState& state, std::size_t section, const std::string& key, const std::string& what) {
  const ConfigValue* value = ask(state, section, key);
  const ConfigSection& opened = state.sections[section];
  if (value == nullptr && opened.value != nullptr) {
    state.problems.push_back(
        {opened.place, fmt::format("missing {} '{}'", what, full_name(opened.name, key)), "this key has no default"});
  }
  return value;
}

}  // namespace

bool is_integer_form(std::string_view text) {
  const std::string_view digits = without_sign(text);
  return is_digits(digits) && (digits.size() == 1 || digits[0] != '0');
}

bool is_number_form(std::string_view text) {
  std::string_view mantissa = without_sign(text);
  const std::size_t e = mantissa.find_first_of("eE");
  if (e != std::string_view::npos) {
    if (!is_digits(without_sign(mantissa.substr(e + 1)))) return false;
    mantissa = mantissa.substr(0, e);
  }
  const std::size_t dot = mantissa.find('.');
  if (dot == std::string_view::npos) return is_digits(mantissa);
  const std::string_view whole = mantissa.substr(0, dot);
  const std::string_view fraction = mantissa.substr(dot + 1);
  return (is_digits(whole) && (fraction.empty() || is_digits(fraction))) || (whole.empty() && is_digits(fraction));
}

bool ConfigNode::present() const { return state_->sections[section_].value != nullptr; }

bool ConfigNode::has(std::string_view key) const {
  const ConfigValue* value = state_->sections[section_].value;
  return value != nullptr && value->find(key) != nullptr;
}

SourcePlace ConfigNode::place() const { return state_->sections[section_].place; }

SourcePlace ConfigNode::place(std::string_view key) const {
  const ConfigValue* section = state_->sections[section_].value;
  const ConfigValue* value = section == nullptr ? nullptr : section->find(key);
  return value == nullptr ? place() : value->place;
}

std::int64_t ConfigNode::integer(const std::string& key, std::int64_t fallback, std::int64_t min,
                                 std::int64_t max) const {
  const ConfigValue* value = ask(*state_, section_, key);
  return value == nullptr ? fallback
                          : read_integer(*state_, name_of(*state_, section_, key), *value, fallback, min, max);
}

std::int64_t ConfigNode::required_integer(const std::string& key, std::int64_t min, std::int64_t max) const {
  require(*state_, section_, key, "key");
  return integer(key, min, min, max);
}

double ConfigNode::number(const std::string& key, double fallback, NumberRange range) const {
  const ConfigValue* value = ask(*state_, section_, key);
  return value == nullptr ? fallback : read_number(*state_, name_of(*state_, section_, key), *value, fallback, range);
}

double ConfigNode::required_number(const std::string& key, NumberRange range) const {
  require(*state_, section_, key, "key");
  return number(key, range.min, range);
}

bool ConfigNode::flag(const std::string& key, bool fallback) const {
  const ConfigValue* value = ask(*state_, section_, key);
  if (value == nullptr) return fallback;
  const bool plain = value->kind == ConfigValue::Kind::scalar && !value->quoted;
  if (plain && value->text == "true") return true;
  if (plain && value->text == "false") return false;
  expected(*state_, name_of(*state_, section_, key), *value, "true or false", value->quoted ? "remove the quotes" : "");
  return fallback;
}

std::string ConfigNode::text(const std::string& key, const std::string& fallback) const {
  const ConfigValue* value = ask(*state_, section_, key);
  return value == nullptr ? fallback : read_text(*state_, name_of(*state_, section_, key), *value, fallback);
}

std::string ConfigNode::required_text(const std::string& key) const {
  require(*state_, section_, key, "key");
  return text(key, "");
}

std::string ConfigNode::choice(const std::string& key, const std::string& fallback,
                               std::span<const std::string> choices) const {
  const ConfigValue* value = ask(*state_, section_, key);
  return value == nullptr ? fallback : read_choice(*state_, name_of(*state_, section_, key), *value, choices);
}

std::string ConfigNode::required_choice(const std::string& key, std::span<const std::string> choices) const {
  require(*state_, section_, key, "key");
  return choice(key, "", choices);
}

std::filesystem::path ConfigNode::path(const std::string& key) const { return text(key, ""); }

std::filesystem::path ConfigNode::required_path(const std::string& key) const { return required_text(key); }

std::vector<std::int64_t> ConfigNode::integers(const std::string& key, const std::vector<std::int64_t>& fallback,
                                               std::int64_t min, std::int64_t max, std::size_t max_count) const {
  const ConfigValue* value = ask(*state_, section_, key);
  if (value == nullptr) return fallback;
  const std::string name = name_of(*state_, section_, key);
  if (value->kind != ConfigValue::Kind::list || value->items.empty() || value->items.size() > max_count) {
    const bool one = value->kind == ConfigValue::Kind::scalar && is_integer_form(value->text);
    expected(*state_, name, *value, fmt::format("a list of 1 to {} integers", max_count),
             one ? fmt::format("write [{}]", value->text) : "");
    return fallback;
  }
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < value->items.size(); ++i) {
    result.push_back(read_integer(*state_, fmt::format("{}[{}]", name, i), value->items[i], min, min, max));
  }
  return result;
}

ConfigNode ConfigNode::section(const std::string& key) const {
  const ConfigValue* value = ask(*state_, section_, key);
  const std::string name = name_of(*state_, section_, key);
  const SourcePlace where = value == nullptr ? place() : value->place;
  if (value != nullptr && value->kind != ConfigValue::Kind::map) {
    if (!state_->section_of_name.contains(name)) {
      expected(*state_, name, *value, "a section",
               value->kind == ConfigValue::Kind::null ? "indent its keys below it, or remove it" : "");
    }
    value = nullptr;
  }
  return {*state_, open_section(*state_, name, value, where)};
}

ConfigNode ConfigNode::required_section(const std::string& key) const {
  require(*state_, section_, key, "section");
  return section(key);
}

std::vector<ConfigNode> ConfigNode::sections(const std::string& key, std::size_t max_count) const {
  const ConfigValue* value = ask(*state_, section_, key);
  const std::string name = name_of(*state_, section_, key);
  std::vector<ConfigNode> result;
  if (value == nullptr) return result;
  if (value->kind != ConfigValue::Kind::list || value->items.size() > max_count) {
    expected(*state_, name, *value, fmt::format("a list of at most {} sections", max_count), "");
    return result;
  }
  for (std::size_t i = 0; i < value->items.size(); ++i) {
    const ConfigValue& item = value->items[i];
    const std::string item_name = fmt::format("{}[{}]", name, i);
    if (item.kind != ConfigValue::Kind::map) {
      expected(*state_, item_name, item, "a section", "");
      continue;
    }
    result.push_back({*state_, open_section(*state_, item_name, &item, item.place)});
  }
  return result;
}

void ConfigNode::ignore(const std::string& key) const { ask(*state_, section_, key); }

void ConfigNode::refuse(const std::string& key, const std::string& why, const std::string& hint) const {
  std::vector<std::string>& refused = state_->sections[section_].refused_keys;
  if (std::find(refused.begin(), refused.end(), key) == refused.end()) refused.push_back(key);
  if (has(key)) problem(key, why, hint);
}

void ConfigNode::problem(const std::string& key, const std::string& message, const std::string& hint) const {
  const std::string name = name_of(*state_, section_, key);
  state_->problems.push_back({place(key), fmt::format("{}: {}", name, message), hint});
}

}  // namespace trivet
