// NumPy's .npy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), versions 1.0, 2.0 and 3.0.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "trivet/base/types.h"
#include "trivet/formats/mapped_file.h"

namespace trivet {

// The element types that are read: NumPy's f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 b1, of either byte order.
enum class NpyDtype : std::uint8_t { f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, boolean };

std::size_t npy_dtype_size(NpyDtype dtype);
const char* npy_dtype_name(NpyDtype dtype);  // as NumPy spells it: "float32"

// An array in a file, or in memory where it was compressed.
struct NpyArray {
  NpyDtype dtype = NpyDtype::f32;
  bool swapped = false;  // big-endian
  Shape shape;
  DataBytes data;  // row-major, at any address

  std::int64_t elements() const { return static_cast<std::int64_t>(data.size() / npy_dtype_size(dtype)); }
  bool is_integer() const { return dtype != NpyDtype::f16 && dtype != NpyDtype::f32 && dtype != NpyDtype::f64; }
};

// Elements first .. first + out.size() - 1, converted as C++ does. For T of float, double and std::int64_t; the latter
// for integers alone.
template <class T>
void read_npy_elements(const NpyArray& array, std::int64_t first, std::span<T> out);

// Error(io) if unreadable; Error(data) with what was found and how to mend it unless it is a whole array of these types
// in C order.
NpyArray map_npy(const std::filesystem::path& path);

// The same from bytes in memory, such as a member of an .npz; `name` is for errors.
NpyArray parse_npy(const DataBytes& file, const std::string& name);

// The whole array in memory. Errors of map_npy; Error(data) for i16, u16 and u32, of which there are no tensors.
Tensor read_npy(const std::filesystem::path& path);

// What comes before the elements of a file of this type. Error(internal) for bf16, which NumPy does not have.
std::string npy_header(const TensorType& type);

// `data`: type.bytes() bytes, row-major. Whole or not at all; Error(io) from the file system.
void write_npy(const std::filesystem::path& path, const TensorType& type, const void* data);

}  // namespace trivet
