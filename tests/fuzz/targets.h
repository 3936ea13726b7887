// What is fuzzed: each reader of bytes from outside, and the job file. A target gets any bytes; it may throw
// trivet::Error with a message, and nothing else may happen.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace trivet::testing {

struct FuzzTarget {
  const char* name;  // also of its folder in tests/fuzz/corpus
  void (*run)(std::span<const std::uint8_t> bytes);
};

std::span<const FuzzTarget> fuzz_targets();

// Runs one input. std::terminate() if the target throws anything but trivet::Error, or an Error without a message.
void run_fuzz_target(const FuzzTarget& target, std::span<const std::uint8_t> bytes);

}  // namespace trivet::testing
