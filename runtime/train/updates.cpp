#include "runtime/train/updates.h"

#include <fmt/format.h>

#include <array>

#include "trivet/base/error.h"
#include "trivet/ops/muon.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/ranks.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

// Biases and the scales of norms are vectors; decaying them only harms.
double weight_decay(const Graph& graph, ValueId parameter, const OptimizerConfig& config) {
  return graph.type(parameter).rank() > 1 ? config.weight_decay : 0.0;
}

ValueId optimizer_state(Graph& graph, ValueId parameter, const std::string& what) {
  const std::string name = fmt::format("{}/{}", what, graph.value(parameter).name);
  return graph.state(name, {DType::f32, graph.type(parameter).shape}, MemoryClass::optimizer);
}

std::string update_name(const Graph& graph, ValueId parameter) { return "update." + graph.value(parameter).name; }

// One parameter's step. `scale` is the factor of clipping, or none. A bf16 parameter is rounded at random, because
// most steps are smaller than half of its last bit and would be lost; `rounding` are the attributes that say so and
// key the draws. It is empty for one in f32.
struct Step {
  ValueId parameter;
  ValueId gradient;
  ValueId lr;
  ValueId scale;
  Attrs rounding;
};

constexpr double kFirstLossScale = 65536;

constexpr std::int64_t kRoundingDraws = std::int64_t{1} << 32;  // far from the numbers of the dropout layers

Attrs rounding_of(const Graph& graph, ValueId parameter, std::uint64_t seed, std::size_t index) {
  if (graph.type(parameter).dtype != DType::bf16) return {};
  return {{"stochastic_rounding", true},
          {"seed", static_cast<std::int64_t>(seed)},
          {"op", kRoundingDraws + static_cast<std::int64_t>(index)}};
}

ValueId step_input(Graph& graph) { return input_once(graph, "step", {DType::i64, {}}); }

Attrs with(Attrs attrs, const Attrs& more) {
  attrs.insert(attrs.end(), more.begin(), more.end());
  return attrs;
}

// Inputs of an op whose last one, the optimizer's step, is for the rounding alone.
std::vector<ValueId> with_step(Graph& graph, std::vector<ValueId> inputs, const Step& s) {
  if (!s.rounding.empty()) inputs.push_back(step_input(graph));
  return inputs;
}

// parameter - lr * (direction + weight_decay * parameter) for a bf16 parameter and a direction in f32, which serves as
// the buffer that an SGD step has but does not need here.
void step_along(Graph& graph, const Step& s, ValueId direction, double decay) {
  const auto out =
      apply_all(graph, "sgd_step", {s.parameter, direction, direction, s.lr, kNoValue, step_input(graph)},
                with({{"momentum", 0.0}, {"weight_decay", decay}}, s.rounding), update_name(graph, s.parameter));
  graph.set_update(s.parameter, out[0]);
}

void add_sgd(Graph& graph, const OptimizerConfig& config, const Step& s) {
  const ValueId buffer = optimizer_state(graph, s.parameter, "momentum");
  const auto out = apply_all(graph, "sgd_step", with_step(graph, {s.parameter, s.gradient, buffer, s.lr, s.scale}, s),
                             with({{"momentum", config.momentum},
                                   {"weight_decay", weight_decay(graph, s.parameter, config)},
                                   {"nesterov", config.nesterov}},
                                  s.rounding),
                             update_name(graph, s.parameter));
  graph.set_update(s.parameter, out[0]);
  graph.set_update(buffer, out[1]);
}

void add_adamw(Graph& graph, const OptimizerConfig& config, const Step& s) {
  const ValueId m = optimizer_state(graph, s.parameter, "m");
  const ValueId v = optimizer_state(graph, s.parameter, "v");
  const auto out = apply_all(graph, "adamw_step", {s.parameter, s.gradient, m, v, s.lr, step_input(graph), s.scale},
                             with({{"beta1", config.beta1},
                                   {"beta2", config.beta2},
                                   {"epsilon", config.epsilon},
                                   {"weight_decay", weight_decay(graph, s.parameter, config)}},
                                  s.rounding),
                             update_name(graph, s.parameter));
  graph.set_update(s.parameter, out[0]);
  graph.set_update(m, out[1]);
  graph.set_update(v, out[2]);
}

void add_lion(Graph& graph, const OptimizerConfig& config, const Step& s) {
  const ValueId m = optimizer_state(graph, s.parameter, "m");
  const auto out = apply_all(graph, "lion_step", with_step(graph, {s.parameter, s.gradient, m, s.lr, s.scale}, s),
                             with({{"beta1", config.beta1},
                                   {"beta2", config.beta2},
                                   {"weight_decay", weight_decay(graph, s.parameter, config)}},
                                  s.rounding),
                             update_name(graph, s.parameter));
  graph.set_update(s.parameter, out[0]);
  graph.set_update(m, out[1]);
}

void add_adafactor(Graph& graph, const OptimizerConfig& config, const Step& s) {
  const TensorType type = graph.type(s.parameter);
  const std::string name = graph.value(s.parameter).name;
  const bool matrix = type.rank() > 1;
  const Shape rows = matrix ? Shape{type.dim(0)} : type.shape;
  const ValueId row = graph.state("rows/" + name, {DType::f32, rows}, MemoryClass::optimizer);
  ValueId column = kNoValue;
  if (matrix) {
    column = graph.state("columns/" + name, {DType::f32, {type.elements() / type.dim(0)}}, MemoryClass::optimizer);
  }
  const double decay = weight_decay(graph, s.parameter, config);
  const bool rounded = !s.rounding.empty();
  // A step of rate 1 from 0 gives the direction, to be followed by one that rounds.
  const ValueId start =
      rounded ? apply(graph, "full", {}, {{"shape", type.shape}, {"value", 0.0}}, "zero." + name) : s.parameter;
  const ValueId lr = rounded ? graph.constant(Tensor::scalar_f32(1)) : s.lr;
  const auto out = apply_all(graph, "adafactor_step", {start, s.gradient, row, lr, step_input(graph), column, s.scale},
                             {{"weight_decay", rounded ? 0.0 : decay}},
                             rounded ? "direction." + name : update_name(graph, s.parameter));
  if (rounded) {
    step_along(graph, s, apply(graph, "affine", {out[0]}, {{"scale", -1.0}}, "downhill." + name), decay);
  } else {
    graph.set_update(s.parameter, out[0]);
  }
  graph.set_update(row, out[1]);
  if (matrix) graph.set_update(column, out[2]);
}

// Muon is for matrices, whose updates it makes of one size whatever the gradient; vectors take AdamW with the smaller
// rate that it is used to.
void add_muon(Graph& graph, const OptimizerConfig& config, Step s) {
  constexpr double kVectorRate = 0.05;
  if (graph.type(s.parameter).rank() < 2) {
    s.lr = apply(graph, "affine", {s.lr}, {{"scale", kVectorRate}}, "lr." + graph.value(s.parameter).name);
    return add_adamw(graph, config, s);
  }
  const ValueId buffer = optimizer_state(graph, s.parameter, "momentum");
  const MuonOptions options{config.momentum, config.nesterov, config.weight_decay};
  if (s.rounding.empty()) {
    const MuonStep step = muon_step(graph, s.parameter, s.gradient, buffer, s.lr, s.scale, options);
    graph.set_update(s.parameter, step.param);
    graph.set_update(buffer, step.buffer);
    return;
  }
  const ValueId gradient =
      apply(graph, "cast", {s.gradient}, {{"to", std::string("f32")}}, graph.value(s.gradient).name + ".f32");
  const MuonDirection to = muon_direction(graph, gradient, buffer, s.scale, options);
  step_along(graph, s, to.direction, options.weight_decay);
  graph.set_update(buffer, to.buffer);
}

void add_step(Graph& graph, const OptimizerConfig& config, const Step& s) {
  if (config.name == "sgd") return add_sgd(graph, config, s);
  if (config.name == "adamw") return add_adamw(graph, config, s);
  if (config.name == "lion") return add_lion(graph, config, s);
  if (config.name == "adafactor") return add_adafactor(graph, config, s);
  if (config.name == "muon") return add_muon(graph, config, s);
  throw Error(ErrorCode::graph, fmt::format("there is no optimizer '{}'", config.name),
              "one of sgd, adamw, lion, adafactor, muon");
}

bool keeps(const Owners& owners, const Value& parameter, const TrainConfig& config) {
  return owners.empty() || owners.at(parameter.name) == config.rank;
}

ValueId scalar_state(Graph& graph, const char* name, DType dtype, double init = 0) {
  if (const auto known = graph.find(name)) return *known;
  return graph.state(name, {dtype, {}}, MemoryClass::optimizer, {Init::Kind::constant, init});
}

ValueId loss_scale_state(Graph& graph) { return scalar_state(graph, kLossScale, DType::f32, kFirstLossScale); }

// What the gradients are multiplied by, and with loss scaling whether the step is taken.
struct GradientScale {
  ValueId factor = kNoValue;
  ValueId taken = kNoValue;
};

GradientScale add_clipping(Graph& graph, const std::vector<ValueId>& norms, double max_norm) {
  const auto out = apply_all(graph, "clip_scale", norms, {{"max_norm", max_norm}}, "clip");
  graph.set_output("grad_norm", out[1]);
  return {out[0], kNoValue};
}

// Every rank has the same norms, and so comes to the same decision.
GradientScale add_loss_scale(Graph& graph, const std::vector<ValueId>& norms, double max_norm) {
  const std::array states = {loss_scale_state(graph), scalar_state(graph, kGoodSteps, DType::i64),
                             scalar_state(graph, kSkippedSteps, DType::i64)};
  std::vector<ValueId> inputs(states.begin(), states.end());
  inputs.insert(inputs.end(), norms.begin(), norms.end());
  const auto out = apply_all(graph, "loss_scale_step", inputs, {{"max_norm", max_norm}}, "loss_scale");
  for (std::size_t i = 0; i < states.size(); ++i) graph.set_update(states[i], out[3 + i]);
  if (max_norm > 0) graph.set_output("grad_norm", out[1]);
  return {out[0], out[2]};
}

// The optimizer's step of one parameter, which leaves it and the optimizer's states as they are where `taken` is false.
void add_guarded_step(Graph& graph, const OptimizerConfig& config, const Step& s, ValueId taken) {
  const std::size_t before = graph.updates().size();
  add_step(graph, config, s);
  if (taken == kNoValue) return;
  std::vector<ValueId> states;
  for (std::size_t i = before; i < graph.updates().size(); ++i) states.push_back(graph.updates()[i].state);
  for (const ValueId state : states) guard_update(graph, taken, state);
}

}  // namespace

ValueId update_of(const Graph& graph, ValueId state) {
  for (const Update& update : graph.updates()) {
    if (update.state == state) return update.value;
  }
  return state;
}

std::string average_name(const std::string& name) { return "average/" + name; }

std::string set_aside_name(const Value& parameter) {
  return (parameter.type.dtype == DType::bf16 ? "weights/" : "average/") + parameter.name;
}

bool is_averaged(const Value& state) { return state.memory == MemoryClass::parameters && is_float(state.type.dtype); }

ValueId input_once(Graph& graph, const std::string& name, TensorType type) {
  if (const auto known = graph.find(name)) return *known;
  return graph.input(name, std::move(type));
}

Owners owners_of(const Graph& graph, const TrainConfig& config) {
  Owners owners;
  if (config.zero == 0 || config.ranks == 1) return owners;
  std::vector<std::string> names;
  std::vector<std::size_t> sizes;
  for (const ValueId state : graph.states()) {
    const Value& value = graph.value(state);
    if (value.memory != MemoryClass::parameters) continue;
    names.push_back(value.name);
    sizes.push_back(static_cast<std::size_t>(value.type.elements()));
  }
  const std::vector<int> ranks = share_out(sizes, config.ranks);
  for (std::size_t i = 0; i < names.size(); ++i) owners[names[i]] = ranks[i];
  return owners;
}

std::string before_name(const std::string& statistic) { return "before/" + statistic; }

int owner_of_state(const Owners& owners, const std::string& state) {
  if (state.starts_with("loss_scale/") || state.starts_with("before/")) return ShardedStates::kEveryRank;
  return owners.at(state.substr(state.find('/') + 1));
}

ValueId scaled_by_loss_scale(Graph& graph, ValueId loss_gradient) {
  return apply(graph, "mul", {loss_gradient, loss_scale_state(graph)}, {}, "scaled_loss_gradient");
}

void guard_update(Graph& graph, ValueId taken, ValueId state, ValueId before) {
  const ValueId next = update_of(graph, state);
  const std::string name = graph.value(state).name;
  if (next != state) graph.remove_update(state);
  graph.set_update(state,
                   apply(graph, "where", {taken, next, before == kNoValue ? state : before}, {}, "keep." + name));
}

ValueId add_updates(Graph& graph, const TrainConfig& config, const std::vector<ValueId>& parameters,
                    const std::vector<ValueId>& gradients, std::uint64_t seed, bool scaled_loss) {
  const Owners owners = owners_of(graph, config);
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  GradientScale scale;
  if (config.clip_norm > 0 || scaled_loss) {
    std::vector<ValueId> norms;
    for (const ValueId g : gradients)
      norms.push_back(apply(graph, "squared_norm", {g}, {}, "norm." + graph.value(g).name));
    // A gradient that another rank has is 0 here: each sum is of a norm and zeros, and has its bits.
    if (config.zero == 2 && !owners.empty()) norms = sum_over_ranks(graph, norms, config.ranks);
    scale = scaled_loss ? add_loss_scale(graph, norms, config.clip_norm) : add_clipping(graph, norms, config.clip_norm);
  }
  std::vector<OwnedState> owned;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Step step{parameters[i], gradients[i], lr, scale.factor, rounding_of(graph, parameters[i], seed, i)};
    if (owners.empty()) {
      add_guarded_step(graph, config.optimizer, step, scale.taken);
      continue;
    }
    const int owner = owners.at(graph.value(parameters[i]).name);
    owned.push_back({parameters[i], kNoValue, gradients[i], owner});
    if (owner != config.rank) continue;
    add_guarded_step(graph, config.optimizer, step, scale.taken);
    owned.back().now = update_of(graph, parameters[i]);
  }
  broadcast_updates(graph, owned, config.rank, config.ranks);
  return scale.taken;
}

void add_averages(Graph& graph, const TrainConfig& config, ValueId taken) {
  const Owners owners = owners_of(graph, config);
  for (const ValueId state : graph.states()) {
    const Value value = graph.value(state);
    if (!is_averaged(value)) continue;
    if (!keeps(owners, value, config)) continue;
    const ValueId now = update_of(graph, state);
    const ValueId average =
        graph.state(average_name(value.name), {DType::f32, value.type.shape}, MemoryClass::optimizer);
    if (value.type.dtype != DType::f32) graph.state(set_aside_name(value), value.type, MemoryClass::optimizer);
    graph.set_update(average, apply(graph, "average_step", {average, now}, {{"decay", config.average->decay}},
                                    average_name(value.name)));
    if (taken != kNoValue) guard_update(graph, taken, average);
  }
}

}  // namespace trivet
