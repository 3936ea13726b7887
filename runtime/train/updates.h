// What a training graph ends with. Private to this folder.
#pragma once

#include <vector>

#include "trivet/graph/graph.h"
#include "trivet/train/config.h"

namespace trivet {

// The input of that name, which may be there already.
ValueId input_once(Graph& graph, const std::string& name, TensorType type);

// Clipping and the optimizer's step for each parameter. Adds the inputs lr and, where needed, step.
void add_updates(Graph& graph, const TrainConfig& config, const std::vector<ValueId>& parameters,
                 const std::vector<ValueId>& gradients);

// The moving average of every state of the class parameters, after its update.
void add_averages(Graph& graph, const AverageConfig& config);

// "average/<name>": the state with the average of another.
std::string average_name(const std::string& name);

}  // namespace trivet
