// Overrides from a command line: "train.epochs=3", "model.layers[0].units=64".
#include <charconv>

#include "runtime/formats/config_tree.h"

namespace trivet {
namespace {

constexpr const char* kForm = "write it as section.key=value, such as train.epochs=3 or model.layers[0].units=64";

// One step of a path: a key of a section, or an entry of a list.
struct Step {
  std::string key;
  std::size_t index = 0;
  bool is_index = false;
};

bool is_key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

class Override {
 public:
  explicit Override(const std::string& assignment) : place_{"--set " + shorten(assignment), 0, 0} {
    const std::size_t equals = assignment.find('=');
    if (equals == std::string::npos) fail("there is no '='", kForm);
    parse_path(std::string_view(assignment).substr(0, equals));
    parse_value(std::string_view(assignment).substr(equals + 1));
  }

  void apply(ConfigValue& root) {
    ConfigValue* value = &root;
    std::string name;
    for (const Step& step : steps_) {
      value = step.is_index ? entry_of(*value, name, step.index) : value_of(*value, name, step.key);
      name += step.is_index ? fmt::format("[{}]", step.index) : (name.empty() ? "" : ".") + step.key;
    }
    *value = std::move(value_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, const std::string& hint) const {
    throw Error(ErrorCode::job, place_, message, hint);
  }

  void parse_path(std::string_view path) {
    std::size_t at = 0;
    while (true) {
      const std::size_t start = at;
      while (at < path.size() && is_key_character(path[at])) ++at;
      if (at == start) {
        fail(at < path.size() ? fmt::format("'{}' cannot start a key", shorten(path.substr(at))) : "a key is missing",
             kForm);
      }
      steps_.push_back({std::string(path.substr(start, at - start)), 0, false});
      while (at < path.size() && path[at] == '[') at = parse_index(path, at + 1);
      if (steps_.size() > kConfigMaxDepth) fail(fmt::format("more than {} levels", kConfigMaxDepth), kForm);
      if (at == path.size()) return;
      if (path[at] != '.') fail(fmt::format("'{}' cannot follow a key", shorten(path.substr(at))), kForm);
      ++at;
    }
  }

  std::size_t parse_index(std::string_view path, std::size_t at) {
    std::size_t index = 0;
    const char* begin = path.data() + at;
    const auto [end, error] = std::from_chars(begin, path.data() + path.size(), index);
    if (error != std::errc() || end == path.data() + path.size() || *end != ']') {
      fail("an index must be a whole number in brackets", kForm);
    }
    if (steps_.size() > kConfigMaxDepth) fail(fmt::format("more than {} levels", kConfigMaxDepth), kForm);
    steps_.push_back({"", index, true});
    return at + static_cast<std::size_t>(end - begin) + 1;
  }

  void parse_value(std::string_view text) {
    std::vector<ConfigProblem> problems;
    value_ = parse_config_value(text, place_.file, false, problems);
    if (!problems.empty()) throw_config_problems(std::move(problems));
    if (value_.kind == ConfigValue::Kind::null) fail("there is no value after '='", "for empty text write key=''");
    if (value_.kind == ConfigValue::Kind::map) fail("the value is a section", "set each of its keys by itself");
  }

  ConfigValue* value_of(ConfigValue& section, const std::string& name, const std::string& key) const {
    if (section.kind == ConfigValue::Kind::null) section.kind = ConfigValue::Kind::map;
    if (section.kind != ConfigValue::Kind::map) {
      fail(fmt::format("'{}' is {}, so it has no key '{}'", name, describe(section), key),
           section.kind == ConfigValue::Kind::list ? "name an entry of the list, such as " + name + "[0]" : "");
    }
    for (std::size_t i = 0; i < section.keys.size(); ++i) {
      if (section.keys[i].name == key) return &section.items[i];
    }
    section.keys.push_back({key, place_});
    section.items.emplace_back().place = place_;
    return &section.items.back();
  }

  ConfigValue* entry_of(ConfigValue& list, const std::string& name, std::size_t index) const {
    if (list.kind != ConfigValue::Kind::list) {
      const bool absent = list.kind == ConfigValue::Kind::null;
      fail(absent ? fmt::format("there is no list '{}'", name)
                  : fmt::format("'{}' is {}, not a list", name, describe(list)),
           fmt::format("set the whole list: {}=[...]", name));
    }
    if (index >= list.items.size()) {
      fail(fmt::format("'{}' has no entry [{}]: it is {}", name, index, describe(list)), "the first entry is [0]");
    }
    return &list.items[index];
  }

  SourcePlace place_;
  std::vector<Step> steps_;
  ConfigValue value_;
};

}  // namespace

void apply_overrides(ConfigDocument& document, std::span<const std::string> overrides) {
  if (overrides.size() > kConfigMaxOverrides) {
    throw Error(ErrorCode::job, SourcePlace{"--set", 0, 0},
                fmt::format("{} overrides; the limit is {}", overrides.size(), kConfigMaxOverrides));
  }
  for (const std::string& assignment : overrides) Override(assignment).apply(document.state_->root);
}

}  // namespace trivet
