#include "trivet/data/augment.h"

#include <cstring>

#include "trivet/data/random.h"

namespace trivet {
namespace {

// `out` (n, channels) becomes `in` from the last pixel to the first.
void mirror(const std::uint8_t* in, std::int64_t n, std::int64_t channels, std::uint8_t* out) {
  if (channels == 1) {
    std::reverse_copy(in, in + n, out);
    return;
  }
  for (std::int64_t x = 0; x < n; ++x) std::copy_n(in + (n - 1 - x) * channels, channels, out + x * channels);
}

}  // namespace

AugmentDraw draw_augmentation(const AugmentConfig& config, std::uint64_t seed, std::int64_t epoch,
                              std::int64_t sample) {
  if (config == AugmentConfig{}) return {};
  DrawSequence draws(data_key(seed, DataDraw::augment, static_cast<std::uint64_t>(epoch)),
                     static_cast<std::uint64_t>(sample));
  AugmentDraw draw;
  const bool flip = (draws.next() & 1) != 0;
  draw.flip = config.flip && flip;
  if (config.crop_padding > 0) {
    const auto places = static_cast<std::uint64_t>(2 * config.crop_padding + 1);
    draw.dy = static_cast<std::int64_t>(draws.below(places)) - config.crop_padding;
    draw.dx = static_cast<std::int64_t>(draws.below(places)) - config.crop_padding;
  }
  return draw;
}

void augment_image(const ImageData& data, const AugmentDraw& draw, const std::uint8_t* in, std::uint8_t* out) {
  const std::int64_t width = data.width;
  const std::int64_t channels = data.channels;
  const auto row_bytes = static_cast<std::size_t>(width * channels);
  // The columns [first, last) of a crop that lie inside of the image.
  const std::int64_t first = std::clamp(-draw.dx, std::int64_t{0}, width);
  const std::int64_t last = std::clamp(width - draw.dx, first, width);
  std::memset(out, 0, static_cast<std::size_t>(data.height) * row_bytes);
  if (first == last) return;
  for (std::int64_t y = 0; y < data.height; ++y) {
    const std::int64_t source_y = y + draw.dy;
    if (source_y < 0 || source_y >= data.height) continue;
    const std::uint8_t* source = in + (source_y * width + first + draw.dx) * channels;
    std::uint8_t* row = out + y * width * channels;
    if (draw.flip) {
      mirror(source, last - first, channels, row + (width - last) * channels);
    } else {
      std::memcpy(row + first * channels, source, static_cast<std::size_t>((last - first) * channels));
    }
  }
}

}  // namespace trivet
