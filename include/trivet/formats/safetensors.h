// safetensors (https://github.com/huggingface/safetensors, section "Format"): a little-endian u64 with the header's
// length, a JSON header that gives each tensor's dtype, shape and place, then the tensors' bytes, without holes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "trivet/base/file.h"
#include "trivet/base/types.h"

namespace trivet {

// A tensor to be written; `data` is dense, row-major and holds type.bytes() bytes.
struct TensorRef {
  std::string name;
  TensorType type;
  const void* data = nullptr;
};

using TensorMetadata = std::map<std::string, std::string>;

// Gives the bytes of a tensor whose `data` is null when it is to be written; they must stay until the next call.
using TensorSource = std::function<const void*(const TensorRef&)>;

// Writes the file whole or not at all (AtomicFile), straight from the tensors' memory. Equal tensors and metadata, in
// any order, give equal bytes: wide elements come first, so that each tensor lies at a multiple of its element size,
// and equal widths are in the order of names.
// Returns the SHA-256 of the file. Error(io) from the file system; Error(internal) for names that are not unique,
// not UTF-8 or reserved ("__metadata__"), or for missing data.
std::string write_safetensors(const std::filesystem::path& path, std::span<const TensorRef> tensors,
                              const TensorMetadata& metadata = {}, const TensorSource& source = {});

// A tensor in memory that belongs to somebody else. The bytes may lie at any address: copy them, do not cast them.
struct TensorBytes {
  TensorType type;
  std::span<const std::byte> bytes;
};

struct SafetensorsContent {
  std::map<std::string, TensorBytes> tensors;
  TensorMetadata metadata;
};

// Checks everything and returns views into `file`. Error(checkpoint), with `origin` in the message, unless the header
// is at most 100,000,000 bytes of the JSON that the format prescribes, names are unique, dtypes are F32, F64, I32, I64,
// U8 or BOOL, ranks at most kMaxRank, sizes agree with shapes, and the tensors cover the data without hole or overlap.
SafetensorsContent parse_safetensors(std::span<const std::byte> file, const std::string& origin);

// A file mapped read-only; the views live as long as it does.
class SafetensorsFile {
 public:
  // Error(io) if the file cannot be read, else as parse_safetensors.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorBytes>& tensors() const { return content_.tensors; }
  const TensorMetadata& metadata() const { return content_.metadata; }

  // Error(checkpoint) that names the nearest name if there is none of this name.
  const TensorBytes& tensor(const std::string& name) const;

 private:
  std::string path_;
  MappedFile file_;
  SafetensorsContent content_;
};

}  // namespace trivet
