#include "trivet/formats/npy.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "kernels/math/small_float.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"

namespace trivet {
namespace {

constexpr std::string_view kMagic{"\x93NUMPY", 6};
constexpr std::size_t kPrefix = 10;                              // of version 1.0, with the length of the header
constexpr std::size_t kAlignment = 64;                           // of the first element
constexpr std::size_t kLargestHeader = std::size_t{1} << 20;     // NumPy's own are below 2^16 but for structures
constexpr std::uint64_t kLargestArray = std::uint64_t{1} << 58;  // bytes

struct DtypeInfo {
  NpyDtype dtype;
  std::string_view code;  // after the byte order
  std::size_t size;
  const char* name;
};
constexpr std::array<DtypeInfo, 11> kDtypes = {{{NpyDtype::f16, "f2", 2, "float16"},
                                                {NpyDtype::f32, "f4", 4, "float32"},
                                                {NpyDtype::f64, "f8", 8, "float64"},
                                                {NpyDtype::i8, "i1", 1, "int8"},
                                                {NpyDtype::i16, "i2", 2, "int16"},
                                                {NpyDtype::i32, "i4", 4, "int32"},
                                                {NpyDtype::i64, "i8", 8, "int64"},
                                                {NpyDtype::u8, "u1", 1, "uint8"},
                                                {NpyDtype::u16, "u2", 2, "uint16"},
                                                {NpyDtype::u32, "u4", 4, "uint32"},
                                                {NpyDtype::boolean, "b1", 1, "bool"}}};

const DtypeInfo& info(NpyDtype dtype) { return kDtypes[static_cast<std::size_t>(dtype)]; }

// The tensors that NumPy has too.
std::optional<DType> tensor_dtype(NpyDtype dtype) {
  switch (dtype) {
    case NpyDtype::f16:
      return DType::f16;
    case NpyDtype::f32:
      return DType::f32;
    case NpyDtype::f64:
      return DType::f64;
    case NpyDtype::i8:
      return DType::i8;
    case NpyDtype::i32:
      return DType::i32;
    case NpyDtype::i64:
      return DType::i64;
    case NpyDtype::u8:
      return DType::u8;
    case NpyDtype::boolean:
      return DType::boolean;
    case NpyDtype::i16:
    case NpyDtype::u16:
    case NpyDtype::u32:
      return {};
  }
  return {};
}

std::string descr(const TensorType& type) {
  for (const DtypeInfo& known : kDtypes) {
    if (tensor_dtype(known.dtype) == type.dtype) return fmt::format("{}{}", known.size == 1 ? '|' : '<', known.code);
  }
  throw Error(ErrorCode::internal, fmt::format("no .npy of {}: NumPy has no such type", to_string(type)));
}

// Reads the header, which is a Python dictionary of a text, a flag and a tuple of integers.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  void parse(NpyArray& array) {
    expect('{');
    while (!take('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr") {
        parse_descr(array);
      } else if (key == "fortran_order") {
        fortran_ = flag();
      } else if (key == "shape") {
        array.shape = shape();
      } else {
        fail(fmt::format("the header has an unknown key \"{}\"", key));
      }
      ++keys_;
      if (!take(',') && !next_is('}')) fail("the header is damaged");
    }
    if (keys_ != 3 || !has_descr_ || !fortran_ || !has_shape_) fail("the header lacks descr, fortran_order or shape");
    // With one dimension there is only one order.
    if (*fortran_ && array.shape.size() > 1) {
      fail("the elements are in Fortran order, expected C order", "save it with numpy.ascontiguousarray(array)");
    }
  }

  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const {
    throw Error(ErrorCode::data, fmt::format("{}: {}", name_, message),
                hint.empty() ? "save it with numpy.save, as an array of numbers" : hint);
  }

 private:
  void skip() { text_.remove_prefix(std::min(text_.find_first_not_of(" \n"), text_.size())); }
  bool next_is(char c) {
    skip();
    return text_.starts_with(c);
  }
  bool take(char c) {
    if (!next_is(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(fmt::format("the header is damaged: expected {}", c));
  }

  std::string_view quoted() {
    skip();
    const char quote = text_.empty() ? '\0' : text_.front();
    const std::size_t end = text_.find(quote, 1);
    if ((quote != '\'' && quote != '"') || end == std::string_view::npos)
      fail("the header is damaged: expected a text");
    const std::string_view result = text_.substr(1, end - 1);
    text_.remove_prefix(end + 1);
    return result;
  }

  bool flag() {
    skip();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    fail("the header's fortran_order is neither True nor False");
  }

  Shape shape() {
    Shape result;
    expect('(');
    while (!take(')')) {
      skip();
      std::int64_t dim = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), dim);
      if (error != std::errc{} || dim < 0 || result.size() == kMaxRank) fail("the header's shape is unusable");
      result.push_back(dim);
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      if (!take(',') && !next_is(')')) fail("the header's shape is unusable");
    }
    has_shape_ = true;
    return result;
  }

  void parse_descr(NpyArray& array) {
    if (next_is('[')) fail("the elements are structures, expected numbers", "save each field as an array of its own");
    const std::string_view text = quoted();
    if (text.empty()) fail("the header's descr is empty");
    const char order = text.front();
    const std::string_view code = text.substr(order == '<' || order == '>' || order == '=' || order == '|' ? 1 : 0);
    for (const DtypeInfo& known : kDtypes) {
      if (known.code != code) continue;
      array.dtype = known.dtype;
      array.swapped = order == '>' && known.size > 1;
      has_descr_ = true;
      return;
    }
    if (code.starts_with('O')) fail("the elements are Python objects, which are never read", "save numbers");
    fail(fmt::format("the elements are \"{}\", expected one of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 b1", text),
         "convert it: array.astype('float32')");
  }

  std::string_view text_;
  const std::string& name_;
  int keys_ = 0;
  bool has_descr_ = false, has_shape_ = false;
  std::optional<bool> fortran_;
};

std::size_t little_endian(std::string_view bytes) {
  std::size_t value = 0;
  for (std::size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
  return value;
}

// Without trusting the product of the dimensions.
std::optional<std::uint64_t> announced_bytes(const NpyArray& array) {
  std::uint64_t bytes = info(array.dtype).size;
  for (const std::int64_t dim : array.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dim), &bytes) || bytes > kLargestArray) return {};
  }
  return bytes;
}

template <class U>
U swap_bytes(U value) {
  if constexpr (sizeof(U) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(U) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(U) == 8) return __builtin_bswap64(value);
  return value;
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 1, std::uint8_t,
                                std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                                   std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;

template <class From, class T, bool Swapped>
void convert(const std::byte* from, std::span<T> out) {
  for (T& value : out) {
    Bits<From> bits;
    std::memcpy(&bits, from, sizeof(bits));
    from += sizeof(bits);
    if constexpr (Swapped) bits = swap_bytes(bits);
    if constexpr (std::is_same_v<From, kernels::Float16>) {
      value = static_cast<T>(kernels::to_f32(kernels::Float16{bits}));
    } else if constexpr (std::is_same_v<From, bool>) {
      value = static_cast<T>(bits != 0);
    } else {
      value = static_cast<T>(__builtin_bit_cast(From, bits));
    }
  }
}

template <class From, class T>
void convert(const NpyArray& array, std::int64_t first, std::span<T> out) {
  thread_local std::vector<std::byte> scratch;
  const std::byte* from =
      array.data.read(static_cast<std::size_t>(first) * sizeof(From), out.size() * sizeof(From), scratch).data();
  if (array.swapped) {
    convert<From, T, true>(from, out);
  } else {
    convert<From, T, false>(from, out);
  }
}

}  // namespace

std::size_t npy_dtype_size(NpyDtype dtype) { return info(dtype).size; }
const char* npy_dtype_name(NpyDtype dtype) { return info(dtype).name; }

template <class T>
void read_npy_elements(const NpyArray& array, std::int64_t first, std::span<T> out) {
  switch (array.dtype) {
    case NpyDtype::f16:
      return convert<kernels::Float16>(array, first, out);
    case NpyDtype::f32:
      return convert<float>(array, first, out);
    case NpyDtype::f64:
      return convert<double>(array, first, out);
    case NpyDtype::i8:
      return convert<std::int8_t>(array, first, out);
    case NpyDtype::i16:
      return convert<std::int16_t>(array, first, out);
    case NpyDtype::i32:
      return convert<std::int32_t>(array, first, out);
    case NpyDtype::i64:
      return convert<std::int64_t>(array, first, out);
    case NpyDtype::u8:
      return convert<std::uint8_t>(array, first, out);
    case NpyDtype::u16:
      return convert<std::uint16_t>(array, first, out);
    case NpyDtype::u32:
      return convert<std::uint32_t>(array, first, out);
    case NpyDtype::boolean:
      return convert<bool>(array, first, out);
  }
}
template void read_npy_elements(const NpyArray&, std::int64_t, std::span<float>);
template void read_npy_elements(const NpyArray&, std::int64_t, std::span<double>);
template void read_npy_elements(const NpyArray&, std::int64_t, std::span<std::int64_t>);

NpyArray parse_npy(const DataBytes& file, const std::string& name) {
  std::vector<std::byte> scratch;
  const auto start = file.read(0, std::min(file.size(), kPrefix + 2 + kLargestHeader), scratch);
  const std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  HeaderParser none({}, name);
  if (!text.starts_with(kMagic)) none.fail("the file does not begin with NumPy's magic number");
  if (text.size() < kPrefix) none.fail(fmt::format("the file ends at byte {}, inside its header", text.size()));
  const int major = static_cast<unsigned char>(text[6]);
  if (major < 1 || major > 3) none.fail(fmt::format("the format's version is {}, expected 1, 2 or 3", major));
  const std::size_t prefix = major == 1 ? kPrefix : kPrefix + 2;
  const std::size_t length = text.size() < prefix ? 0 : little_endian(text.substr(8, prefix - 8));
  if (length > kLargestHeader) none.fail(fmt::format("the header announces {} bytes for itself", length));
  if (text.size() < prefix + length) none.fail(fmt::format("the file ends at byte {}, inside its header", text.size()));
  NpyArray array;
  HeaderParser parser(text.substr(prefix, length), name);
  parser.parse(array);
  array.data = file.part(prefix + length, file.size() - prefix - length);
  const std::optional<std::uint64_t> expected = announced_bytes(array);
  if (expected != array.data.size()) {
    parser.fail(fmt::format("found {} bytes of elements, expected {} for {}{}", array.data.size(),
                            expected ? std::to_string(*expected) : "too many", npy_dtype_name(array.dtype),
                            to_string(array.shape)),
                "the file is not complete, or damaged; save it again");
  }
  return array;
}

NpyArray map_npy(const std::filesystem::path& path) { return parse_npy(DataBytes::of_file(path), path.string()); }

Tensor read_npy(const std::filesystem::path& path) {
  const NpyArray array = map_npy(path);
  const std::optional<DType> dtype = tensor_dtype(array.dtype);
  if (!dtype) {
    throw Error(ErrorCode::data, fmt::format("{}: no tensor has elements of {}", path.string(), info(array.dtype).name),
                "convert it: array.astype('int32')");
  }
  Tensor tensor({*dtype, array.shape});
  std::vector<std::byte> scratch;
  std::ranges::copy(array.data.read(0, array.data.size(), scratch), tensor.data.begin());
  if (array.swapped) {
    const std::size_t size = info(array.dtype).size;
    for (auto at = tensor.data.begin(); at != tensor.data.end(); at += static_cast<std::ptrdiff_t>(size)) {
      std::reverse(at, at + static_cast<std::ptrdiff_t>(size));
    }
  }
  return tensor;
}

std::string npy_header(const TensorType& type) {
  std::string shape = fmt::format("{}", fmt::join(type.shape, ", "));
  if (type.shape.size() == 1) shape += ',';  // a Python tuple of one
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr(type), shape);
  dict.append(kAlignment - 1 - (kPrefix + dict.size()) % kAlignment, ' ');
  dict += '\n';
  const char rest[4] = {1, 0, static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8 & 0xff)};
  return std::string(kMagic) + std::string(rest, 4) + dict;
}

void write_npy(const std::filesystem::path& path, const TensorType& type, const void* data) {
  AtomicFile file(path);
  file.write(npy_header(type));
  file.write(std::span(static_cast<const std::byte*>(data), type.bytes()));
  file.commit();
}

}  // namespace trivet
