// JSON from outside.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace trivet {

// Null unless the text is JSON of at most 32 levels: what is deeper would overflow the stack of whoever walks through
// it, nlohmann's own dump() among others.
nlohmann::json parse_json(std::string_view text);

}  // namespace trivet
