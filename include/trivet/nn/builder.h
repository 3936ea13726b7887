// Building blocks of models: layers over ops. A builder creates the parameters with their names and initial draws and
// adds the nodes. Images are (N, H, W, C), rows are (N, F); all values are f32.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "trivet/graph/graph.h"

namespace trivet::nn {

enum class Activation { none, relu, gelu, silu, tanh, sigmoid };

// Error(graph) with the nearest name if there is no such activation.
Activation activation_from_name(std::string_view name);
const char* activation_name(Activation activation);

enum class Padding {
  same,   // as many outputs as inputs divided by the stride, rounded up; the odd zero goes to the bottom and right
  half,   // kernel / 2 on each side: as many as `same`, evenly spread, for odd kernels
  valid,  // none
};

struct DenseOptions {
  std::int64_t units = 1;
  bool bias = true;
  Activation next = Activation::none;  // what follows, for the initial draw; the layer itself applies nothing
};

struct ConvOptions {
  std::int64_t filters = 1;
  std::int64_t kernel = 3;  // rows and columns
  std::int64_t stride = 1;
  Padding padding = Padding::same;
  bool bias = true;
  Activation next = Activation::none;
};

struct PoolOptions {
  std::int64_t size = 2;
  std::int64_t stride = 0;  // 0: size
  std::int64_t pad = 0;     // on each side; less than size
};

// How weights start. With rectifier-like activations next: normal with variance 2 / fan_in (He et al., "Delving Deep
// into Rectifiers", 2015, equation 10). Otherwise: uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio,
// "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16).
Init weight_init(double fan_in, double fan_out, Activation next);

// What a recurrent layer gives.
struct Steps {
  ValueId all = kNoValue;   // (N, T, units)
  ValueId last = kNoValue;  // (N, units), of the last step
};

// Layers are numbered by kind in the order of creation: the second convolution has "conv2.weight" and "conv2.bias". The
// names and their order are the same for training and for inference. All errors are Error(graph) that begin with the
// place given to set_place(), or else with the layer's name, and give the type found.
class Builder {
 public:
  // `seed` is the run's; only dropout draws from it (initial values are drawn when a session starts).
  Builder(Graph& graph, bool training, std::uint64_t seed);

  // Begins the errors of the calls that follow: "layer 3 (conv)".
  void set_place(std::string place) { place_ = std::move(place); }

  // (N, F) -> (N, units). Weights (units, F).
  ValueId dense(ValueId x, const DenseOptions& options);
  // (N, H, W, C) -> (N, H', W', filters). Weights (filters, kernel, kernel, C).
  ValueId conv(ValueId x, const ConvOptions& options);
  // (N, H, W, C) -> (N, H', W', C). Windows that do not fit are left out.
  ValueId max_pool(ValueId x, const PoolOptions& options);
  ValueId average_pool(ValueId x, const PoolOptions& options);
  // Over all axes but the last. Has the states "running_mean" and "running_var", which training updates (each step
  // weighs 0.1) and inference reads.
  ValueId batch_norm(ValueId x);
  // Over the last axis.
  ValueId layer_norm(ValueId x);
  // In training: zero with probability `rate`, otherwise divided by 1 - rate; x itself in inference and for rate 0.
  // Adds the graph inputs "step" (i64[]) and "sample" (i64[N], each sample's index in the data set) that key the draws.
  ValueId dropout(ValueId x, double rate);
  ValueId activation(ValueId x, Activation activation);
  // (N, ...) -> (N, F).
  ValueId flatten(ValueId x);
  // (N, H, W, C) -> (N, C).
  ValueId global_average_pool(ValueId x);
  // Categories or tokens i32 (N, K), each below `rows` -> (N, K, columns). Weights (rows, columns).
  ValueId embedding(ValueId indices, std::int64_t rows, std::int64_t columns);
  // Long short-term memory over steps (N, T, F). Weights (1, 4 units, F) and
  // (1, 4 units, units), gates in ONNX's order; the forget gate's bias starts at 1 (Jozefowicz et al., "An Empirical
  // Exploration of Recurrent Network Architectures", 2015).
  Steps lstm(ValueId x, std::int64_t units);

 private:
  std::string next_name(const std::string& kind);
  const TensorType& image(ValueId x, const std::string& name) const;
  ValueId pool(ValueId x, const PoolOptions& options, const std::string& op);
  ValueId input_once(const std::string& name, const TensorType& type);
  ValueId lstm_bias(ValueId bias, std::int64_t units, const std::string& name);
  void require(bool condition, const std::string& name, const std::string& message, const std::string& hint = {}) const;

  Graph& graph_;
  bool training_;
  std::uint64_t seed_;
  std::string place_;
  std::map<std::string, int> counts_;
};

}  // namespace trivet::nn
