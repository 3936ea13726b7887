// Small text helpers shared by errors, tables and readers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trivet {

// The candidate nearest to `word` by edit distance, or "" if none is near enough to be meant.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

std::string format_bytes(std::uint64_t bytes);  // "1.5 MiB"
std::string format_count(double n);             // "25.00 M"
std::string format_seconds(double seconds);     // "1.23 ms", "4 m 05 s"
std::string join(std::span<const std::string> parts, std::string_view separator);

}  // namespace trivet
