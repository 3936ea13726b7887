// The tree behind ConfigDocument. Private to the reader of configuration files.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/base/error.h"
#include "trivet/formats/config.h"

namespace trivet {

struct ConfigKey {
  std::string name;
  SourcePlace place;
};

struct ConfigValue {
  enum class Kind { null, scalar, list, map };

  const ConfigValue* find(std::string_view key) const;

  Kind kind = Kind::null;
  bool quoted = false;  // of a scalar: quoted or a block, so never a number or flag
  std::string text;     // of a scalar
  SourcePlace place;
  std::vector<ConfigValue> items;  // of a list; or a map's values
  std::vector<ConfigKey> keys;     // of a map: keys[i] names items[i]
};

struct ConfigProblem {
  SourcePlace place;
  std::string message;
  std::string hint;
};

// A section that a reader opened, with the keys that it asked for.
struct ConfigSection {
  std::string name;                    // "model.layers[0]"; "" is the root
  const ConfigValue* value = nullptr;  // null: absent
  SourcePlace place;
  std::vector<std::string> valid_keys;
  std::vector<std::string> refused_keys;
};

struct ConfigState {
  ConfigValue root;
  std::string file;
  std::vector<ConfigProblem> problems;
  std::vector<ConfigSection> sections;
  std::map<std::string, std::size_t, std::less<>> section_of_name;
};

// "train.epochs"; at the root just "epochs".
std::string full_name(const std::string& section, std::string_view key);

// The index of the section of this name, which is opened if it was not.
std::size_t open_section(ConfigState& state, const std::string& name, const ConfigValue* value,
                         const SourcePlace& place);

// Parses one YAML document. Duplicate keys are added to `problems`; everything else that is wrong throws Error(job).
// With `whole_file` false, all places are just `file`: the text stands on a command line.
ConfigValue parse_config_value(std::string_view text, const std::string& file, bool whole_file,
                               std::vector<ConfigProblem>& problems);

// What a value is, for messages: "the text 'abc'", "5.0", "a list of 2 entries", "a section", "nothing".
std::string describe(const ConfigValue& value);

// At most 60 bytes of `text`, cut between characters, with control characters shown as '?'.
std::string shorten(std::string_view text);

// YAML 1.2's forms of numbers, decimal only.
bool is_integer_form(std::string_view text);
bool is_number_form(std::string_view text);

[[noreturn]] void throw_config_problems(std::vector<ConfigProblem> problems);

}  // namespace trivet
