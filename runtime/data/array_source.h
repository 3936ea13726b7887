// Arrays as they lie in their files, and what training has learnt about them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trivet/data/dataset.h"
#include "trivet/formats/npy.h"

namespace trivet {

struct Arrays {
  NpyArray x;                  // (N, ...)
  std::optional<NpyArray> y;   // (N) or (N, k)
  std::string x_name, y_name;  // for errors

  std::int64_t count() const { return x.shape[0]; }
  // Bytes of rank 3 or 4: (N, H, W) or (N, H, W, C).
  bool is_images() const { return x.dtype == NpyDtype::u8 && x.shape.size() >= 3 && x.shape.size() <= 4; }
  // Of the field x: of images (H, W, C), of numbers alone (1), of others what the file says.
  Shape sample_shape() const;
};

struct ArrayPreparation {
  Shape shape;                       // of the field x
  std::vector<double> mean, stddev;  // for each index of the last dimension
  DataTarget target;
};

// {"shape", "mean", "stddev", "target"}
Preparation to_preparation(const ArrayPreparation& preparation);

// Error(data) if it is of another kind than arrays; Error(checkpoint) if it is damaged.
ArrayPreparation array_preparation(const Preparation& preparation, const std::string& file);

// From the training samples alone, but for the names of the classes. Error(data) names the sample and the element that
// is not finite.
ArrayPreparation fit_arrays(const Arrays& arrays, std::span<const std::int64_t> train, const DataConfig& config);

// `arrays` must outlive it.
std::unique_ptr<Dataset> array_dataset(const Arrays& arrays, ArrayPreparation preparation, bool with_target);

// The labels of samples first .. first + out.size() - 1. Error(data) for one that is no whole number.
void read_labels(const Arrays& arrays, std::int64_t first, std::span<std::int64_t> out);

// Error(data) for element `element` of sample `sample` of an array of this shape.
[[noreturn]] void fail_at_element(const std::string& name, std::int64_t sample, std::size_t element, double value,
                                  const std::string& what, const std::string& hint);

}  // namespace trivet
