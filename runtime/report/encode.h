// Bytes as text, and pixels as an image that a page can hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trivet::report {

// RFC 4648, section 4, with padding.
std::string base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);  // nothing unless it is exactly that

struct Image {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;         // 1 grey, 3 red, green, blue
  std::vector<std::uint8_t> pixels;  // (height, width, channels)
};

// Not larger than `side` in either direction: each pixel is the mean of those that it stands for.
Image shrink(const Image& image, std::int64_t side);

// "data:image/png;base64,...": PNG (ISO/IEC 15948), its pixels not compressed.
std::string png_uri(const Image& image);

}  // namespace trivet::report
