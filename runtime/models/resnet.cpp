#include <fmt/format.h>

#include "runtime/models/families.h"
#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using nn::Activation;
using nn::Padding;

struct Stages {
  std::vector<std::int64_t> blocks;  // in each stage
  std::vector<std::int64_t> widths;  // channels of each stage, before the expansion of a bottleneck
  bool bottleneck = false;
};

constexpr std::int64_t kExpansion = 4;  // of a bottleneck's last convolution

constexpr std::int64_t kDefaultDepth = 20;

Stages cifar_stages(const ModelConfig& config) {
  const std::int64_t depth = config.depth > 0 ? config.depth : kDefaultDepth;
  if (depth < 8 || (depth - 2) % 6 != 0) {
    throw Error(ErrorCode::graph, fmt::format("a resnet of the form cifar has a depth of 6 n + 2, got {}", depth),
                "8, 14, 20, 32, 44, 56 or 110, for example");
  }
  const std::int64_t width = config.width > 0 ? config.width : 16;
  return {std::vector<std::int64_t>(3, (depth - 2) / 6), {width, 2 * width, 4 * width}, false};
}

Stages imagenet_stages(const ModelConfig& config) {
  static const std::map<std::int64_t, std::pair<std::vector<std::int64_t>, bool>> kKnown = {
      {18, {{2, 2, 2, 2}, false}},
      {34, {{3, 4, 6, 3}, false}},
      {50, {{3, 4, 6, 3}, true}},
      {101, {{3, 4, 23, 3}, true}},
      {152, {{3, 8, 36, 3}, true}}};
  const auto found = kKnown.find(config.depth);
  if (found == kKnown.end()) {
    throw Error(ErrorCode::graph, fmt::format("there is no resnet of the form imagenet with depth {}", config.depth),
                "one of 18, 34, 50, 101, 152");
  }
  const std::int64_t width = config.width > 0 ? config.width : 64;
  return {found->second.first, {width, 2 * width, 4 * width, 8 * width}, found->second.second};
}

// Convolution and batch norm, which brings the bias. `next`: what the weights are drawn for.
ValueId conv_norm(nn::Builder& builder, ValueId x, std::int64_t filters, std::int64_t kernel, std::int64_t stride,
                  Activation next) {
  return builder.batch_norm(builder.conv(x, {filters, kernel, stride, Padding::half, false, next}));
}

ValueId conv_norm_relu(nn::Builder& builder, ValueId x, std::int64_t filters, std::int64_t kernel,
                       std::int64_t stride) {
  return builder.activation(conv_norm(builder, x, filters, kernel, stride, Activation::relu), Activation::relu);
}

ValueId block(Graph& graph, nn::Builder& builder, ValueId x, std::int64_t width, std::int64_t stride, bool bottleneck) {
  const std::int64_t filters = bottleneck ? kExpansion * width : width;
  const bool same = stride == 1 && graph.type(x).dim(-1) == filters;
  const ValueId shortcut = same ? x : conv_norm(builder, x, filters, 1, stride, Activation::none);
  if (bottleneck) {
    x = conv_norm_relu(builder, x, width, 1, 1);
    x = conv_norm_relu(builder, x, width, 3, stride);
    x = conv_norm(builder, x, filters, 1, 1, Activation::relu);
  } else {
    x = conv_norm_relu(builder, x, filters, 3, stride);
    x = conv_norm(builder, x, filters, 3, 1, Activation::relu);
  }
  return builder.activation(apply(graph, "add", {x, shortcut}), Activation::relu);
}

}  // namespace

ValueId build_resnet(Graph& graph, nn::Builder& builder, const ModelConfig& config, std::int64_t outputs, ValueId x) {
  const bool cifar = config.form == "cifar";
  const Stages stages = cifar ? cifar_stages(config) : imagenet_stages(config);
  if (cifar) {
    x = conv_norm_relu(builder, x, stages.widths[0], 3, 1);
  } else {
    x = conv_norm_relu(builder, x, stages.widths[0], 7, 2);
    x = builder.max_pool(x, {3, 2, 1});
  }
  for (std::size_t stage = 0; stage < stages.blocks.size(); ++stage) {
    for (std::int64_t i = 0; i < stages.blocks[stage]; ++i) {
      const std::int64_t stride = stage > 0 && i == 0 ? 2 : 1;
      x = block(graph, builder, x, stages.widths[stage], stride, stages.bottleneck);
    }
  }
  x = builder.dropout(builder.global_average_pool(x), config.dropout);
  return builder.dense(x, {.units = outputs});
}

}  // namespace trivet
