// From bytes to floats: x = (value - mean) / stddev, for each channel.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "trivet/data/image_data.h"

namespace trivet {

// In units of raw pixel values, 0 to 255; one number for each channel.
struct Normalization {
  std::vector<double> mean;
  std::vector<double> stddev;  // > 0

  // Without normalization: x = value / 255, in [0, 1].
  static Normalization unit(std::int64_t channels);

  // x for each value of each channel, (channels, 256): computed in double, rounded once.
  std::vector<float> table() const;

  bool operator==(const Normalization&) const = default;
};

// Mean and population deviation over the pixels of the given samples: those of the training split, so that nothing is
// learnt from the others. Sums are exact integers, so the result depends on the set of samples alone, not on their
// order. A channel of one value gets the deviation 1. Error(data) if there are no samples or an index is out of range.
Normalization compute_normalization(const ImageData& data, std::span<const std::int64_t> samples);

// {"mean": [...], "stddev": [...]}; what comes back is equal to the last bit. from_json throws Error(checkpoint) unless
// both are lists of the same length, at least 1, of finite numbers, with deviations > 0.
void to_json(nlohmann::json& json, const Normalization& normalization);
void from_json(const nlohmann::json& json, Normalization& normalization);

}  // namespace trivet
