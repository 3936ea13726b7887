// Training samples that lie in the device's memory (TrainConfig::resident). Private to this folder.
#pragma once

#include "trivet/data/dataset.h"
#include "trivet/exec/session.h"

namespace trivet {

// What a loader then has to prepare: nothing but the samples' numbers, and their labels where those weigh them.
class SampleNumbers final : public Dataset {
 public:
  // `data` must outlive it.
  SampleNumbers(const Dataset& data, bool labels);
  std::int64_t count() const override { return data_.count(); }
  const std::vector<Field>& inputs() const override { return inputs_; }
  const std::optional<Field>& target_field() const override { return target_; }
  const DataTarget& target() const override { return data_.target(); }
  std::vector<std::int64_t> category_sizes(std::size_t) const override { return {}; }
  void read(std::int64_t sample, const SampleDraw&, std::span<std::byte* const>, std::byte* y) const override;
  std::int64_t label(std::int64_t sample) const override { return data_.label(sample); }
  ShownSample show(std::int64_t sample) const override { return data_.show(sample); }

 private:
  const Dataset& data_;
  std::vector<Field> inputs_;  // none
  std::optional<Field> target_;
};

// Reads all samples into the states that gather_inputs() has made. Error(data) names a sample that cannot be used.
void upload_samples(const Dataset& data, Arena& arena);

}  // namespace trivet
