// Samples of a data set as plain vectors.
#pragma once

#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "trivet/data/dataset.h"

namespace trivet::testing {

struct ReadSample {
  std::vector<float> x;
  std::vector<std::int32_t> categories;
  std::vector<float> numbers;  // y, if it is a number
  std::int32_t label = -1;     // y, if it is a label
};

inline ReadSample read_sample(const Dataset& data, std::int64_t index) {
  std::vector<std::vector<std::byte>> buffers;
  std::vector<std::byte*> inputs;
  for (const Field& field : data.inputs()) buffers.emplace_back(field.bytes());
  for (std::vector<std::byte>& buffer : buffers) inputs.push_back(buffer.data());
  std::vector<std::byte> y(data.target_field() ? data.target_field()->bytes() : 0);
  data.read(index, {}, inputs, data.target_field() ? y.data() : nullptr);
  ReadSample sample;
  const auto copy = [](const std::vector<std::byte>& from, auto& to) {
    to.resize(from.size() / sizeof(to[0]));
    std::memcpy(to.data(), from.data(), from.size());
  };
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (data.inputs()[i].name == "x") copy(buffers[i], sample.x);
    if (data.inputs()[i].name == "categories") copy(buffers[i], sample.categories);
  }
  if (data.target().kind == TargetKind::number) copy(y, sample.numbers);
  if (data.target().kind == TargetKind::label) std::memcpy(&sample.label, y.data(), sizeof(sample.label));
  return sample;
}

inline std::vector<std::int64_t> all_of(const DataSource& source) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(source.count()));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  return indices;
}

}  // namespace trivet::testing
