// A set of images, in its file or in memory, with or without labels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trivet/data/config.h"
#include "trivet/data/dataset.h"
#include "trivet/formats/mapped_file.h"

namespace trivet {

struct ImageData {
  std::int64_t count = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;
  DataBytes pixels;                  // (count, height, width, channels)
  std::vector<std::int32_t> labels;  // (count), each in [0, classes); empty without labels
  std::int64_t classes = 0;          // the largest label + 1; 0 without labels
  // SHA-256 of the content of the image file followed by that of the label file, both uncompressed: the same for
  // plain and gzip files, and what `zcat images labels | sha256sum` prints.
  std::string digest;

  std::size_t sample_elements() const { return static_cast<std::size_t>(height * width * channels); }
  // Where it lies, or else in `scratch`.
  const std::uint8_t* sample(std::int64_t i, std::vector<std::byte>& scratch) const {
    const std::size_t elements = sample_elements();
    const auto bytes = pixels.read(static_cast<std::size_t>(i) * elements, elements, scratch);
    return reinterpret_cast<const std::uint8_t*>(bytes.data());
  }
};

// Errors as read_idx_images and read_idx_labels; Error(data) also if the two files differ in their number of samples.
ImageData load_images(const DataFiles& source);

// Images as a source of samples: field "x" f32[H,W,C], target "y" i32[] where there are labels. Its preparation has
// {"height", "width", "channels", "mean", "stddev", "classes", "crop_padding", "flip"}. `files` names them in errors.
std::unique_ptr<DataSource> image_source(ImageData data, const DataFiles& files);

// Both of the above.
std::unique_ptr<DataSource> open_images(const DataFiles& files);

}  // namespace trivet
