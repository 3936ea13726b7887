// The models that are more than a list of layers. Each adds itself to the builder's graph and gives (B, outputs).
#pragma once

#include <span>

#include "trivet/models/build.h"
#include "trivet/nn/builder.h"

namespace trivet {

// x (B, H, W, C). He et al., "Deep Residual Learning for Image Recognition", 2016: section 4.2 (form cifar) and table 1
// (form imagenet).
ValueId build_resnet(Graph& graph, nn::Builder& builder, const ModelConfig& config, std::int64_t outputs, ValueId x);

// Numbers (B, F), categories i32 (B, K) or both. Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016.
ValueId build_wide_deep(Graph& graph, nn::Builder& builder, const ModelConfig& config, const ModelInput& input,
                        std::span<const ValueId> values);

// x (B, T, F), or images whose rows are the steps. Layers of long short-term memory, the last step to the outputs.
ValueId build_lstm(Graph& graph, nn::Builder& builder, const ModelConfig& config, std::int64_t outputs, ValueId x);

}  // namespace trivet
