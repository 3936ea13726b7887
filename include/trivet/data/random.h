// The random choices about data: which samples are held out, their order, their augmentation.
#pragma once

#include <cstdint>

namespace trivet {

// What a draw is for. Large numbers, so that these keys never meet those of a graph's ops, which count from 0.
enum class DataDraw : std::uint64_t {
  split = 0x73706c6974ULL,
  shuffle = 0x73687566666cULL,
  augment = 0x6175676d656eULL,
  balance = 0x62616c616e63ULL,
};

// The key of the draws of one purpose, a pure function of its arguments.
std::uint64_t data_key(std::uint64_t seed, DataDraw purpose, std::uint64_t epoch);

// A sequence of draws from Philox4x32-10, a pure function of (key, stream).
class DrawSequence {
 public:
  explicit DrawSequence(std::uint64_t key, std::uint64_t stream = 0) : key_(key), stream_(stream) {}

  std::uint64_t next();

  // Uniform in [0, bound) without bias, bound > 0: Lemire, "Fast random integer generation in an interval",
  // ACM TOMACS 29(1), 2019, algorithm 5.
  std::uint64_t below(std::uint64_t bound);

 private:
  std::uint64_t key_;
  std::uint64_t stream_;
  std::uint64_t counter_ = 0;
  std::uint64_t spare_ = 0;  // Philox gives two numbers of 64 bits at a time
  bool has_spare_ = false;
};

}  // namespace trivet
