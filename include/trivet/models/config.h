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
  std::string name = "cnn";               // mlp, cnn, layers
  std::vector<std::int64_t> hidden = {};  // mlp: default {256}; cnn: dense layers after the last pool, default {128}
  std::vector<std::int64_t> channels = {32, 64};  // cnn: one conv(3x3, same) + max pool(2) block each
  std::string activation = "relu";
  bool batch_norm = false;  // cnn: after each convolution
  double dropout = 0.0;     // before the last layer
  std::int64_t classes = 10;
  std::vector<LayerConfig> layers;  // name == "layers"; the last one's output must be (batch, classes)
};

}  // namespace trivet
