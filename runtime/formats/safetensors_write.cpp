#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/base/hash.h"
#include "trivet/formats/safetensors.h"

namespace trivet {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 18;  // hashed, then written, while it is in the cache

const char* stored_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f64:
      return "F64";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::u8:
      return "U8";
    case DType::boolean:
      return "BOOL";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::i8:
      return "I8";
  }
  throw Error(ErrorCode::internal, fmt::format("dtype {} has no name in safetensors", static_cast<int>(dtype)));
}

std::vector<const TensorRef*> in_file_order(std::span<const TensorRef> tensors, bool has_source) {
  std::vector<const TensorRef*> order;
  std::set<std::string_view> names;
  for (const TensorRef& t : tensors) {
    if (t.name == "__metadata__" || !names.insert(t.name).second) {
      throw Error(ErrorCode::internal, fmt::format("safetensors: the name \"{}\" is reserved or used twice", t.name));
    }
    if (!has_source && t.data == nullptr && t.type.bytes() > 0) {
      throw Error(ErrorCode::internal, fmt::format("safetensors: tensor \"{}\" has no data", t.name));
    }
    order.push_back(&t);
  }
  std::sort(order.begin(), order.end(), [](const TensorRef* a, const TensorRef* b) {
    const std::size_t wide_a = dtype_size(a->type.dtype);
    const std::size_t wide_b = dtype_size(b->type.dtype);
    return wide_a != wide_b ? wide_a > wide_b : a->name < b->name;
  });
  return order;
}

// The length and the JSON text, padded with spaces so that the data begins at a multiple of 8.
std::string make_header(std::span<const TensorRef* const> order, const TensorMetadata& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const TensorRef* t : order) {
    const std::uint64_t end = offset + t->type.bytes();
    header[t->name] = {
        {"dtype", stored_dtype(t->type.dtype)}, {"shape", t->type.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorCode::internal, fmt::format("safetensors: a name or a metadata value is not UTF-8: {}", e.what()));
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string length;
  for (int shift = 0; shift < 64; shift += 8) length += static_cast<char>(text.size() >> shift & 0xff);
  return length + text;
}

}  // namespace

std::string write_safetensors(const std::filesystem::path& path, std::span<const TensorRef> tensors,
                              const TensorMetadata& metadata, const TensorSource& source) {
  const std::vector<const TensorRef*> order = in_file_order(tensors, source != nullptr);
  const std::string header = make_header(order, metadata);
  AtomicFile file(path);
  Sha256 digest;
  digest.update(header);
  file.write(header);
  for (const TensorRef* t : order) {
    const void* data = t->data ? t->data : source ? source(*t) : nullptr;
    std::span<const std::byte> rest(static_cast<const std::byte*>(data), t->type.bytes());
    while (!rest.empty()) {
      const std::span<const std::byte> chunk = rest.first(std::min(rest.size(), kChunkBytes));
      digest.update(chunk);
      file.write(chunk);
      rest = rest.subspan(chunk.size());
    }
  }
  file.commit();
  return digest.hex();
}

}  // namespace trivet
