#include "trivet/formats/npz.h"

#include <fmt/format.h>
#include <zlib.h>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/formats/mapped_file.h"

namespace trivet {
namespace {

constexpr std::uint64_t kEndSize = 22;  // of the record at the end, without its comment
constexpr std::uint64_t kLargestComment = 65535;
constexpr std::uint64_t kLocatorSize = 20;
constexpr std::uint64_t kEnd64Size = 56;
constexpr std::uint64_t kMemberSize = 46;  // of a directory entry, without its name and extras
constexpr std::uint64_t kLocalSize = 30;
constexpr std::uint64_t kMostMembers = 4096;
constexpr std::uint64_t kMaxExpansion = 1032;  // of deflate: zlib's technical details, "Maximum Compression Factor"
constexpr std::uint64_t kIn64 = 0xffffffff;    // the value is in the extra field of ZIP64
constexpr std::size_t kChunkBytes = std::size_t{1} << 16;  // inflated at once
constexpr unsigned kStored = 0, kDeflated = 8;
constexpr std::string_view kSuffix = ".npy";

// Little-endian; the caller has checked that the bytes are there.
std::uint64_t number(std::span<const std::byte> bytes, std::uint64_t at, unsigned size) {
  std::uint64_t value = 0;
  for (unsigned i = size; i > 0; --i) value = value << 8 | static_cast<std::uint64_t>(bytes[at + i - 1]);
  return value;
}

// `what` at `at`: "PK" and two bytes.
bool signature(std::span<const std::byte> bytes, std::uint64_t at, unsigned what) {
  return number(bytes, at, 2) == 0x4b50 && number(bytes, at + 2, 2) == what;
}

std::uint32_t checksum(const DataBytes& bytes) {
  uLong sum = 0;
  bytes.for_each_piece([&](std::span<const std::byte> piece) {
    sum = crc32_z(sum, reinterpret_cast<const Bytef*>(piece.data()), piece.size());
  });
  return static_cast<std::uint32_t>(sum);
}

// Inflates exactly `size` bytes of raw deflate data. Returns what is wrong, or "".
std::string inflate_all(const DataBytes& from, std::uint64_t size, SpillBuffer& out) {
  z_stream z{};
  if (inflateInit2(&z, -MAX_WBITS) != Z_OK) return "no memory to inflate";
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&z, inflateEnd);
  std::vector<std::byte> chunk(kChunkBytes), scratch;
  std::size_t taken = 0;
  std::uint64_t done = 0;
  int status = Z_OK;
  while (status == Z_OK) {
    const auto in = from.read(taken, std::min(from.size() - taken, kChunkBytes), scratch);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = reinterpret_cast<Bytef*>(chunk.data());
    z.avail_out = static_cast<uInt>(chunk.size());
    status = inflate(&z, Z_NO_FLUSH);
    taken += in.size() - z.avail_in;
    const std::size_t got = chunk.size() - z.avail_out;
    done += got;
    if (done > size) return "it inflates to more than its directory announces";
    out.append(std::span(chunk).first(got));
  }
  if (status != Z_STREAM_END) return z.msg ? z.msg : "its deflate data is truncated";
  if (done != size || taken != from.size()) return fmt::format("it inflates to {} bytes, expected {}", done, size);
  return {};
}

}  // namespace

void NpzFile::fail(const std::string& message, const std::string& hint) const {
  throw Error(ErrorCode::data, fmt::format("{}: {}", path_.string(), message),
              hint.empty() ? "save it again with numpy.savez" : hint);
}

NpzFile::NpzFile(const std::filesystem::path& path) : path_(path), file_(std::make_shared<const MappedFile>(path)) {
  read_directory();
}

void NpzFile::read_directory() {
  const std::span<const std::byte> bytes = file_->bytes();
  if (bytes.size() < kEndSize) fail(fmt::format("{} bytes are no ZIP archive", bytes.size()));
  std::uint64_t end = bytes.size() - kEndSize;
  const std::uint64_t lowest = end - std::min(end, kLargestComment);
  while (!signature(bytes, end, 0x0605) || end + kEndSize + number(bytes, end + 20, 2) != bytes.size()) {
    if (end == lowest) fail("the archive has no directory", "the file is not an .npz, or not complete");
    --end;
  }
  std::uint64_t members = number(bytes, end + 10, 2);
  std::uint64_t size = number(bytes, end + 12, 4);
  directory_ = number(bytes, end + 16, 4);
  std::uint64_t limit = end;
  if (end >= kLocatorSize && signature(bytes, end - kLocatorSize, 0x0706)) {
    const std::uint64_t end64 = number(bytes, end - kLocatorSize + 8, 8);
    if (end64 > end - kLocatorSize || end - kLocatorSize - end64 < kEnd64Size || !signature(bytes, end64, 0x0606)) {
      fail("the archive's ZIP64 directory is not where it should be");
    }
    members = number(bytes, end64 + 32, 8);
    size = number(bytes, end64 + 40, 8);
    directory_ = number(bytes, end64 + 48, 8);
    limit = end64;
  }
  if (directory_ > limit || size > limit - directory_ || members > kMostMembers) {
    fail(
        fmt::format("the directory of {} members and {} bytes at {} does not fit the file", members, size, directory_));
  }
  std::uint64_t at = directory_;
  for (std::uint64_t i = 0; i < members; ++i) at = read_member(at, directory_ + size);
}

// Returns where the next entry begins.
std::uint64_t NpzFile::read_member(std::uint64_t at, std::uint64_t end) {
  const std::span<const std::byte> bytes = file_->bytes();
  if (end - at < kMemberSize || !signature(bytes, at, 0x0201)) fail(fmt::format("no directory entry at byte {}", at));
  const std::uint64_t name_size = number(bytes, at + 28, 2), extra_size = number(bytes, at + 30, 2);
  const std::uint64_t next = at + kMemberSize + name_size + extra_size + number(bytes, at + 32, 2);
  if (next > end) fail(fmt::format("the directory entry at byte {} does not fit", at));
  Member member;
  member.name.assign(reinterpret_cast<const char*>(bytes.data()) + at + kMemberSize, name_size);
  member.flags = static_cast<unsigned>(number(bytes, at + 8, 2));
  member.method = static_cast<unsigned>(number(bytes, at + 10, 2));
  member.crc = static_cast<std::uint32_t>(number(bytes, at + 16, 4));
  member.compressed = number(bytes, at + 20, 4);
  member.size = number(bytes, at + 24, 4);
  member.header = number(bytes, at + 42, 4);
  // The extra field of ZIP64 has those of the three that do not fit 32 bits, in this order.
  std::uint64_t extra = at + kMemberSize + name_size;
  const std::uint64_t extra_end = extra + extra_size;
  while (extra_end - extra >= 4) {
    const std::uint64_t id = number(bytes, extra, 2), length = number(bytes, extra + 2, 2);
    extra += 4;
    if (length > extra_end - extra) fail(fmt::format("the directory entry at byte {} is damaged", at));
    std::uint64_t from = extra;
    extra += length;
    for (std::uint64_t* value : {&member.size, &member.compressed, &member.header}) {
      if (id != 1 || *value != kIn64) continue;
      if (extra - from < 8) fail(fmt::format("the directory entry at byte {} is damaged", at));
      *value = number(bytes, from, 8);
      from += 8;
    }
  }
  if (member.name.ends_with(kSuffix)) {
    member.name.resize(member.name.size() - kSuffix.size());
    if (find(member.name)) fail(fmt::format("the array \"{}\" occurs twice", member.name));
    members_.push_back(std::move(member));
  }
  return next;
}

const NpzFile::Member* NpzFile::find(const std::string& name) const {
  const auto at = std::find_if(members_.begin(), members_.end(), [&](const Member& m) { return m.name == name; });
  return at == members_.end() ? nullptr : &*at;
}

std::vector<std::string> NpzFile::names() const {
  std::vector<std::string> result;
  for (const Member& member : members_) result.push_back(member.name);
  return result;
}

bool NpzFile::has(const std::string& name) const { return find(name) != nullptr; }

DataBytes NpzFile::stored_bytes(const Member& member) const {
  const std::span<const std::byte> bytes = file_->bytes();
  if (member.header > directory_ || directory_ - member.header < kLocalSize ||
      !signature(bytes, member.header, 0x0403)) {
    fail(fmt::format("the array \"{}\" is not where the directory says", member.name));
  }
  const std::uint64_t start =
      member.header + kLocalSize + number(bytes, member.header + 26, 2) + number(bytes, member.header + 28, 2);
  if (start > directory_ || member.compressed > directory_ - start) {
    fail(fmt::format("the array \"{}\" of {} bytes does not fit the file", member.name, member.compressed));
  }
  return DataBytes::of_file(path_).part(start, member.compressed);
}

NpyArray NpzFile::array(const std::string& name) const {
  const Member* member = find(name);
  if (!member) {
    const std::vector<std::string> all = names();
    fail(fmt::format("there is no array \"{}\", only {}", name, all.empty() ? "none" : join(all, ", ")),
         "numpy.savez(file, x=..., y=...) names arrays");
  }
  if (member->flags & 1U) fail(fmt::format("the array \"{}\" is encrypted", name));
  const DataBytes stored = stored_bytes(*member);
  const std::string label = fmt::format("{}({})", path_.string(), name);
  const auto check = [&](const DataBytes& content) {
    if (checksum(content) != member->crc) fail(fmt::format("the checksum of \"{}\" is wrong: it is damaged", name));
  };
  if (member->method == kStored) {
    if (member->size != member->compressed) fail(fmt::format("the sizes of \"{}\" contradict each other", name));
    check(stored);
    return parse_npy(stored, label);
  }
  if (member->method != kDeflated) {
    fail(fmt::format("the array \"{}\" is compressed by method {}", name, member->method),
         "save it with numpy.savez or numpy.savez_compressed");
  }
  if (member->size / kMaxExpansion > member->compressed) {
    fail(fmt::format("the array \"{}\" announces {} bytes from {} compressed ones", name, member->size,
                     member->compressed));
  }
  auto buffer = std::make_shared<SpillBuffer>();
  const std::string problem = inflate_all(stored, member->size, *buffer);
  if (!problem.empty()) fail(fmt::format("the array \"{}\" cannot be inflated: {}", name, problem));
  buffer->finish();
  const DataBytes content{std::shared_ptr<const SpillBuffer>(std::move(buffer))};
  check(content);
  return parse_npy(content, label);
}

}  // namespace trivet
