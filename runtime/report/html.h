// Pieces of HTML.
#pragma once

#include <string>
#include <string_view>

namespace trivet::report {

// Text that may stand in an element or in a quoted attribute. What is not UTF-8 and control characters become U+FFFD.
std::string escape(std::string_view text);

// The beginning of `text`, at most `bytes` of it, cut between characters, with "..." if something was cut.
std::string shorten(std::string_view text, std::size_t bytes);

// A whole page: head with the policy, styles, `body`, script.
std::string page(std::string_view title, std::string_view body);

// "<section id=... ><h2>...": `content` is HTML. Nothing if it is empty.
std::string section(std::string_view id, std::string_view title, std::string_view content);

// Text in fixed pitch; with `open` false only its title is seen at first.
std::string text_block(std::string_view title, std::string_view text, bool open);

}  // namespace trivet::report
