// Learning from the training samples of arrays.
#include <set>

#include "runtime/data/array_source.h"
#include "runtime/data/moments.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

using nlohmann::json;

constexpr std::size_t kMostClasses = std::size_t{1} << 16;
constexpr std::int64_t kLabelsAtOnce = 4096;
constexpr const char* kTooLarge = "give it in a larger unit";

void check_samples(const Arrays& arrays, std::span<const std::int64_t> train) {
  if (train.empty()) {
    throw Error(ErrorCode::data, fmt::format("{}: there are no samples to learn from", arrays.x_name));
  }
  for (const std::int64_t sample : train) {
    if (sample >= 0 && sample < arrays.count()) continue;
    throw Error(ErrorCode::data,
                fmt::format("sample {} is out of range: {} has {}", sample, arrays.x_name, arrays.count()));
  }
}

// Moments of elements of which `groups` lie side by side, over the samples; every value must be finite.
std::vector<Moments> moments_of(const NpyArray& array, const std::string& name, std::span<const std::int64_t> samples,
                                std::size_t elements, std::size_t groups) {
  std::vector<Moments> moments(groups);
  std::vector<double> values(elements);
  for (const std::int64_t sample : samples) {
    read_npy_elements(array, sample * static_cast<std::int64_t>(elements), std::span(values));
    for (std::size_t i = 0; i < elements; ++i) {
      if (!std::isfinite(values[i])) {
        fail_at_element(name, sample, i, values[i], "expected a finite number", "correct the data, or leave it out");
      }
    }
    for (std::size_t i = 0; i < elements; i += groups) {
      for (std::size_t g = 0; g < groups; ++g) moments[g].add(values[i + g]);
    }
  }
  for (std::size_t g = 0; g < groups; ++g) {
    if (std::isfinite(moments[g].deviation())) continue;
    throw Error(ErrorCode::data,
                fmt::format("{}: the numbers at {} of the last dimension, from {} to {}, are too large to standardise",
                            name, g, moments[g].smallest, moments[g].largest),
                kTooLarge);
  }
  return moments;
}

void fit_x(const Arrays& arrays, std::span<const std::int64_t> train, bool normalize, ArrayPreparation& p) {
  const auto groups = static_cast<std::size_t>(p.shape.back());
  p.mean.assign(groups, 0.0);
  p.stddev.assign(groups, arrays.is_images() ? 255.0 : 1.0);
  if (!normalize) return;
  const auto elements = static_cast<std::size_t>(element_count(p.shape));
  const std::vector<Moments> moments = moments_of(arrays.x, arrays.x_name, train, elements, groups);
  for (std::size_t g = 0; g < groups; ++g) {
    p.mean[g] = moments[g].mean;
    p.stddev[g] = moments[g].deviation();
  }
}

[[noreturn]] void fail_label(const Arrays& arrays, std::int64_t sample, std::int64_t label, const std::string& what) {
  throw Error(ErrorCode::data, fmt::format("{}: sample {} has the label {}, {}", arrays.y_name, sample, label, what),
              "raise model.classes or leave it out; numbers to predict need data.target: number");
}

void fit_classes(const Arrays& arrays, std::int64_t expected, DataTarget& target) {
  if (arrays.y->shape.size() == 2 && arrays.y->shape[1] != 1) {
    throw Error(ErrorCode::data,
                fmt::format("{} has the shape {}, expected one label for each sample", arrays.y_name,
                            to_string(arrays.y->shape)),
                "numbers to predict need data.target: number; one-hot labels are given as integers: y.argmax(axis=1)");
  }
  target.kind = TargetKind::label;
  std::set<std::int64_t> classes;
  std::vector<std::int64_t> labels;
  for (std::int64_t first = 0; first < arrays.count(); first += kLabelsAtOnce) {
    labels.resize(static_cast<std::size_t>(std::min(kLabelsAtOnce, arrays.count() - first)));
    read_labels(arrays, first, labels);
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const std::int64_t sample = first + static_cast<std::int64_t>(i);
      if (expected > 0 && (labels[i] < 0 || labels[i] >= expected)) {
        fail_label(arrays, sample, labels[i], fmt::format("expected 0 to {}", expected - 1));
      }
      classes.insert(labels[i]);
      if (classes.size() > kMostClasses) {
        fail_label(arrays, sample, labels[i], fmt::format("after {} others, the most classes possible", kMostClasses));
      }
    }
  }
  for (std::int64_t c = 0; c < expected; ++c) classes.insert(c);
  for (const std::int64_t c : classes) target.class_names.push_back(std::to_string(c));
  target.classes = static_cast<std::int64_t>(classes.size());
}

void fit_numbers(const Arrays& arrays, std::span<const std::int64_t> train, bool normalize, DataTarget& target) {
  const auto k = static_cast<std::size_t>(arrays.y->shape.size() == 2 ? arrays.y->shape[1] : 1);
  target.kind = TargetKind::number;
  for (const Moments& moments : moments_of(*arrays.y, arrays.y_name, train, k, k)) {
    target.target_names.push_back(k == 1 ? "y" : fmt::format("y[{}]", target.target_names.size()));
    target.mean.push_back(normalize ? moments.mean : 0.0);
    target.stddev.push_back(normalize ? moments.deviation() : 1.0);
  }
}

[[noreturn]] void damaged(const std::string& what) {
  throw Error(ErrorCode::checkpoint, fmt::format("the preparation of the arrays: {}", what),
              "the checkpoint is damaged; choose another one");
}

void check_scale(const std::vector<double>& mean, const std::vector<double>& stddev, std::size_t size) {
  bool usable = mean.size() == size && stddev.size() == size;
  for (std::size_t i = 0; usable && i < size; ++i) {
    usable = std::isfinite(mean[i]) && std::isfinite(stddev[i]) && stddev[i] > 0;
  }
  if (!usable) damaged("its means and deviations are unusable");
}

}  // namespace

void read_labels(const Arrays& arrays, std::int64_t first, std::span<std::int64_t> out) {
  if (arrays.y->is_integer()) return read_npy_elements(*arrays.y, first, out);
  std::vector<double> values(out.size());
  read_npy_elements(*arrays.y, first, std::span(values));
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!(std::abs(values[i]) <= 0x1p53) || values[i] != std::floor(values[i])) {
      fail_at_element(arrays.y_name, first + static_cast<std::int64_t>(i), 0, values[i], "expected a whole number",
                      "labels are whole numbers; numbers to predict need data.target: number");
    }
    out[i] = static_cast<std::int64_t>(values[i]);
  }
}

ArrayPreparation fit_arrays(const Arrays& arrays, std::span<const std::int64_t> train, const DataConfig& config) {
  check_samples(arrays, train);
  ArrayPreparation p;
  p.shape = arrays.sample_shape();
  fit_x(arrays, train, config.normalize, p);
  if (!arrays.y) return p;
  const bool label = config.target == "label" || (config.target == "auto" && arrays.y->is_integer());
  if (label) {
    fit_classes(arrays, config.classes, p.target);
  } else {
    fit_numbers(arrays, train, config.normalize, p.target);
  }
  return p;
}

Preparation to_preparation(const ArrayPreparation& p) {
  return {"arrays", {{"shape", p.shape}, {"mean", p.mean}, {"stddev", p.stddev}, {"target", p.target}}};
}

ArrayPreparation array_preparation(const Preparation& preparation, const std::string& file) {
  if (preparation.kind != "arrays") {
    throw Error(
        ErrorCode::data,
        fmt::format("{} holds arrays, the model was trained on data of the kind \"{}\"", file, preparation.kind),
        "give data of the form that the model was trained on");
  }
  ArrayPreparation p;
  try {
    const json& values = preparation.values;
    values.at("shape").get_to(p.shape);
    values.at("mean").get_to(p.mean);
    values.at("stddev").get_to(p.stddev);
    values.at("target").get_to(p.target);
  } catch (const json::exception& e) {
    damaged(e.what());
  }
  if (p.shape.empty() || p.shape.back() <= 0) damaged(fmt::format("its shape is {}", to_string(p.shape)));
  check_scale(p.mean, p.stddev, static_cast<std::size_t>(p.shape.back()));
  if (p.target.kind == TargetKind::number) check_scale(p.target.mean, p.target.stddev, p.target.target_names.size());
  return p;
}

}  // namespace trivet
