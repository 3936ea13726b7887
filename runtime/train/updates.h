// What a training graph ends with. Private to this folder.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trivet/graph/graph.h"
#include "trivet/train/config.h"

namespace trivet {

// The input of that name, which may be there already.
ValueId input_once(Graph& graph, const std::string& name, TensorType type);

// The rank that keeps the optimizer's states of each state of the class parameters, by its name, with train.zero on
// several ranks; otherwise empty: every rank keeps all. Each rank has about as many elements as the others.
using Owners = std::map<std::string, int>;
Owners owners_of(const Graph& graph, const TrainConfig& config);
// The owner of an optimizer's state "<what>/<name>": that of <name>.
int owner_of_state(const Owners& owners, const std::string& state);

// Clipping and the optimizer's step for each parameter. Adds the inputs lr and, where needed, step. Parameters in bf16
// are rounded stochastically, by draws that `seed` and the step key. With train.zero a rank makes the steps of its own
// parameters and receives the others.
void add_updates(Graph& graph, const TrainConfig& config, const std::vector<ValueId>& parameters,
                 const std::vector<ValueId>& gradients, std::uint64_t seed);

// The moving average, in f32, of every state that is_averaged(), after its update; with train.zero of a rank's own.
void add_averages(Graph& graph, const TrainConfig& config);

// Floats of the class parameters.
bool is_averaged(const Value& state);
// "average/<name>": the state with the average of another.
std::string average_name(const std::string& name);
// The state that holds a parameter while its average is in its place: that of the average, which changes places with
// it, or for a bf16 parameter "weights/<name>", because the f32 average would not fit in the parameter's place.
std::string set_aside_name(const Value& parameter);

}  // namespace trivet
