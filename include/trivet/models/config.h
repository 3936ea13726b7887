// What a job file says about the model. Plain values; the job file's checker has verified ranges.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trivet {

// One entry of `model.layers`. Which fields count depends on `type`:
//   dense       units, activation, bias
//   conv        filters, kernel, stride, padding ("same" or "valid"), activation, bias
//   max_pool    size, stride (0: size)
//   average_pool  size, stride (0: size)
//   batch_norm, layer_norm, flatten
//   dropout     rate
//   activation  activation
struct LayerConfig {
  std::string type;
  std::int64_t units = 0;
  std::int64_t filters = 0;
  std::int64_t kernel = 3;
  std::int64_t stride = 0;  // 0: 1 for conv, `size` for pools
  std::int64_t size = 2;
  std::string padding = "same";
  std::string activation = "none";  // none, relu, gelu, silu, tanh, sigmoid
  double rate = 0.0;
  bool bias = true;
};

struct ModelConfig {
  std::string name = "cnn";  // logistic, mlp, cnn, resnet, wide_deep, lstm, autoencoder, layers
  // mlp: default {256}; cnn: dense layers after the last pool, default {128}; wide_deep: default {128, 64};
  // autoencoder: down to the narrowest layer, from which they are mirrored, default {128, 32}
  std::vector<std::int64_t> hidden = {};
  std::vector<std::int64_t> channels = {32, 64};  // cnn: one conv(3x3, same) + max pool(2) block each
  std::string activation = "relu";
  // What the model computes in: f32, or bf16 with f32 weights, statistics and outputs; bf16_weights: bf16 with weights
  // (parameters of rank 2 or more) in bf16 too, rounded stochastically by the optimizer; f16: as bf16, with a loss
  // scale.
  std::string precision = "f32";
  bool batch_norm = false;          // cnn: after each convolution
  double dropout = 0.0;             // before the last layer
  std::string form = "cifar";       // resnet: cifar or imagenet
  std::int64_t depth = 0;           // resnet: default 20; lstm: layers, default 1
  std::int64_t width = 0;           // resnet: channels of the first stage, default 16 (cifar), 64 (imagenet)
  std::int64_t units = 128;         // lstm
  std::int64_t embedding = 8;       // wide_deep: numbers for each category
  std::int64_t classes = 0;         // 0: as many as the data have
  std::vector<LayerConfig> layers;  // name == "layers"; the last one's output must be (batch, outputs)
};

}  // namespace trivet
