#include "trivet/nn/builder.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/ops/registry.h"

namespace trivet::nn {
namespace {

constexpr std::array kActivationNames = {"none", "relu", "gelu", "silu", "tanh", "sigmoid"};

// Keeps sums of layer sizes far from overflow; no layer is this large.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;

// Zeros to add before and after an axis so that it has ceil(size / stride) outputs.
std::array<std::int64_t, 2> same_pads(std::int64_t size, std::int64_t kernel, std::int64_t stride) {
  const std::int64_t outputs = (size + stride - 1) / stride;
  const std::int64_t total = std::max<std::int64_t>((outputs - 1) * stride + kernel - size, 0);
  return {total / 2, total - total / 2};
}

}  // namespace

Activation activation_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kActivationNames.size(); ++i) {
    if (name == kActivationNames[i]) return static_cast<Activation>(i);
  }
  const std::vector<std::string> names(kActivationNames.begin(), kActivationNames.end());
  throw Error(ErrorCode::graph, fmt::format("there is no activation '{}'", name),
              fmt::format("one of {}", join(names, ", ")));
}

const char* activation_name(Activation activation) { return kActivationNames[static_cast<std::size_t>(activation)]; }

Init weight_init(double fan_in, double fan_out, Activation next) {
  if (next == Activation::relu || next == Activation::gelu || next == Activation::silu) {
    return {Init::Kind::normal, std::sqrt(2 / fan_in)};
  }
  return {Init::Kind::uniform, std::sqrt(6 / (fan_in + fan_out))};
}

Builder::Builder(Graph& graph, bool training, std::uint64_t seed) : graph_(graph), training_(training), seed_(seed) {}

void Builder::require(bool condition, const std::string& name, const std::string& message,
                      const std::string& hint) const {
  if (condition) return;
  throw Error(ErrorCode::graph, fmt::format("{}: {}", place_.empty() ? name : place_, message), hint);
}

std::string Builder::next_name(const std::string& kind) { return fmt::format("{}{}", kind, ++counts_[kind]); }

const TensorType& Builder::image(ValueId x, const std::string& name) const {
  const TensorType& type = graph_.type(x);
  require(type.rank() == 4, name, fmt::format("needs an image (N,H,W,C), got {}", to_string(type)),
          "layers for images come before flatten and dense");
  return type;
}

ValueId Builder::dense(ValueId x, const DenseOptions& options) {
  const std::string name = next_name("dense");
  const TensorType type = graph_.type(x);
  require(type.rank() == 2, name, fmt::format("needs rows (N,F), got {}", to_string(type)),
          "put a flatten layer before it");
  require(options.units >= 1 && options.units <= kMaxSize, name,
          fmt::format("units is {}, expected 1 to {}", options.units, kMaxSize));
  const std::int64_t features = type.dim(1);
  std::vector<ValueId> inputs = {x, graph_.parameter(name + ".weight", {DType::f32, {options.units, features}},
                                                     weight_init(static_cast<double>(features),
                                                                 static_cast<double>(options.units), options.next))};
  if (options.bias) inputs.push_back(graph_.parameter(name + ".bias", {DType::f32, {options.units}}, {}));
  return apply(graph_, "linear", inputs, {}, name);
}

ValueId Builder::conv(ValueId x, const ConvOptions& options) {
  const std::string name = next_name("conv");
  const TensorType type = image(x, name);
  const std::int64_t kernel = options.kernel;
  const std::int64_t stride = options.stride;
  for (const auto& [what, size] : {std::pair{"filters", options.filters}, {"kernel", kernel}, {"stride", stride}}) {
    require(size >= 1 && size <= kMaxSize, name, fmt::format("{} is {}, expected 1 to {}", what, size, kMaxSize));
  }
  std::array<std::int64_t, 2> rows{}, columns{};
  if (options.padding == Padding::same) {
    rows = same_pads(type.dim(1), kernel, stride);
    columns = same_pads(type.dim(2), kernel, stride);
  } else if (options.padding == Padding::half) {
    rows = columns = {kernel / 2, kernel / 2};
  } else {
    require(type.dim(1) >= kernel && type.dim(2) >= kernel, name,
            fmt::format("a kernel of {}x{} is larger than the image {}", kernel, kernel, to_string(type)),
            "use padding 'same', a smaller kernel or fewer pools before it");
  }
  const std::int64_t channels = type.dim(3);
  const auto area = static_cast<double>(kernel) * static_cast<double>(kernel);
  std::vector<ValueId> inputs = {
      x, graph_.parameter(name + ".weight", {DType::f32, {options.filters, kernel, kernel, channels}},
                          weight_init(area * static_cast<double>(channels), area * static_cast<double>(options.filters),
                                      options.next))};
  if (options.bias) inputs.push_back(graph_.parameter(name + ".bias", {DType::f32, {options.filters}}, {}));
  const std::vector<std::int64_t> pads = {rows[0], columns[0], rows[1], columns[1]};
  return apply(graph_, "conv2d", inputs, {{"strides", std::vector{stride, stride}}, {"pads", pads}}, name);
}

ValueId Builder::pool(ValueId x, const PoolOptions& options, const std::string& op) {
  const std::string name = next_name(op);
  const TensorType type = image(x, name);
  const std::int64_t stride = options.stride == 0 ? options.size : options.stride;
  for (const auto& [what, size] : {std::pair{"size", options.size}, {"stride", stride}}) {
    require(size >= 1 && size <= kMaxSize, name, fmt::format("{} is {}, expected 1 to {}", what, size, kMaxSize));
  }
  require(type.dim(1) >= options.size && type.dim(2) >= options.size, name,
          fmt::format("a window of {}x{} is larger than the image {}", options.size, options.size, to_string(type)),
          "use a smaller window or fewer pools");
  require(options.pad >= 0 && options.pad < options.size, name,
          fmt::format("pad is {}, expected 0 to {}", options.pad, options.size - 1));
  return apply(graph_, op, {x},
               {{"kernel", std::vector{options.size, options.size}},
                {"strides", std::vector{stride, stride}},
                {"pads", std::vector(4, options.pad)}},
               name);
}

ValueId Builder::max_pool(ValueId x, const PoolOptions& options) { return pool(x, options, "max_pool"); }

ValueId Builder::average_pool(ValueId x, const PoolOptions& options) { return pool(x, options, "average_pool"); }

ValueId Builder::batch_norm(ValueId x) {
  const std::string name = next_name("batch_norm");
  const TensorType type = graph_.type(x);
  require(type.rank() >= 2, name, fmt::format("needs samples (N,...,C), got {}", to_string(type)));
  const TensorType channels{DType::f32, {type.dim(-1)}};
  const Init ones{Init::Kind::constant, 1};
  const ValueId gamma = graph_.parameter(name + ".weight", channels, ones);
  const ValueId beta = graph_.parameter(name + ".bias", channels, {});
  const ValueId mean = graph_.state(name + ".running_mean", channels, MemoryClass::parameters);
  const ValueId var = graph_.state(name + ".running_var", channels, MemoryClass::parameters, ones);
  const std::vector<ValueId> inputs = {x, gamma, beta, mean, var};
  if (!training_) return apply(graph_, "batch_norm", inputs, {}, name);
  require(type.elements() > type.dim(-1), name,
          fmt::format("needs more than one value for each channel to train, got {}", to_string(type)),
          "use a larger batch");
  const std::vector<ValueId> out = apply_all(graph_, "batch_norm_train", inputs, {}, name);
  graph_.set_update(mean, out[3]);
  graph_.set_update(var, out[4]);
  return out[0];
}

ValueId Builder::layer_norm(ValueId x) {
  const std::string name = next_name("layer_norm");
  const TensorType type = graph_.type(x);
  require(type.rank() >= 2, name, fmt::format("needs samples (N,...,C), got {}", to_string(type)));
  const TensorType channels{DType::f32, {type.dim(-1)}};
  const ValueId gamma = graph_.parameter(name + ".weight", channels, {Init::Kind::constant, 1});
  const ValueId beta = graph_.parameter(name + ".bias", channels, {});
  return apply_all(graph_, "layer_norm", {x, gamma, beta}, {}, name)[0];
}

ValueId Builder::input_once(const std::string& name, const TensorType& type) {
  const std::optional<ValueId> found = graph_.find(name);
  if (!found) return graph_.input(name, type);
  require(graph_.type(*found) == type, "dropout",
          fmt::format("input '{}' is {}, expected {}", name, to_string(graph_.type(*found)), to_string(type)));
  return *found;
}

ValueId Builder::dropout(ValueId x, double rate) {
  const std::string name = next_name("dropout");
  const TensorType type = graph_.type(x);
  require(rate >= 0 && rate < 1, name, fmt::format("rate is {}, expected at least 0 and less than 1", rate));
  require(type.rank() >= 1, name, fmt::format("needs samples (N,...), got {}", to_string(type)));
  if (!training_ || rate == 0) return x;
  const ValueId step = input_once("step", {DType::i64, {}});
  const ValueId sample = input_once("sample", {DType::i64, {type.dim(0)}});
  const std::int64_t layer = counts_["dropout"];
  return apply(graph_, "dropout", {x, step, sample},
               {{"rate", rate}, {"seed", static_cast<std::int64_t>(seed_)}, {"op", layer}}, name);
}

ValueId Builder::activation(ValueId x, Activation activation) {
  if (activation == Activation::none) return x;
  const char* op = activation_name(activation);
  return apply(graph_, op, {x}, {}, next_name(op));
}

ValueId Builder::flatten(ValueId x) {
  const TensorType type = graph_.type(x);
  const std::string name = next_name("flatten");
  require(type.rank() >= 2, name, fmt::format("needs samples (N,...), got {}", to_string(type)));
  if (type.rank() == 2) return x;
  std::int64_t features = 1;
  for (int i = 1; i < type.rank(); ++i) features *= type.dim(i);
  return apply(graph_, "reshape", {x}, {{"shape", std::vector{type.dim(0), features}}}, name);
}

ValueId Builder::global_average_pool(ValueId x) {
  const std::string name = next_name("global_average_pool");
  const TensorType type = image(x, name);
  const ValueId pooled = apply(graph_, "global_average_pool", {x}, {}, name);
  return apply(graph_, "reshape", {pooled}, {{"shape", std::vector{type.dim(0), type.dim(3)}}}, name + ".rows");
}

ValueId Builder::embedding(ValueId indices, std::int64_t rows, std::int64_t columns) {
  const std::string name = next_name("embedding");
  for (const auto& [what, size] : {std::pair{"rows", rows}, {"columns", columns}}) {
    require(size >= 1 && size <= kMaxSize, name, fmt::format("{} is {}, expected 1 to {}", what, size, kMaxSize));
  }
  const ValueId table = graph_.parameter(name + ".weight", {DType::f32, {rows, columns}}, {Init::Kind::normal, 0.05});
  return apply(graph_, "embedding", {table, indices}, {}, name);
}

Steps Builder::lstm(ValueId x, std::int64_t units) {
  const std::string name = next_name("lstm");
  const TensorType type = graph_.type(x);
  require(type.rank() == 3, name, fmt::format("needs steps (N,T,F), got {}", to_string(type)));
  require(units >= 1 && units <= kMaxSize, name, fmt::format("units is {}, expected 1 to {}", units, kMaxSize));
  const std::int64_t features = type.dim(2);
  const auto wide = static_cast<double>(units);
  const auto weight = [&](const char* what, std::int64_t columns) {
    return graph_.parameter(name + what, {DType::f32, {1, 4 * units, columns}},
                            weight_init(static_cast<double>(columns), wide, Activation::tanh));
  };
  const ValueId w = weight(".weight", features);
  const ValueId r = weight(".recurrent", units);
  const ValueId bias = graph_.parameter(name + ".bias", {DType::f32, {4 * units}}, {});
  const std::vector<ValueId> out =
      apply_all(graph_, "lstm", {x, w, r, lstm_bias(bias, units, name)}, {{"training", training_}}, name);
  const auto rows = [&](ValueId v, std::vector<std::int64_t> shape, const char* what) {
    return apply(graph_, "reshape", {v}, {{"shape", std::move(shape)}}, name + what);
  };
  return {rows(out[0], {type.dim(0), type.dim(1), units}, ".steps"), rows(out[1], {type.dim(0), units}, ".last")};
}

// The op's bias (1, 8 units): one for each product, input, output, forget, cell. The second half adds nothing; the
// forget gates get their 1 as a constant, so that the parameter may start at 0 like every bias.
ValueId Builder::lstm_bias(ValueId bias, std::int64_t units, const std::string& name) {
  std::vector<float> start(static_cast<std::size_t>(8 * units), 0.0F);
  std::fill_n(start.begin() + 2 * units, units, 1.0F);
  const ValueId ones = graph_.constant(Tensor::of<float>(DType::f32, {1, 8 * units}, start), name + ".forget");
  const ValueId padded =
      apply(graph_, "pad", {bias}, {{"pads", std::vector<std::int64_t>{0, 4 * units}}}, name + ".bias_both");
  return apply(graph_, "add", {ones, padded}, {}, name + ".bias_start");
}

}  // namespace trivet::nn
