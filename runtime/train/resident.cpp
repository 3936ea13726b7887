#include "runtime/train/resident.h"

#include <cstring>

#include "trivet/passes/passes.h"

namespace trivet {

SampleNumbers::SampleNumbers(const Dataset& data, bool labels) : data_(data) {
  if (labels) target_ = data.target_field();
}

void SampleNumbers::read(std::int64_t sample, const SampleDraw&, std::span<std::byte* const>, std::byte* y) const {
  if (!y) return;
  const auto label = static_cast<std::int32_t>(data_.label(sample));
  std::memcpy(y, &label, sizeof label);
}

void upload_samples(const Dataset& data, Arena& arena) {
  constexpr std::size_t kPieceBytes = std::size_t{16} << 20;
  std::vector<Field> fields = data.inputs();
  if (data.target_field()) fields.push_back(*data.target_field());
  std::size_t sample_bytes = 0;
  for (const Field& field : fields) sample_bytes += field.bytes();
  const auto piece = static_cast<std::int64_t>(std::max<std::size_t>(1, kPieceBytes / sample_bytes));
  std::vector<std::vector<std::byte>> rows;
  for (const Field& field : fields) rows.emplace_back(static_cast<std::size_t>(piece) * field.bytes());
  std::vector<std::byte*> at(fields.size());
  for (std::int64_t first = 0; first < data.count(); first += piece) {
    const std::int64_t count = std::min(piece, data.count() - first);
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::size_t f = 0; f < fields.size(); ++f)
        at[f] = rows[f].data() + static_cast<std::size_t>(i) * fields[f].bytes();
      data.read(first + i, {}, std::span(at).first(data.inputs().size()), data.target_field() ? at.back() : nullptr);
    }
    for (std::size_t f = 0; f < fields.size(); ++f) {
      const std::string state = data_state_name(fields[f].name);
      if (arena.states().find(state)) arena.set_state_rows(state, first, count, rows[f].data());
    }
  }
}

}  // namespace trivet
