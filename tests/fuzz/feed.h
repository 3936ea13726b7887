// Reads every sample of a data source as training does.
#pragma once

#include <memory>
#include <vector>

#include "trivet/data/dataset.h"

namespace trivet::testing {

inline void feed(const DataSource& source, const Preparation& preparation, bool with_target) {
  const std::unique_ptr<Dataset> data = source.prepare(preparation, with_target);
  std::vector<std::vector<std::byte>> buffers;
  std::vector<std::byte*> inputs;
  for (const Field& field : data->inputs()) buffers.emplace_back(field.bytes());
  for (std::vector<std::byte>& buffer : buffers) inputs.push_back(buffer.data());
  std::vector<std::byte> y(data->target_field() ? data->target_field()->bytes() : 0);
  for (std::int64_t i = 0; i < source.count(); ++i) data->read(i, {true, 1, 0}, inputs, y.empty() ? nullptr : y.data());
  data->show(source.count() - 1);
}

}  // namespace trivet::testing
