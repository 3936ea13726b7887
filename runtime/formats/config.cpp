#include "trivet/formats/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "runtime/formats/config_tree.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

// "data.train", or words for the root, which has no name.
std::string section_title(const std::string& section) { return section.empty() ? "the file" : "'" + section + "'"; }

std::string name_place(const SourcePlace& place) {
  return place.line > 0 ? fmt::format("{}:{}:{}", place.file, place.line, place.column) : place.file;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void report_unknown_keys(ConfigState& state, const ConfigSection& section) {
  if (section.value == nullptr) return;
  for (const ConfigKey& key : section.value->keys) {
    if (contains(section.valid_keys, key.name) || contains(section.refused_keys, key.name)) continue;
    const std::string meant = nearest(key.name, section.valid_keys);
    std::string hint = meant.empty() ? "" : fmt::format("did you mean '{}'? ", meant);
    hint += fmt::format("Keys of {}: {}", section_title(section.name), join(section.valid_keys, ", "));
    state.problems.push_back(
        {key.place, fmt::format("unknown key '{}' in {}", shorten(key.name), section_title(section.name)), hint});
  }
}

}  // namespace

std::string full_name(const std::string& section, std::string_view key) {
  return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key);
}

std::size_t open_section(ConfigState& state, const std::string& name, const ConfigValue* value,
                         const SourcePlace& place) {
  const auto [entry, is_new] = state.section_of_name.emplace(name, state.sections.size());
  if (is_new) state.sections.push_back({name, value, place, {}, {}});
  return entry->second;
}

const ConfigValue* ConfigValue::find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].name == key) return &items[i];
  }
  return nullptr;
}

std::string shorten(std::string_view text) {
  constexpr std::size_t kLimit = 60;
  std::size_t size = text.size();
  if (size > kLimit) {
    size = kLimit;
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0U) == 0x80U) --size;
  }
  std::string result(text.substr(0, size));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return size < text.size() ? result + "..." : result;
}

std::string describe(const ConfigValue& value) {
  const auto entries = [&] {
    return value.items.size() == 1 ? std::string("1 entry") : fmt::format("{} entries", value.items.size());
  };
  switch (value.kind) {
    case ConfigValue::Kind::null:
      return "nothing";
    case ConfigValue::Kind::list:
      return "a list of " + entries();
    case ConfigValue::Kind::map:
      return "a section";
    case ConfigValue::Kind::scalar:
      break;
  }
  const bool literal = !value.quoted && (is_number_form(value.text) || value.text == "true" || value.text == "false");
  return literal ? shorten(value.text) : fmt::format("the text '{}'", shorten(value.text));
}

void throw_config_problems(std::vector<ConfigProblem> problems) {
  std::stable_sort(problems.begin(), problems.end(), [](const ConfigProblem& a, const ConfigProblem& b) {
    return std::tie(a.place.line, a.place.column) < std::tie(b.place.line, b.place.column);
  });
  const ConfigProblem& first = problems.front();
  if (problems.size() == 1) throw Error(ErrorCode::job, first.place, first.message, first.hint);
  // Several problems stand one below another, each in the form of an Error of its own.
  std::string text;
  const std::size_t shown = std::min(problems.size(), kConfigMaxProblemsShown);
  for (std::size_t i = 0; i < shown; ++i) {
    if (i > 0) text += fmt::format("\n{}: ", name_place(problems[i].place));
    text += problems[i].message;
    if (!problems[i].hint.empty()) text += "\n  hint: " + problems[i].hint;
  }
  if (shown < problems.size()) text += fmt::format("\nand {} more problems", problems.size() - shown);
  throw Error(ErrorCode::job, first.place, text);
}

ConfigDocument::ConfigDocument(std::unique_ptr<ConfigState> state) : state_(std::move(state)) {}
ConfigDocument::ConfigDocument(ConfigDocument&&) noexcept = default;
ConfigDocument& ConfigDocument::operator=(ConfigDocument&&) noexcept = default;
ConfigDocument::~ConfigDocument() = default;

ConfigDocument ConfigDocument::parse(std::string_view text, const std::string& file) {
  auto state = std::make_unique<ConfigState>();
  state->file = file;
  state->root = parse_config_value(text, file, true, state->problems);
  if (state->root.kind == ConfigValue::Kind::null) {
    throw Error(ErrorCode::job, SourcePlace{file, 1, 1}, "the file is empty",
                "it must hold lines such as 'key: value'");
  }
  if (state->root.kind != ConfigValue::Kind::map) {
    throw Error(ErrorCode::job, state->root.place,
                fmt::format("expected 'key: value' lines at the top of the file, found {}", describe(state->root)));
  }
  return ConfigDocument(std::move(state));
}

ConfigNode ConfigDocument::root() {
  return {*state_, open_section(*state_, "", &state_->root, SourcePlace{state_->file, 1, 1})};
}

bool ConfigDocument::has_problems() const { return !state_->problems.empty(); }

void ConfigDocument::throw_problems() const {
  if (has_problems()) throw_config_problems(state_->problems);
}

void ConfigDocument::finish() {
  for (const ConfigSection& section : state_->sections) report_unknown_keys(*state_, section);
  throw_problems();
}

std::vector<std::string> ConfigDocument::asked_keys() const {
  std::vector<std::string> keys;
  for (const ConfigSection& section : state_->sections) {
    std::string name;
    bool in_index = false;
    for (const char c : section.name) {
      if (c == ']') in_index = false;
      if (!in_index) name += c;
      if (c == '[') in_index = true;
    }
    for (const std::string& key : section.valid_keys) keys.push_back(full_name(name, key));
    for (const std::string& key : section.refused_keys) keys.push_back(full_name(name, key));
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

}  // namespace trivet
