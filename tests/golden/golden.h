// The images, labels and initial weights of make_golden.py, repeated exactly: every number is a multiple of a power of
// two, so nothing is rounded.
#pragma once

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trivet/base/file.h"
#include "trivet/graph/graph.h"

namespace trivet::golden {

inline constexpr std::int64_t kBatch = 16;
inline constexpr std::int64_t kSide = 12;
inline constexpr std::int64_t kClasses = 10;

// Multiples of 1/128 in [-1, 1), times `scale`.
inline Tensor noise(std::uint32_t seed, const TensorType& type, float scale) {
  Tensor t(type);
  std::uint32_t state = seed * 2654435761U;
  for (float& v : t.as<float>()) {
    state = state * 1664525U + 1013904223U;
    v = (static_cast<float>((state >> 16) & 255U) - 128.0F) / 128.0F * scale;
  }
  return t;
}

// i32[16]
inline Tensor labels(std::int64_t step) {
  Tensor t({DType::i32, {kBatch}});
  for (std::int64_t i = 0; i < kBatch; ++i) {
    t.as<std::int32_t>()[static_cast<std::size_t>(i)] = static_cast<std::int32_t>((step * kBatch + i) * 7 % kClasses);
  }
  return t;
}

// f32[16,12,12,1]: noise, and three bright rows from the label's on.
inline Tensor images(std::int64_t step) {
  Tensor t = noise(static_cast<std::uint32_t>(1000 + step), {DType::f32, {kBatch, kSide, kSide, 1}}, 0.5F);
  const Tensor label = labels(step);
  const auto pixels = t.as<float>();
  for (std::size_t p = 0; p < pixels.size(); ++p) {
    const auto sample = static_cast<std::int64_t>(p) / (kSide * kSide);
    const std::int64_t row = static_cast<std::int64_t>(p) / kSide % kSide;
    const std::int64_t below = row - label.as<std::int32_t>()[static_cast<std::size_t>(sample)];
    if (below >= 0 && below < 3) pixels[p] += 0.75F;
  }
  return t;
}

// The initial value of each of the graph's parameters, by name.
inline std::map<std::string, Tensor> parameters(const Graph& graph) {
  std::map<std::string, Tensor> result;
  std::uint32_t seed = 100;
  for (const ValueId id : graph.states()) {
    const Value& v = graph.value(id);
    if (!v.trainable) continue;
    float scale = 0.125F;
    if (v.type.rank() > 1) scale = v.type.elements() / v.type.dim(0) < 64 ? 0.5F : 0.25F;
    result.emplace(v.name, noise(seed++, v.type, scale));
  }
  return result;
}

// "mlp", "cnn", "resnet" or "lstm". TRIVET_GOLDEN names the folder on a machine without the sources.
inline nlohmann::json file(const std::string& model) {
  const char* elsewhere = std::getenv("TRIVET_GOLDEN");
  const std::string folder = elsewhere ? elsewhere : std::string(TRIVET_SOURCE_DIR) + "/tests/golden";
  return nlohmann::json::parse(read_file(folder + "/" + model + ".json", 1 << 20));
}

}  // namespace trivet::golden
