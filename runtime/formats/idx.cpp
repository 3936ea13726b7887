#include "trivet/formats/idx.h"

#include "trivet/base/error.h"
#include "trivet/formats/gzip.h"

namespace trivet {
namespace {

constexpr std::uint8_t kUnsignedByte = 0x08;
constexpr std::size_t kChunkBytes = std::size_t{1} << 18;  // inflated at once

struct Kind {
  const char* what;
  int min_rank;
  int max_rank;
  const char* magic;
  const char* layout;
};
constexpr Kind kImages{"images", 3, 4, "0x00000803 or 0x00000804", "(N, H, W) or (N, H, W, C)"};
constexpr Kind kLabels{"labels", 1, 1, "0x00000801", "(N)"};

const char* element_type_name(std::uint8_t type) {
  switch (type) {
    case 0x08:
      return "unsigned byte";
    case 0x09:
      return "signed byte";
    case 0x0B:
      return "16-bit integer";
    case 0x0C:
      return "32-bit integer";
    case 0x0D:
      return "32-bit float";
    case 0x0E:
      return "64-bit float";
    default:
      return "unknown";
  }
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& message, const std::string& hint) {
  throw Error(ErrorCode::data, fmt::format("{}: {}", path.string(), message), hint);
}

// The first bytes of the file, up to `size`; fewer are an error that says where the file ends.
std::vector<std::uint8_t> read_header_bytes(GzipFile& file, const std::filesystem::path& path, std::size_t offset,
                                            std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  const std::size_t got = file.read(std::as_writable_bytes(std::span(bytes)));
  if (got < size) {
    const std::string hint = "an IDX file begins with a magic number of 4 bytes and 4 bytes for each dimension";
    if (offset + got == 0) fail(path, "the file is empty", hint);
    fail(path, fmt::format("the file ends at byte {}, inside its IDX header of {} bytes", offset + got, offset + size),
         hint);
  }
  return bytes;
}

int read_rank(GzipFile& file, const std::filesystem::path& path, const Kind& kind) {
  const std::vector<std::uint8_t> magic = read_header_bytes(file, path, 0, 4);
  const std::string found = fmt::format("0x{:02x}{:02x}{:02x}{:02x}", magic[0], magic[1], magic[2], magic[3]);
  if (magic[0] != 0 || magic[1] != 0) {
    fail(path, fmt::format("not an IDX file: at byte 0, found {}, expected the magic number {}", found, kind.magic),
         fmt::format("give an IDX file of {} as unsigned bytes, plain or gzip", kind.what));
  }
  if (magic[2] != kUnsignedByte) {
    fail(path,
         fmt::format("at byte 2, found element type 0x{:02x} ({}), expected 0x08 (unsigned byte)", magic[2],
                     element_type_name(magic[2])),
         "convert the elements to unsigned bytes");
  }
  const int rank = magic[3];
  if (rank < kind.min_rank || rank > kind.max_rank) {
    const bool swapped = kind.min_rank == kImages.min_rank ? rank == 1 : (rank == 3 || rank == 4);
    fail(path,
         fmt::format("at byte 0, found magic number {} (rank {}), expected {} for {} {}", found, rank, kind.magic,
                     kind.what, kind.layout),
         swapped ? "the paths of images and labels seem to be swapped" : "");
  }
  return rank;
}

Shape read_shape(GzipFile& file, const std::filesystem::path& path, int rank) {
  const std::vector<std::uint8_t> raw = read_header_bytes(file, path, 4, static_cast<std::size_t>(rank) * 4);
  Shape shape;
  for (std::size_t i = 0; i < raw.size(); i += 4) {
    const std::uint32_t dim = std::uint32_t{raw[i]} << 24 | std::uint32_t{raw[i + 1]} << 16 |
                              std::uint32_t{raw[i + 2]} << 8 | std::uint32_t{raw[i + 3]};
    if (dim == 0) {
      fail(path, fmt::format("at byte {}, dimension {} is 0, expected at least 1", 4 + i, i / 4),
           "the file holds no data");
    }
    shape.push_back(dim);
  }
  return shape;
}

std::size_t header_bytes(const Shape& shape) { return 4 + 4 * shape.size(); }

// The announced number of elements, refused if it overflows or if the file cannot hold it.
std::size_t checked_elements(const GzipFile& file, const std::filesystem::path& path, const Shape& shape) {
  const std::uint64_t header = header_bytes(shape);
  std::uint64_t elements = 1;
  std::uint64_t total = 0;
  bool overflow = false;
  for (const std::int64_t dim : shape) {
    overflow = overflow || __builtin_mul_overflow(elements, static_cast<std::uint64_t>(dim), &elements);
  }
  overflow = overflow || __builtin_add_overflow(elements, header, &total) || total > (std::uint64_t{1} << 62);
  if (overflow) {
    fail(path, fmt::format("at byte 4, the dimensions {} overflow: their product passes 2^62", to_string(shape)),
         "the header is damaged; fetch the file again");
  }
  if (total > file.max_decoded_bytes()) {
    fail(path,
         fmt::format("the file is truncated: its header announces {} elements in {} bytes, but {} {}bytes hold at "
                     "most {}",
                     to_string(shape), total, file.file_bytes(), file.compressed() ? "compressed " : "",
                     file.max_decoded_bytes()),
         "fetch the file again");
  }
  return static_cast<std::size_t>(elements);
}

[[noreturn]] void fail_truncated(const std::filesystem::path& path, const Shape& shape, std::size_t found,
                                 std::size_t expected, const char* where) {
  fail(path,
       fmt::format("the file is truncated: found {} bytes{}, expected {} for {} ({} are missing)", found, where,
                   expected, to_string(shape), expected - found),
       "fetch the file again");
}

[[noreturn]] void fail_longer(const std::filesystem::path& path, const Shape& shape, std::size_t end,
                              const char* where) {
  fail(path, fmt::format("at byte {}{}, more data follows: expected the end after {}", end, where, to_string(shape)),
       "the header and the data do not belong together");
}

DataBytes plain_elements(const std::filesystem::path& path, const Shape& shape, std::size_t elements) {
  const DataBytes file = DataBytes::of_file(path);
  const std::size_t header = header_bytes(shape), found = file.size();
  if (found < header + elements) fail_truncated(path, shape, found, header + elements, "");
  if (found > header + elements) fail_longer(path, shape, header + elements, "");
  return file.part(header, elements);
}

// Grows as the data arrives: nothing is taken for bytes that a lying header announces.
DataBytes inflate_elements(GzipFile& file, const std::filesystem::path& path, const Shape& shape,
                           std::size_t elements) {
  constexpr const char* kWhere = " after inflating";
  auto buffer = std::make_shared<SpillBuffer>();
  std::vector<std::byte> chunk(std::min(elements, kChunkBytes));
  for (std::size_t done = 0; done < elements; done += chunk.size()) {
    chunk.resize(std::min(elements - done, kChunkBytes));
    const std::size_t got = file.read(chunk);
    if (got < chunk.size()) {
      fail_truncated(path, shape, header_bytes(shape) + done + got, header_bytes(shape) + elements, kWhere);
    }
    buffer->append(chunk);
  }
  std::byte extra{};
  if (file.read(std::span(&extra, 1)) != 0) fail_longer(path, shape, header_bytes(shape) + elements, kWhere);
  buffer->finish();
  return DataBytes(std::shared_ptr<const SpillBuffer>(std::move(buffer)));
}

IdxArray read(const std::filesystem::path& path, const Kind& kind) {
  GzipFile file(path);
  IdxArray array;
  array.shape = read_shape(file, path, read_rank(file, path, kind));
  const std::size_t elements = checked_elements(file, path, array.shape);
  array.bytes = file.compressed() ? inflate_elements(file, path, array.shape, elements)
                                  : plain_elements(path, array.shape, elements);
  return array;
}

}  // namespace

IdxArray read_idx_images(const std::filesystem::path& path) { return read(path, kImages); }

IdxArray read_idx_labels(const std::filesystem::path& path) { return read(path, kLabels); }

std::string idx_header(const Shape& shape) {
  std::string header{'\0', '\0', static_cast<char>(kUnsignedByte), static_cast<char>(shape.size())};
  for (const std::int64_t dim : shape) {
    if (dim < 0 || dim > std::int64_t{UINT32_MAX}) {
      throw Error(ErrorCode::data,
                  fmt::format("{} cannot be an IDX shape: dimensions are below 2^32", to_string(shape)));
    }
    for (int shift = 24; shift >= 0; shift -= 8) header += static_cast<char>(dim >> shift & 0xff);
  }
  return header;
}

}  // namespace trivet
