#include "trivet/models/config_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trivet/base/error.h"

namespace trivet {
namespace {

// Of what a job file may say. Nothing that is built from such numbers overflows or goes on for ever.
constexpr std::int64_t kLargest = 1'000'000;
constexpr std::int64_t kMostLayers = 1000;

void check(const char* what, std::int64_t value, std::int64_t largest = kLargest) {
  if (value >= 0 && value <= largest) return;
  throw Error(ErrorCode::checkpoint, fmt::format("the model's {} is {}, expected 0 to {}", what, value, largest),
              "the checkpoint is damaged; choose another one");
}

void check(const ModelConfig& config) {
  for (const auto* list : {&config.hidden, &config.channels}) {
    check("number of layers", static_cast<std::int64_t>(list->size()), kMostLayers);
    for (const std::int64_t width : *list) check("layer width", width);
  }
  check("depth", config.depth, kMostLayers);
  check("width", config.width);
  check("units", config.units);
  check("embedding", config.embedding);
  check("number of classes", config.classes);
  check("number of layers", static_cast<std::int64_t>(config.layers.size()), kMostLayers);
  for (const LayerConfig& layer : config.layers) {
    for (const std::int64_t value : {layer.units, layer.filters, layer.kernel, layer.stride, layer.size}) {
      check("layer", value);
    }
  }
}

}  // namespace

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerConfig, type, units, filters, kernel, stride, size, padding, activation, rate,
                                   bias)

void to_json(nlohmann::json& json, const ModelConfig& config) {
  json = {{"name", config.name},
          {"hidden", config.hidden},
          {"channels", config.channels},
          {"activation", config.activation},
          {"batch_norm", config.batch_norm},
          {"dropout", config.dropout},
          {"precision", config.precision},
          {"form", config.form},
          {"depth", config.depth},
          {"width", config.width},
          {"units", config.units},
          {"embedding", config.embedding},
          {"classes", config.classes},
          {"layers", config.layers}};
}

void from_json(const nlohmann::json& json, ModelConfig& config) {
  json.at("name").get_to(config.name);
  json.at("hidden").get_to(config.hidden);
  json.at("channels").get_to(config.channels);
  json.at("activation").get_to(config.activation);
  json.at("batch_norm").get_to(config.batch_norm);
  json.at("dropout").get_to(config.dropout);
  json.at("precision").get_to(config.precision);
  json.at("form").get_to(config.form);
  json.at("depth").get_to(config.depth);
  json.at("width").get_to(config.width);
  json.at("units").get_to(config.units);
  json.at("embedding").get_to(config.embedding);
  json.at("classes").get_to(config.classes);
  json.at("layers").get_to(config.layers);
  check(config);
}

}  // namespace trivet
