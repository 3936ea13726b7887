#include "runtime/report/encode.h"

namespace trivet::report {
namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::uint32_t byte_at(std::string_view bytes, std::size_t i) {
  return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u;
}

void put_big_endian(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

// CRC-32 of PNG, annex D.
std::uint32_t crc32(std::string_view data) {
  std::uint32_t crc = 0xffffffffu;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

// RFC 1950, section 8.2.
std::uint32_t adler32(std::string_view data) {
  std::uint32_t a = 1, b = 0;
  for (const char c : data) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

void put_chunk(std::string& out, std::string_view type, std::string_view data) {
  put_big_endian(out, static_cast<std::uint32_t>(data.size()));
  const std::string body = std::string(type).append(data);
  out += body;
  put_big_endian(out, crc32(body));
}

// A zlib stream of stored blocks (RFC 1951, section 3.2.4).
std::string stored(std::string_view data) {
  constexpr std::size_t kLargestBlock = 65535;
  const std::string_view all = data;
  std::string out = "\x78\x01";
  do {
    const std::string_view block = data.substr(0, kLargestBlock);
    data.remove_prefix(block.size());
    out += data.empty() ? '\1' : '\0';
    for (const std::size_t length : {block.size(), ~block.size()}) {
      out += static_cast<char>(length & 0xff);
      out += static_cast<char>(length >> 8 & 0xff);
    }
    out += block;
  } while (!data.empty());
  put_big_endian(out, adler32(all));
  return out;
}

}  // namespace

std::string base64(std::string_view bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::uint32_t group = byte_at(bytes, i) << 16 | byte_at(bytes, i + 1) << 8 | byte_at(bytes, i + 2);
    out += kDigits[group >> 18 & 63];
    out += kDigits[group >> 12 & 63];
    out += i + 1 < bytes.size() ? kDigits[group >> 6 & 63] : '=';
    out += i + 2 < bytes.size() ? kDigits[group & 63] : '=';
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  text.remove_suffix(padding);
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 0xff);
  }
  return out;
}

Image shrink(const Image& image, std::int64_t side) {
  if (image.height <= side && image.width <= side) return image;
  const std::int64_t longest = std::max(image.height, image.width);
  Image small{std::max<std::int64_t>(1, image.height * side / longest),
              std::max<std::int64_t>(1, image.width * side / longest),
              image.channels,
              {}};
  for (std::int64_t y = 0; y < small.height; ++y) {
    for (std::int64_t x = 0; x < small.width; ++x) {
      const std::int64_t top = y * image.height / small.height;
      const std::int64_t bottom = std::max(top + 1, (y + 1) * image.height / small.height);
      const std::int64_t left = x * image.width / small.width;
      const std::int64_t right = std::max(left + 1, (x + 1) * image.width / small.width);
      for (std::int64_t c = 0; c < image.channels; ++c) {
        std::int64_t sum = 0;
        for (std::int64_t i = top; i < bottom; ++i) {
          for (std::int64_t j = left; j < right; ++j) {
            sum += image.pixels[static_cast<std::size_t>((i * image.width + j) * image.channels + c)];
          }
        }
        small.pixels.push_back(static_cast<std::uint8_t>(sum / ((bottom - top) * (right - left))));
      }
    }
  }
  return small;
}

std::string png_uri(const Image& image) {
  const auto row = static_cast<std::size_t>(image.width * image.channels);
  std::string lines;
  for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y) {
    lines += '\0';  // filter type None
    lines.append(reinterpret_cast<const char*>(image.pixels.data()) + y * row, row);
  }
  std::string header;
  put_big_endian(header, static_cast<std::uint32_t>(image.width));
  put_big_endian(header, static_cast<std::uint32_t>(image.height));
  header += '\x08';                             // bits
  header += image.channels == 3 ? '\2' : '\0';  // truecolour, greyscale
  header.append(3, '\0');                       // compression, filter, interlace
  std::string png = "\x89PNG\r\n\x1a\n";
  put_chunk(png, "IHDR", header);
  put_chunk(png, "IDAT", stored(lines));
  put_chunk(png, "IEND", {});
  return "data:image/png;base64," + base64(png);
}

}  // namespace trivet::report
