// The styles and the script of every page.
#pragma once

#include <string_view>

namespace trivet::report {

extern const std::string_view kStyle;
extern const std::string_view kScript;

}  // namespace trivet::report
