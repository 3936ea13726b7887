#include "trivet/models/config_json.h"

#include <nlohmann/json.hpp>

namespace trivet {

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
}

}  // namespace trivet
