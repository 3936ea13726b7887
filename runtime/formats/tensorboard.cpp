#include "trivet/formats/tensorboard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"

namespace trivet {
namespace {

using nlohmann::json;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

void put_little_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// Protocol buffers, encoding (https://protobuf.dev/programming-guides/encoding): a field is a varint of its number and
// wire type, then its value.
enum WireType : std::uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

void put_key(std::string& out, std::uint64_t field, WireType type) { put_varint(out, field << 3 | type); }

void put_bytes(std::string& out, std::uint64_t field, std::string_view bytes) {
  put_key(out, field, kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

// Fields of Event: 1 wall_time, 2 step, 3 file_version, 5 summary, 7 session_log.
std::string event(double wall_time, std::int64_t step) {
  std::string out;
  put_key(out, 1, kFixed64);
  put_little_endian(out, std::bit_cast<std::uint64_t>(wall_time), 8);
  put_key(out, 2, kVarint);
  put_varint(out, static_cast<std::uint64_t>(step));
  return out;
}

// Fields of Summary: 1 value; of Summary.Value: 1 tag, 2 simple_value.
std::string summary(std::span<const Scalar> scalars) {
  std::string out;
  for (const Scalar& scalar : scalars) {
    std::string value;
    put_bytes(value, 1, scalar.tag);
    put_key(value, 2, kFixed32);
    put_little_endian(value, std::bit_cast<std::uint32_t>(static_cast<float>(scalar.value)), 4);
    put_bytes(out, 1, value);
  }
  return out;
}

std::uint32_t masked_crc(std::string_view data) {
  const std::uint32_t crc = crc32c(data);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// A number that an event file can hold, which has them as float32.
std::optional<double> finite(const json& object, const char* key) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  const bool fits = std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max());
  return fits ? std::optional(value) : std::nullopt;
}

void add_part(StepScalars& result, const json& record, const std::string& part) {
  const auto found = record.find(part);
  if (found == record.end() || !found->is_object()) return;
  for (const auto& [name, ignored] : found->items()) {
    if (name == "samples") continue;
    if (const auto value = finite(*found, name.c_str())) result.scalars.push_back({part + "/" + name, *value});
  }
}

double system_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::uint32_t crc32c(std::string_view data) {
  std::uint32_t crc = 0xffffffffu;
  for (const char c : data) crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

StepScalars tensorboard_scalars(const json& record) {
  StepScalars result;
  if (!record.is_object()) return result;
  const json kind = record.value("kind", json());
  // Up to 2^53 a double is exact, and no run has more steps.
  const auto step = [&](const char* key) {
    return static_cast<std::int64_t>(std::clamp(finite(record, key).value_or(0), 0.0, 0x1p53));
  };
  const auto add = [&](const char* tag, std::optional<double> value) {
    if (value) result.scalars.push_back({tag, *value});
  };
  if (kind == "step") {
    result.step = step("step");
    add("train/batch_loss", finite(record, "loss"));
    add("lr", finite(record, "lr"));
    add("grad_norm", finite(record, "grad_norm"));
  } else if (kind == "epoch") {
    result.step = step("step");
    add_part(result, record, "train");
    add_part(result, record, "validation");
    const auto samples = record.contains("train") ? finite(record.at("train"), "samples") : std::nullopt;
    const auto seconds = finite(record, "seconds");
    if (samples && seconds && *seconds > 0) add("images_per_second", *samples / *seconds);
  } else if (kind == "final") {
    result.step = step("steps");
    add_part(result, record, "test");
  }
  return result;
}

TensorBoardWriter::TensorBoardWriter(std::filesystem::path directory, Clock clock)
    : directory_(std::move(directory)), clock_(clock ? std::move(clock) : system_time) {}

TensorBoardWriter::~TensorBoardWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void TensorBoardWriter::open(std::int64_t step) {
  const double now = clock_();
  // Readers take the files in the order of their names: the number tells apart those of one second.
  for (int number = 0; fd_ < 0 && number < 1000; ++number) {
    path_ = directory_ / fmt::format("events.out.tfevents.{:010}.{:03}", static_cast<std::int64_t>(now), number);
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  if (fd_ < 0) {
    throw Error(ErrorCode::io, fmt::format("cannot write {}: {}", path_.string(), std::strerror(errno)),
                "check the permissions of the folder");
  }
  std::string version = event(now, 0);
  put_bytes(version, 3, "brain.Event:2");
  write(version);
  std::string start = event(now, step);
  put_bytes(start, 7, std::string_view("\x08\x01", 2));  // SessionLog: field 1, status, is START
  write(start);
}

void TensorBoardWriter::write(const std::string& event_bytes) {
  std::string record;
  put_little_endian(record, event_bytes.size(), 8);
  put_little_endian(record, masked_crc(std::string_view(record).substr(0, 8)), 4);
  record += event_bytes;
  put_little_endian(record, masked_crc(event_bytes), 4);
  std::string_view rest = record;
  while (!rest.empty()) {
    const ssize_t n = ::write(fd_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      throw Error(ErrorCode::io, fmt::format("cannot write {}: {}", path_.string(), std::strerror(errno)),
                  "the last checkpoint stays; free space or check permissions, then resume the run");
    }
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
}

void TensorBoardWriter::add(std::int64_t step, std::span<const Scalar> scalars) {
  if (scalars.empty()) return;
  if (fd_ < 0) open(step);
  std::string bytes = event(clock_(), step);
  put_bytes(bytes, 5, summary(scalars));
  write(bytes);
}

void TensorBoardWriter::add(const json& record) {
  const StepScalars scalars = tensorboard_scalars(record);
  add(scalars.step, scalars.scalars);
}

}  // namespace trivet
