// Small sets of images for tests.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "trivet/data/image_data.h"
#include "trivet/data/random.h"

namespace trivet::testing {

inline void set_pixels(ImageData& data, const std::vector<std::uint8_t>& pixels) { data.pixels = DataBytes(pixels); }

inline std::vector<std::uint8_t> pixels_of(const ImageData& data) {
  std::vector<std::uint8_t> pixels;
  data.pixels.for_each_piece([&](std::span<const std::byte> piece) {
    for (const std::byte b : piece) pixels.push_back(std::to_integer<std::uint8_t>(b));
  });
  return pixels;
}

// Random pixels, and labels that go round 0 to 9.
inline ImageData random_images(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t channels) {
  ImageData data;
  data.count = count;
  data.height = height;
  data.width = width;
  data.channels = channels;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(count) * data.sample_elements());
  DrawSequence draws(11);
  for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>(draws.below(256));
  set_pixels(data, pixels);
  for (std::int64_t i = 0; i < count; ++i) data.labels.push_back(static_cast<std::int32_t>(i % 10));
  data.classes = 10;
  return data;
}

inline std::vector<std::int64_t> first_indices(std::int64_t n) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  return indices;
}

}  // namespace trivet::testing
