#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/base/table.h"
#include "trivet/base/text.h"
#include "trivet/formats/safetensors.h"

namespace trivet {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit

[[noreturn]] void fail(const std::string& origin, const std::string& message) {
  throw Error(ErrorCode::checkpoint, fmt::format("{}: {}", origin, message),
              "the file is damaged or not a safetensors file that Trivet can read; fetch or write it again");
}

// A name from the file, fit for a message.
std::string shown(const std::string& name) {
  constexpr std::size_t kLongest = 80;
  return '"' + printable(std::string_view(name).substr(0, kLongest)) + (name.size() > kLongest ? "...\"" : "\"");
}

struct Entry {
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> offsets;
  std::set<std::string> fields;
};

// Takes the header's JSON event by event: nothing but what the format allows is ever stored, so neither depth nor
// repeated keys nor unknown values can cost memory.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(std::string origin) : origin_(std::move(origin)) {}

  std::map<std::string, Entry> entries;
  TensorMetadata metadata;

  bool start_object(std::size_t) override {
    if (level_ == 0) {
      level_ = 1;
    } else if (level_ == 1) {
      level_ = 2;
    } else {
      refuse("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    bool added = false;
    if (level_ == 1) {
      name_ = name;
      in_metadata_ = name == "__metadata__";
      entry_ = nullptr;
      if (in_metadata_) {
        added = !std::exchange(seen_metadata_, true);
      } else {
        const auto [place, is_new] = entries.try_emplace(name);
        entry_ = &place->second;
        added = is_new;
      }
    } else if (in_metadata_) {
      field_ = name;
      added = metadata.try_emplace(name).second;
    } else {
      field_ = name;
      if (name != "dtype" && name != "shape" && name != "data_offsets") refuse("the unknown key " + shown(name));
      added = entry_->fields.insert(name).second;
    }
    if (!added) refuse("the key " + shown(name) + " twice");
    return true;
  }

  bool end_object() override {
    if (level_ == 2 && !in_metadata_ && entry_->fields.size() != 3) {
      fail(origin_, fmt::format("tensor {} lacks dtype, shape or data_offsets", shown(name_)));
    }
    --level_;
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != 2 || in_metadata_ || field_ == "dtype") refuse("a list");
    list_ = field_ == "shape" ? &entry_->shape : &entry_->offsets;
    level_ = 3;
    return true;
  }

  bool end_array() override {
    level_ = 2;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != 3) refuse("a number");
    const std::size_t limit = field_ == "shape" ? std::size_t{kMaxRank} : 2;
    if (list_->size() == limit) refuse(fmt::format("more than {} numbers", limit));
    list_->push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (level_ == 2 && in_metadata_) {
      metadata[field_] = value;
    } else if (level_ == 2 && field_ == "dtype") {
      entry_->dtype = value;
    } else {
      refuse("a string");
    }
    return true;
  }

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a fraction or a number past 2^64"); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const json::exception& e) override {
    fail(origin_, fmt::format("byte {}: the header is not JSON: {}", 7 + position, e.what()));
  }

 private:
  bool refuse(const std::string& found) const {
    if (level_ == 0) fail(origin_, "the header is not a JSON object");
    fail(origin_,
         fmt::format("the header's entry {} has {}, which the format does not allow there", shown(name_), found));
  }

  std::string origin_;
  int level_ = 0;  // 1: names, 2: fields of a tensor or metadata, 3: a list of numbers
  bool in_metadata_ = false;
  bool seen_metadata_ = false;
  std::string name_;
  std::string field_;
  Entry* entry_ = nullptr;
  std::vector<std::uint64_t>* list_ = nullptr;
};

DType dtype_of(const std::string& name, const Entry& entry, const std::string& origin) {
  static const std::map<std::string_view, DType> kKnown{
      {"F32", DType::f32},      {"F64", DType::f64},   {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8},
      {"BOOL", DType::boolean}, {"BF16", DType::bf16}, {"F16", DType::f16}, {"I8", DType::i8}};
  const auto it = kKnown.find(entry.dtype);
  if (it == kKnown.end()) {
    fail(origin, fmt::format("tensor {} has dtype {}, expected F32, BF16, F16, F64, I8, U8, I32, I64 or BOOL",
                             shown(name), shown(entry.dtype)));
  }
  return it->second;
}

void check_booleans(const std::string& name, const TensorBytes& tensor, const std::string& origin) {
  for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
    if (std::to_integer<unsigned>(tensor.bytes[i]) > 1) {
      fail(origin, fmt::format("tensor {}: element {} is {}, expected 0 or 1 in a BOOL tensor", shown(name), i,
                               std::to_integer<unsigned>(tensor.bytes[i])));
    }
  }
}

TensorBytes locate(const std::string& name, const Entry& entry, std::span<const std::byte> data,
                   const std::string& origin) {
  TensorBytes tensor;
  tensor.type.dtype = dtype_of(name, entry, origin);
  if (entry.offsets.size() != 2 || entry.offsets[0] > entry.offsets[1] || entry.offsets[1] > data.size()) {
    fail(origin, fmt::format("tensor {}: data_offsets [{}] do not lie within the {} bytes of data", shown(name),
                             fmt::join(entry.offsets, ", "), data.size()));
  }
  std::uint64_t bytes = dtype_size(tensor.type.dtype);
  bool overflow = false;
  for (const std::uint64_t dim : entry.shape) {
    overflow = overflow || dim > (std::uint64_t{1} << 62) || __builtin_mul_overflow(bytes, dim, &bytes);
    tensor.type.shape.push_back(static_cast<std::int64_t>(dim));
  }
  if (overflow || bytes != entry.offsets[1] - entry.offsets[0]) {
    fail(origin, fmt::format("tensor {}: {} [{}] does not take the {} bytes of data_offsets [{}]", shown(name),
                             entry.dtype, fmt::join(entry.shape, ", "), entry.offsets[1] - entry.offsets[0],
                             fmt::join(entry.offsets, ", ")));
  }
  tensor.bytes = data.subspan(entry.offsets[0], bytes);
  if (tensor.type.dtype == DType::boolean) check_booleans(name, tensor, origin);
  return tensor;
}

// The tensors, in the order of their offsets, must follow each other from the first byte of data to the last.
void check_coverage(const std::map<std::string, Entry>& entries, std::uint64_t data_bytes, const std::string& origin) {
  using Place = std::pair<std::vector<std::uint64_t>, std::string>;
  std::vector<Place> places;
  for (const auto& [name, entry] : entries) places.emplace_back(entry.offsets, name);
  std::sort(places.begin(), places.end());
  std::uint64_t end = 0;
  for (const auto& [offsets, name] : places) {
    if (offsets[0] != end) {
      fail(origin, fmt::format("tensor {} begins at byte {} of the data, expected {}: {}", shown(name), offsets[0], end,
                               offsets[0] < end ? "two tensors overlap" : "bytes without a tensor"));
    }
    end = offsets[1];
  }
  if (end != data_bytes) {
    fail(origin, fmt::format("the tensors end at byte {} of the data, which has {} bytes", end, data_bytes));
  }
}

std::string_view header_text(std::span<const std::byte> file, const std::string& origin) {
  if (file.size() < 8) {
    fail(origin, fmt::format("found {} bytes, expected at least the 8 of the header's length", file.size()));
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  if (length > kMaxHeaderBytes) {
    fail(origin,
         fmt::format("byte 0: a header of {} bytes is announced, at most {} are allowed", length, kMaxHeaderBytes));
  }
  if (length > file.size() - 8) {
    fail(origin, fmt::format("byte 0: a header of {} bytes is announced, but the file has {} after the length", length,
                             file.size() - 8));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  if (text.empty() || text.front() != '{') fail(origin, "byte 8: the header does not begin with '{'");
  return text;
}

}  // namespace

SafetensorsContent parse_safetensors(std::span<const std::byte> file, const std::string& origin) {
  const std::string_view text = header_text(file, origin);
  const std::span<const std::byte> data = file.subspan(8 + text.size());
  HeaderReader reader(origin);
  json::sax_parse(text.begin(), text.end(), &reader);
  SafetensorsContent content;
  for (const auto& [name, entry] : reader.entries) content.tensors.emplace(name, locate(name, entry, data, origin));
  check_coverage(reader.entries, data.size(), origin);
  content.metadata = std::move(reader.metadata);
  return content;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path.string()), file_(path), content_(parse_safetensors(file_.bytes(), path_)) {}

const TensorBytes& SafetensorsFile::tensor(const std::string& name) const {
  const auto it = content_.tensors.find(name);
  if (it != content_.tensors.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [known, unused] : content_.tensors) names.push_back(known);
  const std::string near = nearest(name, names);
  throw Error(ErrorCode::checkpoint,
              fmt::format("{}: there is no tensor {} among its {}", path_, shown(name), names.size()),
              near.empty() ? "" : "did you mean " + shown(near) + "?");
}

}  // namespace trivet
