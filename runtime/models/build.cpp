#include "trivet/models/build.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/nn/builder.h"

namespace trivet {
namespace {

using nn::Activation;

LayerConfig layer(std::string type) {
  LayerConfig config;
  config.type = std::move(type);
  return config;
}

LayerConfig dense(std::int64_t units, const std::string& activation) {
  LayerConfig config = layer("dense");
  config.units = units;
  config.activation = activation;
  return config;
}

// What both named models end with: hidden layers, dropout, one logit for each class.
void add_head(std::vector<LayerConfig>& layers, const ModelConfig& config, std::vector<std::int64_t> hidden) {
  layers.push_back(layer("flatten"));
  for (const std::int64_t units : hidden) layers.push_back(dense(units, config.activation));
  if (config.dropout > 0) {
    layers.push_back(layer("dropout"));
    layers.back().rate = config.dropout;
  }
  layers.push_back(dense(config.classes, "none"));
}

std::vector<LayerConfig> mlp_layers(const ModelConfig& config) {
  std::vector<LayerConfig> layers;
  add_head(layers, config, config.hidden.empty() ? std::vector<std::int64_t>{256} : config.hidden);
  return layers;
}

// Batch norm sits between a convolution and its activation and brings a bias of its own, so the convolution has none.
std::vector<LayerConfig> cnn_layers(const ModelConfig& config) {
  std::vector<LayerConfig> layers;
  for (const std::int64_t filters : config.channels) {
    LayerConfig conv = layer("conv");
    conv.filters = filters;
    if (config.batch_norm) {
      conv.bias = false;
      layers.push_back(std::move(conv));
      layers.push_back(layer("batch_norm"));
      layers.push_back(layer("activation"));
      layers.back().activation = config.activation;
    } else {
      conv.activation = config.activation;
      layers.push_back(std::move(conv));
    }
    layers.push_back(layer("max_pool"));
  }
  add_head(layers, config, config.hidden.empty() ? std::vector<std::int64_t>{128} : config.hidden);
  return layers;
}

// The activation that a layer's weights should be drawn for: its own, or the next one behind layers that keep signs.
Activation next_activation(std::span<const LayerConfig> layers, std::size_t i) {
  const Activation own = nn::activation_from_name(layers[i].activation);
  if (own != Activation::none) return own;
  for (std::size_t k = i + 1; k < layers.size(); ++k) {
    const std::string& type = layers[k].type;
    if (type == "activation") return nn::activation_from_name(layers[k].activation);
    if (type != "batch_norm" && type != "layer_norm" && type != "dropout") break;
  }
  return Activation::none;
}

nn::Padding padding_from_name(const std::string& name) {
  if (name == "same") return nn::Padding::same;
  if (name == "valid") return nn::Padding::valid;
  throw Error(ErrorCode::graph, fmt::format("there is no padding '{}'", name), "one of same, valid");
}

ValueId add_layer(nn::Builder& builder, std::span<const LayerConfig> layers, std::size_t i, ValueId x) {
  const LayerConfig& config = layers[i];
  const nn::PoolOptions pool{config.size, config.stride};
  if (config.type == "dense") {
    x = builder.dense(x, {config.units, config.bias, next_activation(layers, i)});
    return builder.activation(x, nn::activation_from_name(config.activation));
  }
  if (config.type == "conv") {
    const std::int64_t stride = config.stride == 0 ? 1 : config.stride;
    x = builder.conv(x, {config.filters, config.kernel, stride, padding_from_name(config.padding), config.bias,
                         next_activation(layers, i)});
    return builder.activation(x, nn::activation_from_name(config.activation));
  }
  if (config.type == "max_pool") return builder.max_pool(x, pool);
  if (config.type == "average_pool") return builder.average_pool(x, pool);
  if (config.type == "batch_norm") return builder.batch_norm(x);
  if (config.type == "layer_norm") return builder.layer_norm(x);
  if (config.type == "dropout") return builder.dropout(x, config.rate);
  if (config.type == "activation") return builder.activation(x, nn::activation_from_name(config.activation));
  if (config.type == "flatten") return builder.flatten(x);
  throw Error(ErrorCode::graph, fmt::format("there is no layer type '{}'", config.type),
              "one of dense, conv, max_pool, average_pool, batch_norm, layer_norm, dropout, activation, flatten");
}

}  // namespace

TensorType ModelInput::batch(std::int64_t samples) const {
  TensorType type{DType::f32, sample_shape};
  type.shape.insert(type.shape.begin(), samples);
  return type;
}

std::vector<LayerConfig> model_layers(const ModelConfig& config) {
  if (config.name == "mlp") return mlp_layers(config);
  if (config.name == "cnn") return cnn_layers(config);
  if (config.name == "layers") return config.layers;
  throw Error(ErrorCode::graph, fmt::format("there is no model '{}'", config.name), "one of mlp, cnn, layers");
}

ValueId build_model(Graph& graph, const ModelConfig& config, ValueId x, bool training, std::uint64_t seed) {
  const std::vector<LayerConfig> layers = model_layers(config);
  const TensorType input = graph.type(x);
  if (input.dtype != DType::f32 || input.rank() < 2) {
    throw Error(ErrorCode::graph,
                fmt::format("the model's input is {}, expected f32 images (B,H,W,C) or rows (B,F)", to_string(input)));
  }
  const TensorType logits{DType::f32, {input.dim(0), config.classes}};
  nn::Builder builder(graph, training, seed);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string place = fmt::format("layer {} ({})", i + 1, layers[i].type);
    builder.set_place(place);
    try {
      x = add_layer(builder, layers, i, x);
    } catch (Error& e) {
      if (!e.message().starts_with(place)) e.add_context("building " + place);
      throw;
    }
  }
  if (graph.type(x) != logits) {
    throw Error(ErrorCode::graph,
                fmt::format("the model's output is {}, expected {}: one logit for each of {} classes",
                            to_string(graph.type(x)), to_string(logits), config.classes),
                "let the last layer be dense with as many units as there are classes");
  }
  return x;
}

}  // namespace trivet
