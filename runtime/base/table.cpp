#include "trivet/base/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "trivet/base/error.h"

namespace trivet {

namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// Marks drawn over the character before them.
constexpr std::array<Range, 8> kCombining = {{{0x0300, 0x036F},
                                              {0x1AB0, 0x1AFF},
                                              {0x1DC0, 0x1DFF},
                                              {0x200B, 0x200F},
                                              {0x20D0, 0x20FF},
                                              {0xFE00, 0xFE0F},
                                              {0xFE20, 0xFE2F},
                                              {0xE0100, 0xE01EF}}};

constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115F},
                                         {0x2E80, 0x303E},
                                         {0x3041, 0xA4CF},
                                         {0xAC00, 0xD7A3},
                                         {0xF900, 0xFAFF},
                                         {0xFE30, 0xFE6F},
                                         {0xFF00, 0xFF60},
                                         {0x1F300, 0x1FAFF},
                                         {0x20000, 0x3FFFD}}};

template <std::size_t N>
bool in_ranges(char32_t c, const std::array<Range, N>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(), [c](const Range& r) { return c >= r.first && c <= r.last; });
}

struct Character {
  char32_t code = 0;
  std::size_t bytes = 1;
};

// The first character of non-empty `text`; a byte that begins no whole UTF-8 character stands for itself.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  std::size_t length = 1;
  char32_t code = lead;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    code = lead & 0x1Fu;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    code = lead & 0x0Fu;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    code = lead & 0x07u;
  }
  if (length > text.size()) return {lead, 1};
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) return {lead, 1};
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  return {code, length};
}

std::size_t character_width(char32_t c) {
  if (in_ranges(c, kCombining)) return 0;
  return in_ranges(c, kWide) ? 2 : 1;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A number, alone or followed by "%" or by a space and its unit.
bool is_number(std::string_view cell) {
  std::size_t i = (cell.starts_with('-') || cell.starts_with('+')) ? 1 : 0;
  if (i >= cell.size() || !is_digit(cell[i])) return false;
  while (i < cell.size() && (is_digit(cell[i]) || cell[i] == '.' || cell[i] == ',')) ++i;
  if (i + 1 < cell.size() && (cell[i] == 'e' || cell[i] == 'E')) {
    std::size_t exponent = i + 1;
    if (cell[exponent] == '-' || cell[exponent] == '+') ++exponent;
    while (exponent < cell.size() && is_digit(cell[exponent])) i = ++exponent;
  }
  return i == cell.size() || cell[i] == '%' || cell[i] == ' ';
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const Character c = first_character(text);
    width += character_width(c.code);
    text.remove_prefix(c.bytes);
  }
  return width;
}

std::string_view fit_width(std::string_view text, std::size_t columns) {
  std::size_t width = 0;
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    const Character c = first_character(text.substr(bytes));
    width += character_width(c.code);
    if (width > columns) break;
    bytes += c.bytes;
  }
  return text.substr(0, bytes);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_character(text);
    // U+0080 to U+009F are control characters too: U+009B alone begins a terminal's escape sequence.
    if (c.code < 0x20 || (c.code >= 0x7F && c.code <= 0x9F)) {
      out += ' ';
    } else {
      out += text.substr(0, c.bytes);
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {}

void Table::add_row(std::vector<std::string> cells) {
  if (cells.size() != header_.size()) {
    throw Error(ErrorCode::internal,
                fmt::format("a table row has {} cells; the table has {} columns", cells.size(), header_.size()));
  }
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::str() const {
  std::vector<std::size_t> widths;
  std::vector<bool> right;
  for (std::size_t c = 0; c < header_.size(); ++c) {
    std::size_t width = display_width(header_[c]);
    bool numbers = !rows_.empty();
    for (const auto& row : rows_) {
      width = std::max(width, display_width(row[c]));
      numbers = numbers && (row[c].empty() || row[c] == "-" || is_number(row[c]));
    }
    widths.push_back(width);
    right.push_back(numbers);
  }
  std::string out;
  const auto add = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string padding(widths[c] - display_width(cells[c]), ' ');
      if (c > 0) line += "  ";
      line += right[c] ? padding + cells[c] : cells[c] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  add(header_);
  for (const auto& row : rows_) add(row);
  return out;
}

}  // namespace trivet
