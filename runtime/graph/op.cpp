#include "trivet/graph/op.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/graph/graph.h"

namespace trivet {
namespace {

const char* kind_name(const AttrValue& v) {
  constexpr std::array names = {"a flag", "an integer",         "a number",
                                "a text", "a list of integers", "a list of numbers"};
  return names[v.index()];
}

// Entries of a list; 0 for what is not one.
std::size_t list_size(const AttrValue& value) {
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) return list->size();
  if (const auto* list = std::get_if<std::vector<double>>(&value)) return list->size();
  return 0;
}

}  // namespace

std::string to_string(const AttrValue& value) {
  struct Printer {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(std::int64_t v) const { return fmt::format("{}", v); }
    // Always with a point or exponent, so that a number is never read as an integer.
    std::string operator()(double v) const {
      std::string s = fmt::format("{}", v);
      return s.find_first_of(".en") == std::string::npos ? s + ".0" : s;
    }
    std::string operator()(const std::string& v) const { return v; }
    std::string operator()(const std::vector<std::int64_t>& v) const { return fmt::format("[{}]", fmt::join(v, ",")); }
    std::string operator()(const std::vector<double>& v) const {
      std::vector<std::string> texts;
      for (const double x : v) texts.push_back((*this)(x));
      return fmt::format("[{}]", join(texts, ","));
    }
  };
  return std::visit(Printer{}, value);
}

Attrs AttrSchema::complete(const Attrs& given, const std::string& where) const {
  Attrs result;
  result.reserve(specs.size());
  std::size_t used = 0;
  for (const AttrSpec& spec : specs) {
    const auto found = std::find_if(given.begin(), given.end(), [&](const auto& a) { return a.first == spec.name; });
    if (found == given.end()) {
      if (spec.required) throw Error(ErrorCode::graph, fmt::format("{}: attribute '{}' is missing", where, spec.name));
      result.emplace_back(spec.name, spec.fallback);
      continue;
    }
    ++used;
    AttrValue value = found->second;
    // Integers are fine numbers.
    if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value);
        list && std::holds_alternative<std::vector<double>>(spec.fallback)) {
      value = std::vector<double>(list->begin(), list->end());
    }
    if (std::holds_alternative<double>(spec.fallback) && std::holds_alternative<std::int64_t>(value)) {
      value = static_cast<double>(std::get<std::int64_t>(value));
    }
    if (value.index() != spec.fallback.index()) {
      throw Error(ErrorCode::graph, fmt::format("{}: attribute '{}' is {}, expected {}", where, spec.name,
                                                kind_name(value), kind_name(spec.fallback)));
    }
    if (const std::size_t size = list_size(value); size > kernels::kMaxListSize) {
      throw Error(ErrorCode::graph, fmt::format("{}: attribute '{}' has {} entries, at most {} are possible", where,
                                                spec.name, size, kernels::kMaxListSize));
    }
    if (const auto* text = std::get_if<std::string>(&value); text && text->size() >= kernels::kMaxTextSize) {
      throw Error(ErrorCode::graph, fmt::format("{}: attribute '{}' has {} characters, at most {} are possible", where,
                                                spec.name, text->size(), kernels::kMaxTextSize - 1));
    }
    if (const auto* text = std::get_if<std::string>(&value);
        text && !spec.choices.empty() &&
        std::find(spec.choices.begin(), spec.choices.end(), *text) == spec.choices.end()) {
      throw Error(ErrorCode::graph, fmt::format("{}: attribute '{}' is '{}'", where, spec.name, *text),
                  fmt::format("one of {}", join(spec.choices, ", ")));
    }
    result.emplace_back(spec.name, std::move(value));
  }
  if (used != given.size()) {
    std::vector<std::string> names;
    for (const AttrSpec& spec : specs) names.push_back(spec.name);
    for (const auto& [name, value] : given) {
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        const std::string near = nearest(name, names);
        throw Error(
            ErrorCode::graph, fmt::format("{}: there is no attribute '{}'", where, name),
            near.empty() ? fmt::format("attributes: {}", join(names, ", ")) : fmt::format("did you mean '{}'?", near));
      }
    }
    throw Error(ErrorCode::graph, fmt::format("{}: an attribute is given twice", where));
  }
  return result;
}

std::vector<std::byte> AttrSchema::pack(const Attrs& attrs) const {
  std::vector<std::byte> bytes(struct_size);
  if (construct) construct(bytes.data());
  for (std::size_t i = 0; i < specs.size(); ++i) specs[i].store(bytes.data(), attrs[i].second);
  return bytes;
}

void OpContext::fail(const std::string& message, const std::string& hint) const {
  std::vector<std::string> types;
  for (int i = 0; i < num_inputs(); ++i) types.push_back(has(i) ? to_string(in(i)) : "none");
  throw Error(ErrorCode::graph, fmt::format("{}: {}({}): {}", node_, op_, join(types, ", "), message), hint);
}

int OpContext::axis(std::int64_t axis, int input) const {
  const int rank = in(input).rank();
  if (axis < -rank || axis >= rank) fail(fmt::format("axis {} is outside of rank {}", axis, rank));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace trivet
