// Arrays as a source of samples.
#include "runtime/data/array_source.h"

#include <mutex>

#include "runtime/data/sources.h"
#include "trivet/base/error.h"
#include "trivet/base/hash.h"
#include "trivet/formats/npz.h"

namespace trivet {
namespace {

void check(const Arrays& arrays) {
  if (arrays.x.shape.empty() || arrays.x.elements() == 0) {
    throw Error(
        ErrorCode::data,
        fmt::format("{} has the shape {}, expected at least one sample", arrays.x_name, to_string(arrays.x.shape)),
        "the first dimension counts the samples");
  }
  if (!arrays.y) return;
  const Shape& y = arrays.y->shape;
  if (y.empty() || y.size() > 2 || arrays.y->elements() == 0) {
    throw Error(ErrorCode::data,
                fmt::format("{} has the shape {}, expected one label or a row of numbers for each sample",
                            arrays.y_name, to_string(y)),
                "give targets of the shape (N) or (N, k)");
  }
  if (y[0] != arrays.count()) {
    throw Error(ErrorCode::data,
                fmt::format("{} has {} samples, {} has {}", arrays.x_name, arrays.count(), arrays.y_name, y[0]),
                "give the targets of the same samples");
  }
}

void update(Sha256& digest, const NpyArray& array) {
  digest.update(fmt::format("{}{}{};", npy_dtype_name(array.dtype), array.swapped ? ">" : "", to_string(array.shape)));
  array.data.for_each_piece([&](std::span<const std::byte> piece) { digest.update(piece); });
}

class ArraySource final : public DataSource {
 public:
  explicit ArraySource(Arrays arrays) : arrays_(std::move(arrays)) { check(arrays_); }

  std::int64_t count() const override { return arrays_.count(); }

  // Of types, shapes and elements, so that it is the same for .npy and .npz.
  std::string digest() const override {
    std::call_once(digested_, [this] {
      Sha256 digest;
      update(digest, arrays_.x);
      if (arrays_.y) update(digest, *arrays_.y);
      digest_ = digest.hex();
    });
    return digest_;
  }

  std::size_t resident_bytes() const override {
    const std::size_t labels = arrays_.y ? static_cast<std::size_t>(count()) * sizeof(std::int32_t) : 0;
    return arrays_.x.data.resident_bytes() + (arrays_.y ? arrays_.y->data.resident_bytes() : 0) + labels;
  }

  Preparation fit(std::span<const std::int64_t> train, const DataConfig& config) const override {
    if (config.augment != AugmentConfig{}) {
      throw Error(ErrorCode::data, fmt::format("{}: data.augment is for images in IDX files", arrays_.x_name),
                  "leave data.augment out");
    }
    return to_preparation(fit_arrays(arrays_, train, config));
  }

  bool has_target(const Preparation& preparation) const override {
    array_preparation(preparation, arrays_.x_name);
    return arrays_.y.has_value();
  }

  std::unique_ptr<Dataset> prepare(const Preparation& preparation, bool with_target) const override {
    ArrayPreparation p = array_preparation(preparation, arrays_.x_name);
    if (p.shape != arrays_.sample_shape()) {
      throw Error(ErrorCode::data,
                  fmt::format("{} has samples of the shape {}, the model was trained on {}", arrays_.x_name,
                              to_string(arrays_.sample_shape()), to_string(p.shape)),
                  "give samples of the same shape");
    }
    return array_dataset(arrays_, std::move(p), with_target);
  }

 private:
  const Arrays arrays_;
  mutable std::once_flag digested_;
  mutable std::string digest_;
};

// "x", or "X" as many write it.
std::string array_name(const NpzFile& file, const char* small, const char* capital) {
  return !file.has(small) && file.has(capital) ? capital : small;
}

}  // namespace

Shape Arrays::sample_shape() const {
  Shape shape(x.shape.begin() + 1, x.shape.end());
  if (shape.empty() || (is_images() && shape.size() == 2)) shape.push_back(1);
  return shape;
}

void fail_at_element(const std::string& name, std::int64_t sample, std::size_t element, double value,
                     const std::string& what, const std::string& hint) {
  throw Error(ErrorCode::data,
              fmt::format("{}: sample {}, element {}: found {}, {}", name, sample, element, value, what), hint);
}

std::unique_ptr<DataSource> open_npy(const DataFiles& files) {
  Arrays arrays;
  arrays.x_name = files.file.string();
  arrays.x = map_npy(files.file);
  if (!files.targets.empty()) {
    arrays.y_name = files.targets.string();
    arrays.y = map_npy(files.targets);
  }
  return std::make_unique<ArraySource>(std::move(arrays));
}

std::unique_ptr<DataSource> open_npz(const DataFiles& files) {
  if (!files.targets.empty()) {
    throw Error(
        ErrorCode::data,
        fmt::format("{} holds its targets as \"y\"; {} is not needed", files.file.string(), files.targets.string()),
        "leave `targets` out, or give x as an .npy file");
  }
  const NpzFile file(files.file);
  const std::string x = array_name(file, "x", "X"), y = array_name(file, "y", "Y");
  Arrays arrays;
  arrays.x_name = fmt::format("{}({})", files.file.string(), x);
  arrays.y_name = fmt::format("{}({})", files.file.string(), y);
  arrays.x = file.array(x);
  if (file.has(y)) arrays.y = file.array(y);
  return std::make_unique<ArraySource>(std::move(arrays));
}

}  // namespace trivet
