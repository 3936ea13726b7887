// NumPy's .npy, version 1.0 (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): little-endian
// float32 ('<f4') or int64 ('<i8') in C order.
#pragma once

#include <filesystem>
#include <string>

#include "trivet/base/types.h"

namespace trivet {

// What comes before the elements of a file of this type. Error(internal) for a dtype other than f32 and i64.
std::string npy_header(const TensorType& type);

// `data`: type.bytes() bytes, row-major. Whole or not at all; Error(io) from the file system.
void write_npy(const std::filesystem::path& path, const TensorType& type, const void* data);

// Error(io) if unreadable; Error(data) unless it is version 1.0, f32 or i64, C order, of the size that its shape takes.
Tensor read_npy(const std::filesystem::path& path);

}  // namespace trivet
