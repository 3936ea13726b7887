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
// The owner of an optimizer's state "<what>/<name>": that of <name>, or ShardedStates::kEveryRank.
int owner_of_state(const Owners& owners, const std::string& state);

// The states of loss scaling, with model.precision f16: what the loss's gradient is multiplied by, and how many steps
// in a row were taken, and all in all skipped, because a gradient was not finite. Every rank has them.
inline constexpr const char* kLossScale = "loss_scale/scale";
inline constexpr const char* kGoodSteps = "loss_scale/good_steps";
inline constexpr const char* kSkippedSteps = "loss_scale/skipped_steps";
// The running statistics from before a step whose passes update them at once, to which a skipped step returns.
std::string before_name(const std::string& statistic);

// The state's value after the run.
ValueId update_of(const Graph& graph, ValueId state);

// The loss's gradient times the loss scale.
ValueId scaled_by_loss_scale(Graph& graph, ValueId loss_gradient);

// Clipping and the optimizer's step for each parameter. Adds the inputs lr and, where needed, step. Parameters in bf16
// are rounded stochastically, by draws that `seed` and the step key. With train.zero a rank makes the steps of its own
// parameters and receives the others. With `scaled_loss` the gradients are the loss scale times too large: they are
// unscaled, and the step is skipped if one is not finite. Then gives the flag that says so, otherwise kNoValue.
ValueId add_updates(Graph& graph, const TrainConfig& config, const std::vector<ValueId>& parameters,
                    const std::vector<ValueId>& gradients, std::uint64_t seed, bool scaled_loss);

// Where the flag `taken` is false the state stays, or takes the value of `before`, if that is given.
void guard_update(Graph& graph, ValueId taken, ValueId state, ValueId before = kNoValue);

// The moving average, in f32, of every state that is_averaged(), after its update; with train.zero of a rank's own.
// Where the flag `taken`, if there is one, is false, the averages stay.
void add_averages(Graph& graph, const TrainConfig& config, ValueId taken);

// Floats of the class parameters.
bool is_averaged(const Value& state);
// "average/<name>": the state with the average of another.
std::string average_name(const std::string& name);
// The state that holds a parameter while its average is in its place: that of the average, which changes places with
// it, or for a bf16 parameter "weights/<name>", because the f32 average would not fit in the parameter's place.
std::string set_aside_name(const Value& parameter);

}  // namespace trivet
