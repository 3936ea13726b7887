// A checked reader of YAML files that people write: limits against hostile files, typed access with ranges, and errors
// that name the place, what was found, what was expected and the nearest valid name.
//
//   ConfigDocument document = ConfigDocument::parse(text, "job.yaml");
//   apply_overrides(document, overrides);
//   ConfigNode train = document.root().section("train");
//   std::int64_t epochs = train.integer("epochs", 10, 1, 1000000);
//   document.finish();  // throws one Error(job) that lists every problem, keys that nothing asked for among them
//
// Scalars follow YAML 1.2's core schema, strictly: `true` and `false` are the only flags, `5.0` is no integer, infinite
// and NaN are no numbers. A key that asks for text takes any scalar but null. Anchors, aliases and tags are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/base/error.h"

namespace trivet {

inline constexpr std::size_t kConfigMaxBytes = std::size_t{1} << 20;
inline constexpr std::size_t kConfigMaxDepth = 32;
inline constexpr std::size_t kConfigMaxNodes = 100'000;
inline constexpr std::size_t kConfigMaxProblemsShown = 20;
inline constexpr std::size_t kConfigMaxOverrides = 1000;

struct NumberRange {
  double min = 0;
  double max = 0;
  bool open_min = false;
  bool open_max = false;

  static NumberRange closed(double min, double max) { return {min, max, false, false}; }  // [min, max]
  static NumberRange below(double min, double max) { return {min, max, false, true}; }    // [min, max)
  static NumberRange above(double min, double max) { return {min, max, true, false}; }    // (min, max]
};

class ConfigNode;
struct ConfigState;

class ConfigDocument {
 public:
  // Throws Error(job) if the text is no single YAML document with a section (mapping) at its top, or passes a limit.
  // `file` names the text in errors.
  static ConfigDocument parse(std::string_view text, const std::string& file);

  ConfigDocument(ConfigDocument&&) noexcept;
  ConfigDocument& operator=(ConfigDocument&&) noexcept;
  ~ConfigDocument();

  // Nodes stay valid as long as the document, and until the next override.
  ConfigNode root();

  bool has_problems() const;

  // Throws Error(job) if there are problems. Its place is the first problem's; its message lists the others, each
  // with its place and hint, up to kConfigMaxProblemsShown.
  void throw_problems() const;

  // Adds a problem for each key that was not asked for in the sections that were opened; then throw_problems().
  void finish();

  // Every key asked for so far, sorted, such as "train.optimizer.lr" and "model.layers[].units".
  std::vector<std::string> asked_keys() const;

 private:
  friend void apply_overrides(ConfigDocument& document, std::span<const std::string> overrides);
  explicit ConfigDocument(std::unique_ptr<ConfigState> state);
  std::unique_ptr<ConfigState> state_;
};

// Sets values as a command line gives them: "train.epochs=3", "model.layers[0].units=64", "model.hidden=[64, 32]".
// The value is a YAML scalar or list. Missing sections are made; a list's entry must exist. The last one wins.
// Throws Error(job) whose place's file is "--set <override>"; so do later errors about the value.
void apply_overrides(ConfigDocument& document, std::span<const std::string> overrides);

// A section of a document, or the place where one is absent. Typed access records a problem and returns the default
// (or zero, or empty) if the value cannot be used. Each key asked for becomes a known key of the section.
class ConfigNode {
 public:
  bool present() const;
  bool has(std::string_view key) const;
  SourcePlace place() const;
  SourcePlace place(std::string_view key) const;  // of the key's value; of the section if the key is absent

  std::int64_t integer(const std::string& key, std::int64_t fallback, std::int64_t min, std::int64_t max) const;
  double number(const std::string& key, double fallback, NumberRange range) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  // Returns "" if the value is none of the choices, so that callers need not judge keys that depend on it.
  std::string choice(const std::string& key, const std::string& fallback, std::span<const std::string> choices) const;
  std::filesystem::path path(const std::string& key) const;  // as written; empty if absent
  std::vector<std::int64_t> integers(const std::string& key, const std::vector<std::int64_t>& fallback,
                                     std::int64_t min, std::int64_t max, std::size_t max_count) const;
  ConfigNode section(const std::string& key) const;
  std::vector<ConfigNode> sections(const std::string& key, std::size_t max_count) const;  // a list of sections

  // The same for keys that must be there. In an absent section they report nothing: required_section() has done so.
  std::int64_t required_integer(const std::string& key, std::int64_t min, std::int64_t max) const;
  double required_number(const std::string& key, NumberRange range) const;
  std::string required_text(const std::string& key) const;
  std::string required_choice(const std::string& key, std::span<const std::string> choices) const;
  std::filesystem::path required_path(const std::string& key) const;
  ConfigNode required_section(const std::string& key) const;

  // Known, but out of place here: a problem if the key is there.
  void refuse(const std::string& key, const std::string& why, const std::string& hint) const;

  // Known, but not looked at: what decides about it has a problem of its own.
  void ignore(const std::string& key) const;

  // Adds a problem at the key's place; the message is prefixed with the key's full name.
  void problem(const std::string& key, const std::string& message, const std::string& hint) const;

 private:
  friend class ConfigDocument;
  ConfigNode(ConfigState& state, std::size_t section) : state_(&state), section_(section) {}

  ConfigState* state_ = nullptr;
  std::size_t section_ = 0;
};

// Valid UTF-8 without control characters and line breaks: what a value of a configuration file can hold.
bool is_config_text(std::string_view text);

// Writes what the reader reads: sections by indentation, values in a form that reads back as the same bits.
class ConfigWriter {
 public:
  void open(std::string_view section);
  void close();
  void text(std::string_view key, std::string_view value);  // is_config_text(value) must hold
  void integer(std::string_view key, std::int64_t value);
  void number(std::string_view key, double value);  // finite
  void flag(std::string_view key, bool value);
  void integers(std::string_view key, std::span<const std::int64_t> values);
  void open_list(std::string_view key);
  void next_item();  // the following keys belong to a new section of the open list
  void close_list();
  const std::string& str() const { return out_; }

 private:
  void key(std::string_view name);

  std::string out_;
  std::size_t indent_ = 0;
  bool item_ = false;  // the next key opens a list's entry
};

}  // namespace trivet
