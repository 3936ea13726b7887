// Random crops and flips of training images.
#pragma once

#include <cstdint>

#include "trivet/data/config.h"
#include "trivet/data/image_data.h"

namespace trivet {

// What is done to one image: out(y, x) = in(y + dy, x') with x' = x + dx, or width - 1 - x + dx if flipped. Outside of
// the image a pixel is 0 in every channel: the raw byte, before normalization.
struct AugmentDraw {
  std::int64_t dy = 0;  // in [-crop_padding, crop_padding]
  std::int64_t dx = 0;
  bool flip = false;
  bool operator==(const AugmentDraw&) const = default;
};

// A pure function of its arguments, so an image is the same in any batch, on any rank and after a resume. `sample` is
// its index in the data set. Whether flips are on does not change the crops.
AugmentDraw draw_augmentation(const AugmentConfig& config, std::uint64_t seed, std::int64_t epoch, std::int64_t sample);

// `in`, `out`: (height, width, channels) of `data`, not overlapping.
void augment_image(const ImageData& data, const AugmentDraw& draw, const std::uint8_t* in, std::uint8_t* out);

}  // namespace trivet
