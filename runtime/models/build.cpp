#include "trivet/models/build.h"

#include <fmt/format.h>

#include "runtime/models/families.h"
#include "trivet/base/error.h"
#include "trivet/nn/builder.h"
#include "trivet/ops/registry.h"

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
void add_head(std::vector<LayerConfig>& layers, const ModelConfig& config, std::int64_t outputs,
              std::vector<std::int64_t> hidden) {
  layers.push_back(layer("flatten"));
  for (const std::int64_t units : hidden) layers.push_back(dense(units, config.activation));
  if (config.dropout > 0) {
    layers.push_back(layer("dropout"));
    layers.back().rate = config.dropout;
  }
  layers.push_back(dense(outputs, "none"));
}

std::vector<LayerConfig> mlp_layers(const ModelConfig& config, std::int64_t outputs) {
  std::vector<LayerConfig> layers;
  add_head(layers, config, outputs, config.hidden.empty() ? std::vector<std::int64_t>{256} : config.hidden);
  return layers;
}

// Batch norm sits between a convolution and its activation and brings a bias of its own, so the convolution has none.
std::vector<LayerConfig> cnn_layers(const ModelConfig& config, std::int64_t outputs) {
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
  add_head(layers, config, outputs, config.hidden.empty() ? std::vector<std::int64_t>{128} : config.hidden);
  return layers;
}

std::vector<LayerConfig> autoencoder_layers(const ModelConfig& config, std::int64_t outputs) {
  std::vector<std::int64_t> hidden = config.hidden.empty() ? std::vector<std::int64_t>{128, 32} : config.hidden;
  std::vector<LayerConfig> layers = {layer("flatten")};
  for (const std::int64_t units : hidden) layers.push_back(dense(units, config.activation));
  hidden.pop_back();
  std::reverse(hidden.begin(), hidden.end());
  for (const std::int64_t units : hidden) layers.push_back(dense(units, config.activation));
  layers.push_back(dense(outputs, "none"));
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

ValueId add_layers(Graph& graph, const std::vector<LayerConfig>& layers, ValueId x, bool training, std::uint64_t seed) {
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
  return x;
}

// The one input of numbers that a chain of layers starts from.
ValueId only_input(const Graph& graph, const ModelConfig& config, std::span<const ValueId> values) {
  if (values.size() != 1 || graph.type(values[0]).dtype != DType::f32) {
    std::string found;
    for (const ValueId v : values) {
      found += fmt::format("{}{} {}", found.empty() ? "" : ", ", graph.value(v).name, to_string(graph.type(v)));
    }
    throw Error(ErrorCode::graph,
                fmt::format("the model {} takes one input of numbers, the data have {}", config.name, found),
                "let categories be numbers too (data.table.categories: one_hot), or choose another model");
  }
  if (graph.type(values[0]).rank() < 2) {
    throw Error(ErrorCode::graph, fmt::format("the model's input is {}, expected f32 images (B,H,W,C) or rows (B,F)",
                                              to_string(graph.type(values[0]))));
  }
  return values[0];
}

}  // namespace

bool reconstructs(const ModelConfig& config) { return config.name == "autoencoder"; }

std::vector<LayerConfig> model_layers(const ModelConfig& config, std::int64_t outputs) {
  if (config.name == "logistic") return {layer("flatten"), dense(outputs, "none")};
  if (config.name == "mlp") return mlp_layers(config, outputs);
  if (config.name == "cnn") return cnn_layers(config, outputs);
  if (config.name == "autoencoder") return autoencoder_layers(config, outputs);
  if (config.name == "layers") return config.layers;
  throw Error(ErrorCode::graph, fmt::format("there is no model '{}'", config.name),
              "one of logistic, mlp, cnn, resnet, wide_deep, lstm, autoencoder, layers");
}

ValueId build_model(Graph& graph, const ModelConfig& config, const ModelInput& input, std::span<const ValueId> values,
                    bool training, std::uint64_t seed) {
  nn::Builder builder(graph, training, seed);
  if (config.name == "wide_deep") return build_wide_deep(graph, builder, config, input, values);
  const ValueId x = only_input(graph, config, values);
  if (config.name == "resnet") return build_resnet(graph, builder, config, input.outputs, x);
  if (config.name == "lstm") return build_lstm(graph, builder, config, input.outputs, x);
  const TensorType type = graph.type(x);
  if (reconstructs(config)) {
    const std::int64_t elements = TensorType{type.dtype, {type.shape.begin() + 1, type.shape.end()}}.elements();
    const ValueId flat = add_layers(graph, model_layers(config, elements), x, training, seed);
    return type.rank() == 2 ? flat : apply(graph, "reshape", {flat}, {{"shape", type.shape}}, "reconstruction");
  }
  const ValueId out = add_layers(graph, model_layers(config, input.outputs), x, training, seed);
  const TensorType expected{DType::f32, {type.dim(0), input.outputs}};
  if (graph.type(out) != expected) {
    throw Error(ErrorCode::graph,
                fmt::format("the model's output is {}, expected {}: {} for each sample", to_string(graph.type(out)),
                            to_string(expected), input.outputs),
                "let the last layer be dense with as many units as there are classes or numbers to predict");
  }
  return out;
}

ValueId build_model(Graph& graph, const ModelConfig& config, ValueId x, bool training, std::uint64_t seed) {
  ModelInput input;
  input.outputs = config.classes;
  return build_model(graph, config, input, std::span(&x, 1), training, seed);
}

}  // namespace trivet
