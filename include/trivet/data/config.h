// What a job file says about data. Plain values; the job file's checker has verified ranges.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace trivet {

// A pair of IDX files, plain or gzip (told apart by content, not by name). Labels may be absent for inference.
struct IdxSource {
  std::filesystem::path images;
  std::filesystem::path labels;  // empty: none
};

struct AugmentConfig {
  std::int64_t crop_padding = 0;  // pad by so many zero pixels on each side, then crop at a random place; 0 is off
  bool flip = false;              // mirror left to right with probability 1/2
  bool operator==(const AugmentConfig&) const = default;
};

struct DataConfig {
  IdxSource train;
  std::optional<IdxSource> test;
  double validation = 0.1;  // share of `train` held out, in [0, 1)
  bool normalize = true;    // to mean 0 and deviation 1 per channel, computed on the training split alone
  AugmentConfig augment;
  std::int64_t prefetch = 4;  // batches prepared ahead by a background thread
};

}  // namespace trivet
