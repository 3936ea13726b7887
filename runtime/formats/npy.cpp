#include "trivet/formats/npy.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "trivet/base/error.h"
#include "trivet/base/file.h"

namespace trivet {
namespace {

constexpr std::string_view kMagic{"\x93NUMPY\x01\x00", 8};
constexpr std::size_t kPrefix = kMagic.size() + 2;  // with the header's length, a little-endian u16
constexpr std::size_t kAlignment = 64;              // of the first element

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& message) {
  throw Error(ErrorCode::data, fmt::format("{}: {}", path.string(), message),
              "expected NumPy's .npy, version 1.0, with '<f4' or '<i8' in C order");
}

// The text after `'key':`, without leading spaces; "" if the key is absent.
std::string_view value_of(std::string_view dict, std::string_view key) {
  const std::size_t at = dict.find(fmt::format("'{}':", key));
  if (at == std::string_view::npos) return {};
  const std::string_view rest = dict.substr(at + key.size() + 3);
  return rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
}

Shape parse_shape(std::string_view text, const std::filesystem::path& path) {
  const std::size_t close = text.find(')');
  if (text.empty() || text.front() != '(' || close == std::string_view::npos) fail(path, "the header has no shape");
  text = text.substr(1, close - 1);
  Shape shape;
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(", "), text.size()));
    if (text.empty()) return shape;
    std::int64_t dim = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), dim);
    if (error != std::errc{} || dim < 0 || shape.size() == kMaxRank) fail(path, "the header's shape is unusable");
    shape.push_back(dim);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  }
}

TensorType parse_type(std::string_view dict, const std::filesystem::path& path) {
  TensorType type;
  const std::string_view descr = value_of(dict, "descr");
  if (descr.starts_with("'<f4'")) {
    type.dtype = DType::f32;
  } else if (descr.starts_with("'<i8'")) {
    type.dtype = DType::i64;
  } else {
    fail(path, "the header's descr is neither '<f4' nor '<i8'");
  }
  if (!value_of(dict, "fortran_order").starts_with("False")) fail(path, "the elements are not in C order");
  type.shape = parse_shape(value_of(dict, "shape"), path);
  return type;
}

// Whether `bytes` is what the type takes, without trusting the product of its dimensions.
bool takes(const TensorType& type, std::size_t bytes) {
  std::uint64_t expected = dtype_size(type.dtype);
  for (const std::int64_t dim : type.shape) {
    if (__builtin_mul_overflow(expected, static_cast<std::uint64_t>(dim), &expected)) return false;
  }
  return expected == bytes;
}

}  // namespace

std::string npy_header(const TensorType& type) {
  if (type.dtype != DType::f32 && type.dtype != DType::i64) {
    throw Error(ErrorCode::internal, fmt::format("no .npy of {}: f32 and i64 are written", to_string(type)));
  }
  std::string shape = fmt::format("{}", fmt::join(type.shape, ", "));
  if (type.shape.size() == 1) shape += ',';  // a Python tuple of one
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                 type.dtype == DType::f32 ? "<f4" : "<i8", shape);
  dict.append(kAlignment - 1 - (kPrefix + dict.size()) % kAlignment, ' ');
  dict += '\n';
  const char length[2] = {static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8 & 0xff)};
  return std::string(kMagic) + std::string(length, 2) + dict;
}

void write_npy(const std::filesystem::path& path, const TensorType& type, const void* data) {
  AtomicFile file(path);
  file.write(npy_header(type));
  file.write(std::span(static_cast<const std::byte*>(data), type.bytes()));
  file.commit();
}

Tensor read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (!text.starts_with(kMagic)) fail(path, "the file does not begin with the magic number of version 1.0");
  if (text.size() < kPrefix) fail(path, fmt::format("the file ends at byte {}, inside its header", text.size()));
  const std::size_t length =
      static_cast<unsigned char>(text[8]) + std::size_t{256} * static_cast<unsigned char>(text[9]);
  if (text.size() < kPrefix + length)
    fail(path, fmt::format("the file ends at byte {}, inside its header", text.size()));
  const TensorType type = parse_type(text.substr(kPrefix, length), path);
  const std::span<const std::byte> data = file.bytes().subspan(kPrefix + length);
  if (!takes(type, data.size())) {
    fail(path, fmt::format("found {} bytes of elements, expected {}", data.size(), to_string(type)));
  }
  Tensor tensor(type);
  if (!data.empty()) std::memcpy(tensor.data.data(), data.data(), data.size());
  return tensor;
}

}  // namespace trivet
