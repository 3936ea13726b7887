// Samples of numbers in memory, as a source for training.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "trivet/base/error.h"
#include "trivet/data/dataset.h"

namespace trivet::testing {

struct Samples {
  std::int64_t width = 1;
  std::vector<float> x;              // (count, width)
  std::vector<std::int32_t> labels;  // (count), or
  std::vector<float> numbers;        // (count, targets)
  std::int64_t targets = 1;
  std::vector<std::string> classes;

  std::int64_t count() const { return static_cast<std::int64_t>(x.size()) / width; }
};

// Numbers are standardised with mean 10 and deviation 2, whatever they are.
class MemorySource final : public DataSource {
 public:
  explicit MemorySource(Samples samples) : samples_(std::move(samples)) {}

  std::int64_t count() const override { return samples_.count(); }
  std::string digest() const override { return "memory"; }
  std::size_t resident_bytes() const override { return samples_.x.size() * sizeof(float); }
  Preparation fit(std::span<const std::int64_t>, const DataConfig&) const override {
    return {"memory", {{"warnings", {"the column 'id' is not used"}}}};
  }
  bool has_target(const Preparation&) const override { return true; }
  std::unique_ptr<Dataset> prepare(const Preparation&, bool with_target) const override {
    return std::make_unique<Prepared>(samples_, with_target);
  }

 private:
  class Prepared final : public Dataset {
   public:
    Prepared(const Samples& samples, bool with_target)
        : samples_(samples), inputs_{{"x", DType::f32, {samples.width}}} {
      if (!with_target) return;
      const bool labels = !samples.classes.empty();
      target_field_ = labels ? Field{"y", DType::i32, {}} : Field{"y", DType::f32, {samples.targets}};
      target_.kind = labels ? TargetKind::label : TargetKind::number;
      target_.classes = static_cast<std::int64_t>(samples.classes.size());
      target_.class_names = samples.classes;
      for (std::int64_t i = 0; !labels && i < samples.targets; ++i) {
        target_.target_names.push_back(fmt::format("t{}", i));
        target_.mean.push_back(10);
        target_.stddev.push_back(2);
      }
    }
    std::int64_t count() const override { return samples_.count(); }
    const std::vector<Field>& inputs() const override { return inputs_; }
    const std::optional<Field>& target_field() const override { return target_field_; }
    const DataTarget& target() const override { return target_; }
    std::vector<std::int64_t> category_sizes(std::size_t) const override { return {}; }
    void read(std::int64_t sample, const SampleDraw&, std::span<std::byte* const> inputs, std::byte* y) const override {
      const auto i = static_cast<std::size_t>(sample), width = static_cast<std::size_t>(samples_.width);
      for (std::size_t k = 0; k < width; ++k) {
        if (!std::isnan(samples_.x[i * width + k])) continue;
        throw Error(ErrorCode::data, fmt::format("sample {}: element {} is NaN", sample, k));
      }
      std::memcpy(inputs[0], &samples_.x[i * width], width * sizeof(float));
      if (!y) return;
      if (!samples_.classes.empty()) {
        std::memcpy(y, &samples_.labels[i], sizeof(std::int32_t));
        return;
      }
      const auto targets = static_cast<std::size_t>(samples_.targets);
      for (std::size_t k = 0; k < targets; ++k) {
        reinterpret_cast<float*>(y)[k] = (samples_.numbers[i * targets + k] - 10.0F) / 2.0F;
      }
    }
    std::int64_t label(std::int64_t sample) const override { return samples_.labels[static_cast<std::size_t>(sample)]; }
    ShownSample show(std::int64_t sample) const override {
      const float first = samples_.x[static_cast<std::size_t>(sample * samples_.width)];
      return {0, 0, 0, {}, {{"first", fmt::format("{}", first)}}};
    }

   private:
    const Samples& samples_;
    const std::vector<Field> inputs_;
    std::optional<Field> target_field_;
    DataTarget target_;
  };

  const Samples samples_;
};

}  // namespace trivet::testing
