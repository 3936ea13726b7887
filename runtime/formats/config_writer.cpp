#include <fmt/format.h>

#include <cmath>

#include "runtime/formats/config_tree.h"

namespace trivet {
namespace {

// Names that no YAML reader takes for anything but text stand without quotes.
bool is_plain(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (text.empty() || !(letter(text[0]) || text[0] == '/')) return false;
  for (const char c : text) {
    if (!letter(c) && !(c >= '0' && c <= '9') && std::string_view("_-./").find(c) == std::string_view::npos)
      return false;
  }
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  for (const char* word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return false;
  }
  return true;
}

std::string quote(std::string_view text) {
  if (!is_config_text(text)) {
    throw Error(ErrorCode::internal, fmt::format("'{}' cannot be written as a configuration value", shorten(text)));
  }
  if (is_plain(text)) return std::string(text);
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

}  // namespace

void ConfigWriter::key(std::string_view name) {
  out_ += std::string(2 * indent_, ' ');
  if (item_) out_.replace(out_.size() - 2, 2, "- ");
  item_ = false;
  out_ += name;
  out_ += ':';
}

void ConfigWriter::open(std::string_view section) {
  key(section);
  out_ += '\n';
  ++indent_;
}

void ConfigWriter::close() { --indent_; }

void ConfigWriter::open_list(std::string_view name) {
  open(name);
  ++indent_;  // the keys of an entry stand two columns behind its dash
}

void ConfigWriter::next_item() { item_ = true; }

void ConfigWriter::close_list() { indent_ -= 2; }

void ConfigWriter::text(std::string_view name, std::string_view value) {
  key(name);
  out_ += fmt::format(" {}\n", quote(value));
}

void ConfigWriter::integer(std::string_view name, std::int64_t value) {
  key(name);
  out_ += fmt::format(" {}\n", value);
}

void ConfigWriter::number(std::string_view name, double value) {
  if (!std::isfinite(value))
    throw Error(ErrorCode::internal, fmt::format("{} is {}, not a finite number", name, value));
  key(name);
  out_ += fmt::format(" {}\n", value);  // the shortest form that reads back as the same bits
}

void ConfigWriter::flag(std::string_view name, bool value) {
  key(name);
  out_ += value ? " true\n" : " false\n";
}

void ConfigWriter::integers(std::string_view name, std::span<const std::int64_t> values) {
  key(name);
  out_ += fmt::format(" [{}]\n", fmt::join(values, ", "));
}

}  // namespace trivet
