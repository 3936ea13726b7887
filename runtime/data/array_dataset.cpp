// Samples of arrays, prepared for the model.
#include <charconv>
#include <limits>

#include "runtime/data/array_source.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

constexpr std::size_t kMostShown = 64;  // elements
constexpr const char* kHint =
    "correct the data; with data.normalize numbers are scaled to those of the training samples";

// Whether every value of the type is a float too.
bool fits_float(NpyDtype dtype) {
  return dtype == NpyDtype::f16 || dtype == NpyDtype::f32 || npy_dtype_size(dtype) == 1 || dtype == NpyDtype::i16 ||
         dtype == NpyDtype::u16;
}

// (values - mean) / stddev in double; false if one of the results is not finite. in: (rows, mean.size()).
template <class T>
bool scale(const T* in, std::size_t rows, std::span<const double> mean, std::span<const double> stddev, float* out) {
  bool finite = true;
  for (std::size_t row = 0; row < rows; ++row, in += mean.size(), out += mean.size()) {
    for (std::size_t i = 0; i < mean.size(); ++i) {
      out[i] = static_cast<float>((static_cast<double>(in[i]) - mean[i]) / stddev[i]);
      finite &= std::abs(out[i]) <= std::numeric_limits<float>::max();
    }
  }
  return finite;
}

class ArrayDataset final : public Dataset {
 public:
  ArrayDataset(const Arrays& arrays, ArrayPreparation preparation, bool with_target)
      : arrays_(arrays),
        p_(std::move(preparation)),
        elements_(static_cast<std::size_t>(element_count(p_.shape))),
        inputs_{{"x", DType::f32, p_.shape}} {
    if (with_target) add_target();
  }

  std::int64_t count() const override { return arrays_.count(); }
  const std::vector<Field>& inputs() const override { return inputs_; }
  const std::optional<Field>& target_field() const override { return target_field_; }
  const DataTarget& target() const override { return target_; }
  std::vector<std::int64_t> category_sizes(std::size_t) const override { return {}; }

  void read(std::int64_t sample, const SampleDraw&, std::span<std::byte* const> inputs, std::byte* y) const override {
    check_index(sample);
    read_x(sample, reinterpret_cast<float*>(inputs[0]));
    if (!y) return;
    if (!target_field_) throw Error(ErrorCode::internal, "the target of arrays without one was asked for");
    if (target_.kind == TargetKind::label) {
      std::memcpy(y, &labels_[static_cast<std::size_t>(sample)], sizeof(std::int32_t));
    } else {
      read_numbers(sample, reinterpret_cast<float*>(y));
    }
  }

  std::int64_t label(std::int64_t sample) const override {
    if (target_.kind != TargetKind::label) {
      throw Error(ErrorCode::internal, "a label of arrays without labels was asked for");
    }
    check_index(sample);
    return labels_[static_cast<std::size_t>(sample)];
  }

  ShownSample show(std::int64_t sample) const override {
    check_index(sample);
    ShownSample shown;
    if (arrays_.is_images()) {
      std::vector<std::byte> scratch;
      const auto from = arrays_.x.data.read(static_cast<std::size_t>(sample) * elements_, elements_, scratch);
      shown.height = p_.shape[0];
      shown.width = p_.shape[1];
      shown.channels = p_.shape[2];
      for (const std::byte value : from) shown.pixels.push_back(std::to_integer<std::uint8_t>(value));
      return shown;
    }
    std::vector<double> values(std::min(elements_, kMostShown));
    read_npy_elements(arrays_.x, first_element(sample), std::span(values));
    for (std::size_t i = 0; i < values.size(); ++i) {
      shown.columns.emplace_back(fmt::format("x[{}]", i), fmt::format("{}", values[i]));
    }
    return shown;
  }

  std::vector<std::uint8_t> pixels(std::span<const float> x) const override {
    std::vector<std::uint8_t> result;
    if (!arrays_.is_images()) return result;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i % p_.mean.size();
      const double value = static_cast<double>(x[i]) * p_.stddev[c] + p_.mean[c];
      result.push_back(value > 0 ? static_cast<std::uint8_t>(std::min(255.0, std::round(value))) : std::uint8_t{0});
    }
    return result;
  }

 private:
  std::int64_t first_element(std::int64_t sample) const { return sample * static_cast<std::int64_t>(elements_); }

  void check_index(std::int64_t sample) const {
    if (sample >= 0 && sample < count()) return;
    throw Error(ErrorCode::data, fmt::format("sample {} is out of range: {} has {}", sample, arrays_.x_name, count()));
  }

  void add_target() {
    if (!arrays_.y || p_.target.kind == TargetKind::none) {
      const bool here = arrays_.y.has_value();
      throw Error(ErrorCode::data,
                  here ? fmt::format("the model was trained without targets, {} has them", arrays_.y_name)
                       : fmt::format("{} has no targets, and they are needed", arrays_.x_name),
                  "name the array of targets under `targets`, or save it as \"y\" in the .npz file");
    }
    target_ = p_.target;
    if (target_.kind == TargetKind::label) {
      target_field_ = Field{"y", DType::i32, {}};
      find_labels();
      return;
    }
    const std::int64_t k = arrays_.y->shape.size() == 2 ? arrays_.y->shape[1] : 1;
    if (k != static_cast<std::int64_t>(target_.mean.size())) {
      throw Error(ErrorCode::data, fmt::format("{} has {} numbers for each sample, the model was trained on {}",
                                               arrays_.y_name, k, target_.mean.size()));
    }
    target_field_ = Field{"y", DType::f32, {k}};
  }

  void find_labels() {
    std::map<std::int64_t, std::int32_t> classes;
    for (const std::string& name : target_.class_names) {
      std::int64_t value = 0;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
      if (error != std::errc{} || end != name.data() + name.size()) {
        throw Error(ErrorCode::checkpoint, fmt::format("the class \"{}\" of arrays is no whole number", name),
                    "the checkpoint is damaged; choose another one");
      }
      classes.emplace(value, static_cast<std::int32_t>(classes.size()));
    }
    if (arrays_.y->shape.size() == 2 && arrays_.y->shape[1] != 1) {
      throw Error(ErrorCode::data, fmt::format("{} has the shape {}, expected one label for each sample",
                                               arrays_.y_name, to_string(arrays_.y->shape)));
    }
    labels_.reserve(static_cast<std::size_t>(count()));
    std::vector<std::int64_t> values(static_cast<std::size_t>(std::min<std::int64_t>(count(), 4096)));
    for (std::int64_t first = 0; first < count(); first += static_cast<std::int64_t>(values.size())) {
      values.resize(std::min(values.size(), static_cast<std::size_t>(count() - first)));
      read_labels(arrays_, first, values);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto at = classes.find(values[i]);
        if (at == classes.end()) {
          throw Error(
              ErrorCode::data,
              fmt::format("{}: sample {} has the label {}, which is none of the {} classes of the training data",
                          arrays_.y_name, first + static_cast<std::int64_t>(i), values[i], target_.classes),
              "train with data that have all classes");
        }
        labels_.push_back(at->second);
      }
    }
  }

  void read_x(std::int64_t sample, float* out) const {
    const std::size_t rows = elements_ / p_.mean.size();
    if (fits_float(arrays_.x.dtype)) {
      read_npy_elements(arrays_.x, first_element(sample), std::span(out, elements_));
      if (scale(out, rows, p_.mean, p_.stddev, out)) return;
    } else {
      thread_local std::vector<double> values;
      values.resize(elements_);
      read_npy_elements(arrays_.x, first_element(sample), std::span(values));
      if (scale(values.data(), rows, p_.mean, p_.stddev, out)) return;
    }
    fail_x(sample, out);
  }

  [[noreturn]] void fail_x(std::int64_t sample, const float* scaled) const {
    std::size_t i = 0;
    while (i + 1 < elements_ && std::isfinite(scaled[i])) ++i;
    double value = 0;
    read_npy_elements(arrays_.x, first_element(sample) + static_cast<std::int64_t>(i), std::span(&value, 1));
    fail_at_element(arrays_.x_name, sample, i, value, "expected a finite number that fits 32 bits", kHint);
  }

  void read_numbers(std::int64_t sample, float* out) const {
    std::vector<double> values(target_.mean.size());
    read_npy_elements(*arrays_.y, sample * static_cast<std::int64_t>(values.size()), std::span(values));
    if (scale(values.data(), 1, target_.mean, target_.stddev, out)) return;
    std::size_t i = 0;
    while (i + 1 < values.size() && std::isfinite(out[i])) ++i;
    fail_at_element(arrays_.y_name, sample, i, values[i], "expected a finite number that fits 32 bits", kHint);
  }

  const Arrays& arrays_;
  const ArrayPreparation p_;
  const std::size_t elements_;
  const std::vector<Field> inputs_;
  std::optional<Field> target_field_;
  DataTarget target_;
  std::vector<std::int32_t> labels_;
};

}  // namespace

std::unique_ptr<Dataset> array_dataset(const Arrays& arrays, ArrayPreparation preparation, bool with_target) {
  return std::make_unique<ArrayDataset>(arrays, std::move(preparation), with_target);
}

}  // namespace trivet
