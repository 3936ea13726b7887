#include <fmt/format.h>

#include <cstring>
#include <exception>

#include "runtime/plan/order.h"
#include "trivet/base/error.h"
#include "trivet/plan/memory.h"
#include "trivet/plan/plan.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// What is known of a node before places are found.
struct Choice {
  const kernels::KernelEntry* kernel = nullptr;
  std::shared_ptr<const kernels::Prepared> prepared;
  std::size_t workspace_bytes = 0;
  std::size_t packed_bytes = 0;
};

class Compiler {
 public:
  Compiler(const Graph& graph, const StateLayout& states, const Target& target, const CompileOptions& options)
      : graph_(graph), states_(states), target_(target), options_(options), plan_(std::make_shared<Plan>()) {}

  std::shared_ptr<const Plan> run() {
    plan_->name = graph_.name();
    plan_->target = target_.description();
    plan_->threads = options_.tile ? 1 : target_.threads();
    plan_->state_bytes = states_.bytes();
    plan_->graph_hash = graph_.hash();
    roots_ = alias_roots(graph_);
    refuse_outputs_of_old_values();
    place_states_and_constants();
    target_.enter();
    order_events();
    find_last_uses();
    assign_buffers();
    make_steps();
    place();
    name_inputs_and_outputs();
    check_plan(*plan_);
    return plan_;
  }

 private:
  // A node's place in the order, or that of packing its weights.
  struct Event {
    NodeId node;
    bool packs = false;
  };

  PlannedValue& planned(ValueId v) { return plan_->values[at(v)]; }

  bool is_fixed(ValueId v) const { return v == kNoValue || fixed_.contains(roots_[at(v)]); }

  // First what depends on fixed states alone, then the packing of weights, then what runs each time.
  void order_events() {
    std::vector<Event> repeated, packing;
    if (options_.fixed_states) find_fixed_values();
    for (const NodeId id : execution_order(graph_)) {
      const Node& node = graph_.node(id);
      const bool once = options_.fixed_states && is_fixed(node.outputs[0]);
      if (!node.op->alias) {
        Choice& choice = choices_[id] = choose_kernel(node, !once);
        if (choice.packed_bytes > 0) packing.push_back({id, true});
      }
      (once ? events_ : repeated).push_back({id});
    }
    events_.insert(events_.end(), packing.begin(), packing.end());
    first_repeated_ = events_.size();
    events_.insert(events_.end(), repeated.begin(), repeated.end());
  }

  void find_fixed_values() {
    if (!graph_.updates().empty()) {
      throw Error(ErrorCode::internal, fmt::format("graph '{}' updates its fixed states", graph_.name()));
    }
    for (std::size_t i = 0; i < graph_.values().size(); ++i) {
      const ValueKind kind = graph_.values()[i].kind;
      if (kind == ValueKind::state || kind == ValueKind::constant) fixed_.insert(static_cast<ValueId>(i));
    }
    for (const NodeId id : execution_order(graph_)) {
      const Node& node = graph_.node(id);
      if (!std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return is_fixed(v); })) continue;
      for (const ValueId v : node.outputs) fixed_.insert(roots_[at(v)]);
    }
  }

  // The inputs that an event reads; kNoValue for the others.
  std::vector<ValueId> reads(const Event& event) const {
    const Node& node = graph_.node(event.node);
    std::vector<ValueId> result(node.inputs.begin(), node.inputs.end());
    const auto choice = choices_.find(event.node);
    if (choice == choices_.end() || choice->second.packed_bytes == 0) return result;
    for (std::size_t i = 0; i < result.size(); ++i) {
      if ((i == choice->second.kernel->weights) != event.packs) result[i] = kNoValue;
    }
    return result;
  }

  void refuse_outputs_of_old_values() const {
    for (const NamedValue& o : graph_.outputs()) {
      for (const Update& u : graph_.updates()) {
        if (roots_[at(o.value)] == u.state) {
          throw Error(ErrorCode::graph,
                      fmt::format("output '{}' is the old value of state '{}', which the run overwrites", o.name,
                                  graph_.value(u.state).name),
                      "make the new value the output, or a copy of the old one");
        }
      }
    }
  }

  // Values of the plan are numbered as those of the graph.
  void place_states_and_constants() {
    for (std::size_t i = 0; i < graph_.values().size(); ++i) {
      const Value& v = graph_.values()[i];
      PlannedValue p;
      p.name = v.name;
      p.type = v.type;
      if (v.kind == ValueKind::state) {
        const StateLayout::Slot* slot = states_.find(v.name);
        if (!slot || slot->value.type != v.type) {
          throw Error(ErrorCode::internal, fmt::format("state '{}' is missing in the layout", v.name));
        }
        p.region = Region::state;
        p.offset = slot->offset;
      } else if (v.kind == ValueKind::constant) {
        p.region = Region::constant;
        p.offset = plan_->constant_bytes;
        plan_->constants.emplace_back(p.offset, graph_.constant_of(static_cast<ValueId>(i)));
        plan_->constant_bytes += round_up(std::max<std::size_t>(v.type.bytes(), 1), target_.alignment());
      }
      plan_->values.push_back(std::move(p));
    }
    for (const Update& u : graph_.updates()) update_of_[roots_[at(u.value)]] = u.state;
  }

  void find_last_uses() {
    last_use_.assign(graph_.values().size(), -2);
    for (std::size_t s = 0; s < events_.size(); ++s) {
      for (const ValueId v : reads(events_[s])) {
        if (v != kNoValue) last_use_[at(roots_[at(v)])] = static_cast<int>(s);
      }
      if (events_[s].packs) continue;
      for (const ValueId v : graph_.node(events_[s].node).outputs) {
        int& last = last_use_[at(roots_[at(v)])];
        last = std::max(last, static_cast<int>(s));
      }
    }
    for (const NamedValue& o : graph_.outputs()) last_use_[at(roots_[at(o.value)])] = static_cast<int>(events_.size());
    // Classes of aliases count for the memory that they share: a gradient stays one under a reshape.
    for (std::size_t i = 0; i < graph_.values().size(); ++i) {
      if (graph_.values()[i].memory == MemoryClass::gradients) gradient_roots_.insert(roots_[i]);
    }
  }

  int new_buffer(ValueId v, int first) {
    PlannedBuffer b;
    b.bytes = round_up(std::max<std::size_t>(graph_.type(v).bytes(), 1), target_.alignment());
    b.first = first;
    b.last = std::max(first, last_use_[at(v)]);
    b.memory = gradient_roots_.contains(v) ? MemoryClass::gradients : graph_.value(v).memory;
    b.name = graph_.value(v).name;
    plan_->buffers.push_back(std::move(b));
    return static_cast<int>(plan_->buffers.size()) - 1;
  }

  void assign_buffers() {
    for (const ValueId v : graph_.inputs()) planned(v).buffer = new_buffer(v, -1);
    for (std::size_t s = 0; s < events_.size(); ++s) {
      if (events_[s].packs) continue;
      const Node& node = graph_.node(events_[s].node);
      for (std::size_t o = 0; o < node.outputs.size(); ++o)
        assign_output(node, static_cast<int>(o), static_cast<int>(s));
    }
  }

  void assign_output(const Node& node, int o, int step) {
    const ValueId out = node.outputs[static_cast<std::size_t>(o)];
    const auto share = [&](ValueId from) {
      planned(out).region = planned(from).region;
      planned(out).offset = planned(from).offset;
      planned(out).buffer = planned(from).buffer;
    };
    if (node.op->alias) {
      planned(out).alias_of = roots_[at(out)];
      return share(node.inputs[0]);
    }
    if (const auto update = update_of_.find(out); update != update_of_.end()) {
      if (!may_overwrite(node, o, update->second)) {
        throw Error(ErrorCode::graph, fmt::format("{}: op '{}' cannot write the new value of state '{}' in place",
                                                  node.name, node.op->name, graph_.value(update->second).name));
      }
      return share(update->second);
    }
    if (static_cast<std::size_t>(step) < first_repeated_ && last_use_[at(out)] >= static_cast<int>(first_repeated_)) {
      planned(out).region = Region::constant;
      planned(out).offset = plan_->constant_bytes;
      plan_->constant_bytes += round_up(std::max<std::size_t>(graph_.type(out).bytes(), 1), target_.alignment());
      return;
    }
    for (const auto& [output, input] : node.op->in_place) {
      if (output != o || static_cast<std::size_t>(input) >= node.inputs.size()) continue;
      const ValueId in = node.inputs[static_cast<std::size_t>(input)];
      if (in != kNoValue && is_free_after(node, in, step) && graph_.type(in) == graph_.type(out)) {
        PlannedBuffer& b = plan_->buffers[at(planned(in).buffer)];
        b.last = std::max({b.last, step, last_use_[at(out)]});
        if (gradient_roots_.contains(out)) b.memory = MemoryClass::gradients;
        return share(in);
      }
    }
    planned(out).buffer = new_buffer(out, step);
  }

  static bool may_overwrite(const Node& node, int o, ValueId state) {
    for (const auto& [output, input] : node.op->in_place) {
      if (output == o && static_cast<std::size_t>(input) < node.inputs.size() &&
          node.inputs[static_cast<std::size_t>(input)] == state) {
        return true;
      }
    }
    return false;
  }

  // Nobody reads the memory of `in` after this step, and this node reads it as this one value only.
  bool is_free_after(const Node& node, ValueId in, int step) {
    if (planned(in).buffer < 0 || plan_->buffers[at(planned(in).buffer)].last > step) return false;
    for (const ValueId other : node.inputs) {
      if (other != kNoValue && other != in && planned(other).buffer == planned(in).buffer) return false;
    }
    for (const ValueId other : node.outputs) {  // another output of this node has taken it
      if (planned(other).buffer == planned(in).buffer) return false;
    }
    return true;
  }

  void make_steps() {
    std::map<NodeId, std::size_t> packed_offsets;
    for (std::size_t i = 0; i < events_.size(); ++i) {
      if (i == first_repeated_) plan_->first_repeated = plan_->steps.size();
      const Node& node = graph_.node(events_[i].node);
      if (node.op->alias) continue;
      const Choice& choice = choices_.at(events_[i].node);
      PlannedStep step;
      step.node = node.name;
      step.op = node.op->name;
      step.attrs = node.packed;
      step.kernel = choice.kernel;
      step.prepared = choice.prepared;
      step.workspace_bytes = choice.workspace_bytes;
      step.packs = events_[i].packs;
      for (const ValueId v : reads(events_[i])) step.inputs.push_back(v);
      if (!step.packs) {
        for (const ValueId v : node.outputs) step.outputs.push_back(v);
        count_cost(node, step);
      } else {
        packed_offsets[events_[i].node] = plan_->constant_bytes;
        plan_->constant_bytes += round_up(choice.packed_bytes, target_.alignment());
      }
      if (choice.packed_bytes > 0) {
        step.packed_bytes = choice.packed_bytes;
        step.packed_offset = packed_offsets.at(events_[i].node);
        step.weights = graph_.type(node.inputs[choice.kernel->weights]).desc();
      }
      plan_->steps.push_back(std::move(step));
    }
    if (first_repeated_ == events_.size()) plan_->first_repeated = plan_->steps.size();
    renumber_lifetimes();
  }

  Choice choose_kernel(const Node& node, bool repeated) const {
    Choice choice;
    std::vector<kernels::TensorDesc> in, out;
    std::vector<std::string> types;
    for (const ValueId v : node.inputs) {
      in.push_back(v == kNoValue ? kernels::TensorDesc{} : graph_.type(v).desc());
      types.push_back(v == kNoValue ? "none" : to_string(graph_.type(v)));
    }
    for (const ValueId v : node.outputs) out.push_back(graph_.type(v).desc());
    choice.kernel = target_.find(node.op->name);
    const std::size_t weights = choice.kernel ? choice.kernel->weights : kernels::kWeights;
    const bool fixed_weights = options_.fixed_states && repeated && node.inputs.size() > weights &&
                               node.inputs[weights] != kNoValue && is_fixed(node.inputs[weights]);
    const kernels::KernelSpec spec{in,           out, node.packed.data(), plan_->threads, fixed_weights, options_.tile,
                                   choice.kernel};
    if (!choice.kernel || !choice.kernel->supports(spec)) {
      throw Error(ErrorCode::graph,
                  fmt::format("{}: {} has no kernel for {}({})", node.name, target_.description(), node.op->name,
                              fmt::join(types, ", ")),
                  "cast the inputs, or run the job on another device");
    }
    try {
      if (choice.kernel->prepare) choice.prepared = choice.kernel->prepare(spec);
      if (choice.kernel->workspace) {
        choice.workspace_bytes = round_up(choice.kernel->workspace(spec, choice.prepared.get()), target_.alignment());
      }
      if (fixed_weights && choice.kernel->packed) {
        choice.packed_bytes = choice.kernel->packed(spec, choice.prepared.get());
      }
      return choice;
    } catch (const std::exception& e) {
      throw Error(ErrorCode::graph, fmt::format("{}: {}({}) cannot be prepared on {}: {}", node.name, node.op->name,
                                                fmt::join(types, ", "), target_.description(), e.what()));
    }
  }

  void count_cost(const Node& node, PlannedStep& step) {
    std::vector<TensorType> in, out;
    double bytes = 0;
    for (const ValueId v : node.inputs) {
      in.push_back(v == kNoValue ? TensorType{} : graph_.type(v));
      if (v != kNoValue) bytes += static_cast<double>(graph_.type(v).bytes());
    }
    for (const ValueId v : node.outputs) {
      out.push_back(graph_.type(v));
      bytes += static_cast<double>(graph_.type(v).bytes());
    }
    Cost cost;
    if (node.op->cost)
      cost = node.op->cost(OpContext(node.op->name, node.name, in, node.inputs, node.packed.data()), out);
    step.flops = cost.flops;
    step.bytes = cost.bytes < 0 ? bytes : cost.bytes;
    step.matrix = cost.matrix;
    if (!in.empty()) step.dtype = in[0].dtype;
  }

  // Lifetimes were counted in nodes; aliases are no steps.
  void renumber_lifetimes() {
    std::vector<int> steps_before(events_.size() + 1, 0);
    for (std::size_t s = 0; s < events_.size(); ++s) {
      steps_before[s + 1] = steps_before[s] + (graph_.node(events_[s].node).op->alias ? 0 : 1);
    }
    const int nodes = static_cast<int>(events_.size());
    const auto count = static_cast<int>(plan_->steps.size());
    for (PlannedBuffer& b : plan_->buffers) {
      if (b.first >= 0) b.first = steps_before[at(b.first)];
      // A last use by an alias is not a read: the next real step decides, so the step before it is right.
      if (b.last >= nodes) {
        b.last = count;
      } else if (b.last >= 0) {
        b.last = std::max(b.first, steps_before[at(b.last) + 1] - 1);
      }
      b.last = std::max(b.last, b.first);
    }
  }

  void place() {
    std::vector<LiveBuffer> live;
    for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
      if (plan_->steps[s].workspace_bytes == 0) continue;
      PlannedBuffer b;
      b.bytes = plan_->steps[s].workspace_bytes;
      b.first = b.last = static_cast<int>(s);
      b.memory = MemoryClass::workspace;
      b.name = plan_->steps[s].node + ".workspace";
      workspace_of_.emplace_back(s, plan_->buffers.size());
      plan_->buffers.push_back(std::move(b));
    }
    for (const PlannedBuffer& b : plan_->buffers) live.push_back({b.bytes, b.first, b.last});
    const Placement placement = place_buffers(live);
    for (std::size_t i = 0; i < plan_->buffers.size(); ++i) plan_->buffers[i].offset = placement.offsets[i];
    for (const auto& [step, buffer] : workspace_of_) plan_->steps[step].workspace_offset = placement.offsets[buffer];
    for (PlannedValue& v : plan_->values) {
      if (v.region == Region::transient && v.buffer >= 0) v.offset = placement.offsets[at(v.buffer)];
    }
    plan_->transient_bytes = placement.size;
    count_peak();
  }

  void count_peak() {
    const auto steps = static_cast<int>(plan_->steps.size());
    for (int s = -1; s <= steps; ++s) {
      BytesByClass live{};
      std::size_t sum = 0;
      for (const PlannedBuffer& b : plan_->buffers) {
        if (b.first <= s && s <= b.last) {
          live[static_cast<std::size_t>(b.memory)] += b.bytes;
          sum += b.bytes;
        }
      }
      if (sum > plan_->peak_live) {
        plan_->peak_live = sum;
        plan_->peak_by_class = live;
        plan_->peak_step = s;
      }
    }
  }

  void name_inputs_and_outputs() {
    for (const ValueId v : graph_.inputs()) plan_->inputs[graph_.value(v).name] = v;
    for (const NamedValue& o : graph_.outputs()) plan_->outputs[o.name] = o.value;
  }

  const Graph& graph_;
  const StateLayout& states_;
  const Target& target_;
  const CompileOptions options_;
  std::shared_ptr<Plan> plan_;
  std::vector<Event> events_;
  std::size_t first_repeated_ = 0;  // into events_
  std::map<NodeId, Choice> choices_;
  std::set<ValueId> fixed_;  // root values
  std::vector<ValueId> roots_;
  std::vector<int> last_use_;  // by root value, in places of events_
  std::set<ValueId> gradient_roots_;
  std::map<ValueId, ValueId> update_of_;                           // root of an update's value -> state
  std::vector<std::pair<std::size_t, std::size_t>> workspace_of_;  // step, buffer
};

}  // namespace

std::shared_ptr<const Plan> compile(const Graph& graph, const StateLayout& states, const Target& target,
                                    const CompileOptions& options) {
  return Compiler(graph, states, target, options).run();
}

}  // namespace trivet
