#include "trivet/data/normalization.h"

#include <nlohmann/json.hpp>

#include "trivet/base/error.h"

namespace trivet {
namespace {

__extension__ using Wide = unsigned __int128;

// Exact: a u64 holds the squares of 2.8e14 pixels.
struct Sums {
  std::uint64_t values = 0;
  std::uint64_t squares = 0;
};

double deviation(const Sums& sums, std::uint64_t n) {
  // n^2 times the variance, without cancellation.
  const Wide scaled = Wide{n} * sums.squares - Wide{sums.values} * sums.values;
  if (scaled == 0) return 1.0;
  return std::sqrt(static_cast<double>(scaled)) / static_cast<double>(n);
}

std::vector<double> number_list(const nlohmann::json& json, const char* key) {
  std::vector<double> numbers;
  if (json.is_object() && json.contains(key) && json[key].is_array()) {
    for (const nlohmann::json& value : json[key]) {
      numbers.push_back(value.is_number() ? value.get<double>() : std::nan(""));
    }
  }
  const bool finite = std::all_of(numbers.begin(), numbers.end(), [](double v) { return std::isfinite(v); });
  if (numbers.empty() || !finite) {
    throw Error(ErrorCode::checkpoint, fmt::format("the normalization's \"{}\" is not a list of finite numbers", key),
                "the checkpoint is damaged; choose another one");
  }
  return numbers;
}

}  // namespace

Normalization Normalization::unit(std::int64_t channels) {
  const auto n = static_cast<std::size_t>(channels);
  return {std::vector<double>(n, 0.0), std::vector<double>(n, 255.0)};
}

std::vector<float> Normalization::table() const {
  std::vector<float> table;
  table.reserve(mean.size() * 256);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    for (int value = 0; value < 256; ++value) table.push_back(static_cast<float>((value - mean[c]) / stddev[c]));
  }
  return table;
}

Normalization compute_normalization(const ImageData& data, std::span<const std::int64_t> samples) {
  if (samples.empty()) throw Error(ErrorCode::data, "there are no samples to compute the normalization from");
  const auto channels = static_cast<std::size_t>(data.channels);
  std::vector<Sums> sums(channels);
  std::vector<std::byte> scratch;
  for (const std::int64_t sample : samples) {
    if (sample < 0 || sample >= data.count) {
      throw Error(ErrorCode::data, fmt::format("sample {} is out of range: there are {}", sample, data.count));
    }
    const std::uint8_t* p = data.sample(sample, scratch);
    for (const std::uint8_t* end = p + data.sample_elements(); p != end; p += channels) {
      for (std::size_t c = 0; c < channels; ++c) {
        sums[c].values += p[c];
        sums[c].squares += std::uint64_t{p[c]} * p[c];
      }
    }
  }
  const std::uint64_t n = samples.size() * (data.sample_elements() / channels);
  Normalization result;
  for (const Sums& s : sums) {
    result.mean.push_back(static_cast<double>(s.values) / static_cast<double>(n));
    result.stddev.push_back(deviation(s, n));
  }
  return result;
}

void to_json(nlohmann::json& json, const Normalization& normalization) {
  json = {{"mean", normalization.mean}, {"stddev", normalization.stddev}};
}

void from_json(const nlohmann::json& json, Normalization& normalization) {
  Normalization read{number_list(json, "mean"), number_list(json, "stddev")};
  const bool positive = std::all_of(read.stddev.begin(), read.stddev.end(), [](double v) { return v > 0; });
  if (read.mean.size() != read.stddev.size() || !positive) {
    throw Error(ErrorCode::checkpoint,
                fmt::format("the normalization has {} means and {} deviations, expected as many, all deviations > 0",
                            read.mean.size(), read.stddev.size()),
                "the checkpoint is damaged; choose another one");
  }
  normalization = std::move(read);
}

}  // namespace trivet
