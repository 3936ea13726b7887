// Text -> tree of values with places. The only file that uses yaml-cpp: its event interface, so that limits hold while
// the text is read, before anything is built from it.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

#include "runtime/formats/config_tree.h"
#include "trivet/base/text.h"
#include "trivet/base/utf8.h"

namespace trivet {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

// Refuses what the YAML library would misread: it takes byte 4 for the end of the file and guesses UTF-16.
void check_characters(std::string_view text, SourcePlace place) {
  const bool has_lines = place.line > 0;
  bool in_indentation = true;
  const auto fail = [&](const std::string& message, const std::string& hint) {
    throw Error(ErrorCode::job, place, message, hint);
  };
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const std::size_t length = utf8_character(text, i);
    if (length == 0) {
      fail(fmt::format("byte 0x{:02x} is not valid UTF-8", static_cast<unsigned>(static_cast<unsigned char>(c))),
           "the file must be text in UTF-8");
    }
    if (is_control(c) && c != '\n' && c != '\r' && c != '\t') {
      fail(fmt::format("control character 0x{:02x}", static_cast<unsigned>(c)), "is this a text file?");
    }
    if (c == '\t' && in_indentation) fail("a tab in the indentation of a line", "indent with spaces");
    if (c == '\n') {
      if (has_lines) ++place.line;
      if (has_lines) place.column = 1;
      in_indentation = true;
    } else {
      if (has_lines) ++place.column;
      in_indentation = in_indentation && c == ' ';
    }
    i += length;
  }
}

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, const std::string& file, bool whole_file, std::vector<ConfigProblem>& problems)
      : text_(text), file_(file), whole_file_(whole_file), problems_(problems) {}

  SourcePlace place(const YAML::Mark& mark) const {
    return whole_file_ ? SourcePlace{file_, mark.line + 1, mark.column + 1} : SourcePlace{file_, 0, 0};
  }

  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) const {
    throw Error(ErrorCode::job, place(mark), "anchors (&name) and aliases (*name) are not supported",
                "write the value out; put text that starts with & or * in quotes");
  }

  ConfigValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      throw Error(ErrorCode::job, place(mark), "text after the end of the document",
                  "the file must hold one YAML document; check the indentation and brackets above this line");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    ConfigValue value;
    add(mark, "", std::move(value));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_anchor(mark); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& text) override {
    ConfigValue value;
    value.kind = ConfigValue::Kind::scalar;
    value.quoted = tag == "!";
    value.text = text;
    if (!is_config_text(text)) {
      throw Error(ErrorCode::job, place(mark),
                  fmt::format("the value '{}' has a line break or control character", shorten(text)),
                  "write it on one line");
    }
    if (value.quoted) check_quotes(mark);
    add(mark, tag, std::move(value));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    start(mark, tag, ConfigValue::Kind::list);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    start(mark, tag, ConfigValue::Kind::map);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapEnd() override {
    find_duplicates(open_.back());
    end();
  }

 private:
  // The YAML library takes the end of the file for a closing quote, so a cut file would pass.
  void check_quotes(const YAML::Mark& mark) const {
    std::size_t at = static_cast<std::size_t>(mark.pos);
    const char quote = at < text_.size() ? text_[at] : '\0';
    if (quote == '|' || quote == '>') return;
    if (quote != '"' && quote != '\'') refuse_tag(mark, "!");
    for (++at; at < text_.size(); ++at) {
      if (quote == '"' && text_[at] == '\\') {
        ++at;
      } else if (text_[at] == quote) {
        if (quote == '"' || at + 1 >= text_.size() || text_[at + 1] != quote) return;
        ++at;  // '' stands for one quote inside single quotes
      }
    }
    throw Error(ErrorCode::job, place(mark), "the quote that opens here is not closed", "is the file cut short?");
  }

  [[noreturn]] void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    throw Error(ErrorCode::job, place(mark), fmt::format("the tag '{}' is not supported", shorten(tag)),
                "leave the tag out; put text that starts with ! in quotes");
  }

  bool expects_key() const {
    return !open_.empty() && open_.back().kind == ConfigValue::Kind::map &&
           open_.back().keys.size() == open_.back().items.size();
  }

  void check(const YAML::Mark& mark, const std::string& tag) {
    if (++nodes_ > kConfigMaxNodes) {
      throw Error(ErrorCode::job, place(mark), fmt::format("more than {} values", kConfigMaxNodes));
    }
    if (!tag.empty() && tag != "?" && tag != "!") refuse_tag(mark, tag);
  }

  void start(const YAML::Mark& mark, const std::string& tag, ConfigValue::Kind kind) {
    check(mark, tag);
    if (expects_key())
      throw Error(ErrorCode::job, place(mark), "a key must be a plain name, found a list or section",
                  "is a bracket not closed?");
    if (open_.size() >= kConfigMaxDepth) {
      throw Error(ErrorCode::job, place(mark), fmt::format("nested deeper than {} levels", kConfigMaxDepth));
    }
    ConfigValue value;
    value.kind = kind;
    value.place = place(mark);
    open_.push_back(std::move(value));
  }

  void end() {
    ConfigValue value = std::move(open_.back());
    open_.pop_back();
    attach(std::move(value));
  }

  void add(const YAML::Mark& mark, const std::string& tag, ConfigValue value) {
    check(mark, tag);
    value.place = place(mark);
    if (!expects_key()) {
      attach(std::move(value));
      return;
    }
    if (value.kind == ConfigValue::Kind::null) throw Error(ErrorCode::job, value.place, "a key is empty");
    open_.back().keys.push_back({std::move(value.text), std::move(value.place)});
  }

  void attach(ConfigValue value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    ConfigValue& parent = open_.back();
    // The library places a value that is not there at what follows it, often some lines below.
    if (value.kind == ConfigValue::Kind::null && !parent.keys.empty()) value.place = parent.keys.back().place;
    parent.items.push_back(std::move(value));
  }

  void find_duplicates(const ConfigValue& map) {
    std::map<std::string_view, const SourcePlace*> first;
    for (const ConfigKey& key : map.keys) {
      const auto [entry, is_new] = first.emplace(key.name, &key.place);
      if (is_new) continue;
      const int line = entry->second->line;
      const std::string where = line > 0 ? fmt::format("; the first is in line {}", line) : "";
      problems_.push_back(
          {key.place, fmt::format("the key '{}' is there twice{}", shorten(key.name), where), "remove one of them"});
    }
  }

  std::string_view text_;
  const std::string& file_;
  bool whole_file_;
  std::vector<ConfigProblem>& problems_;
  ConfigValue root_;
  std::vector<ConfigValue> open_;
  std::size_t nodes_ = 0;
  int documents_ = 0;
};

}  // namespace

bool is_config_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_character(text, i);
    if (length == 0 || is_control(text[i])) return false;
    i += length;
  }
  return true;
}

ConfigValue parse_config_value(std::string_view text, const std::string& file, bool whole_file,
                               std::vector<ConfigProblem>& problems) {
  const SourcePlace start = whole_file ? SourcePlace{file, 1, 1} : SourcePlace{file, 0, 0};
  if (text.size() > kConfigMaxBytes) {
    throw Error(
        ErrorCode::job, start,
        fmt::format("{} is too large; the limit is {}", format_bytes(text.size()), format_bytes(kConfigMaxBytes)));
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // a byte order mark would shift the library's offsets
  check_characters(text, start);
  TreeBuilder builder(text, file, whole_file, problems);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    if (error.msg == YAML::ErrorMsg::UNKNOWN_ANCHOR) builder.refuse_anchor(error.mark);
    throw Error(ErrorCode::job, builder.place(error.mark), "not valid YAML: " + error.msg,
                error.msg == YAML::ErrorMsg::EOF_IN_SCALAR
                    ? "a quote is not closed"
                    : "check the indentation, colons, quotes and brackets here and in the line above");
  }
  return builder.take();
}

}  // namespace trivet
