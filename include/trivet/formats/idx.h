// IDX, the format of MNIST and its relatives (Y. LeCun, https://yann.lecun.com/exdb/mnist): two zero bytes, a byte for
// the element type (0x08: unsigned byte), a byte for the rank, each dimension as a big-endian u32, then the elements,
// row-major. Plain or gzip, told apart by content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "trivet/base/types.h"
#include "trivet/formats/mapped_file.h"

namespace trivet {

struct IdxArray {
  Shape shape;      // as in the file
  DataBytes bytes;  // element_count(shape) of them
};

// (N, H, W) or (N, H, W, C), no dimension 0. A plain file stays where it is; gzip is inflated into memory, or beyond
// data_memory_limit() into a temporary file.
// Error(io): missing, unreadable, a directory. Error(data): everything else, with the byte offset, what was found and
// what was expected. Memory use is bounded by what the header announces, and what it announces is refused before
// anything is read if the file cannot hold it.
IdxArray read_idx_images(const std::filesystem::path& path);

// (N), N > 0. Errors as above.
IdxArray read_idx_labels(const std::filesystem::path& path);

// The bytes before the elements, for unsigned bytes of this shape. Error(data) if a dimension passes 2^32 - 1.
std::string idx_header(const Shape& shape);

}  // namespace trivet
