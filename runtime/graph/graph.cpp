#include "trivet/graph/graph.h"

#include <fmt/format.h>

#include <cstring>

#include "trivet/base/error.h"
#include "trivet/base/hash.h"

namespace trivet {

const char* memory_class_name(MemoryClass c) {
  switch (c) {
    case MemoryClass::parameters:
      return "parameters";
    case MemoryClass::gradients:
      return "gradients";
    case MemoryClass::optimizer:
      return "optimizer";
    case MemoryClass::activations:
      return "activations";
    case MemoryClass::workspace:
      return "workspace";
    case MemoryClass::data:
      return "data";
  }
  return "?";
}

ValueId Graph::add_value(Value value) {
  element_count(value.type.shape);  // throws on overflow
  values_.push_back(std::move(value));
  return static_cast<ValueId>(values_.size() - 1);
}

void Graph::require_new_name(const std::string& name) const {
  if (name.empty()) throw Error(ErrorCode::graph, "an input or state needs a name");
  if (find(name)) throw Error(ErrorCode::graph, fmt::format("graph '{}' has two values named '{}'", name_, name));
}

ValueId Graph::input(const std::string& name, TensorType type) {
  require_new_name(name);
  Value v;
  v.name = name;
  v.type = std::move(type);
  v.kind = ValueKind::input;
  return add_value(std::move(v));
}

ValueId Graph::parameter(const std::string& name, TensorType type, Init init) {
  const ValueId id = state(name, std::move(type), MemoryClass::parameters, init);
  at(id).trainable = true;
  return id;
}

ValueId Graph::state(const std::string& name, TensorType type, MemoryClass memory, Init init) {
  require_new_name(name);
  Value v;
  v.name = name;
  v.type = std::move(type);
  v.kind = ValueKind::state;
  v.memory = memory;
  v.init = init;
  return add_value(std::move(v));
}

ValueId Graph::constant(Tensor tensor, const std::string& name) {
  Value v;
  v.name = name.empty() ? fmt::format("constant_{}", constants_.size()) : name;
  v.type = tensor.type;
  v.kind = ValueKind::constant;
  v.constant = static_cast<std::int32_t>(constants_.size());
  constants_.push_back(std::move(tensor));
  return add_value(std::move(v));
}

std::vector<ValueId> Graph::add(const OpDef& op, std::vector<ValueId> inputs, const Attrs& attrs, std::string name) {
  if (name.empty()) name = fmt::format("{}_{}", op.name, nodes_.size());
  const std::string where = fmt::format("{}: {}", name, op.name);
  const int count = static_cast<int>(inputs.size());
  if (count < op.min_inputs || count > op.max_inputs) {
    const std::string expected = op.max_inputs == op.min_inputs ? fmt::format("{}", op.min_inputs)
                                 : op.max_inputs == kAnyInputs  ? fmt::format("at least {}", op.min_inputs)
                                                                : fmt::format("{} to {}", op.min_inputs, op.max_inputs);
    throw Error(ErrorCode::graph, fmt::format("{} has {} inputs, expected {}", where, count, expected));
  }
  std::vector<TensorType> types;
  for (int i = 0; i < count; ++i) {
    const ValueId v = inputs[static_cast<std::size_t>(i)];
    if (v == kNoValue && i >= op.min_inputs) {
      types.emplace_back();
    } else if (v < 0 || static_cast<std::size_t>(v) >= values_.size()) {
      throw Error(ErrorCode::graph, fmt::format("{}: input {} is not a value of this graph", where, i));
    } else {
      types.push_back(type(v));
    }
  }
  Node node;
  node.op = &op;
  node.name = std::move(name);
  node.inputs = std::move(inputs);
  node.attrs = op.attrs.complete(attrs, where);
  node.packed = op.attrs.pack(node.attrs);
  const OpContext context(op.name, node.name, types, node.inputs, node.packed.data());
  const std::vector<TensorType> out = op.infer(context);
  const auto id = static_cast<NodeId>(nodes_.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i].rank() > kMaxRank)
      context.fail(fmt::format("the result has rank {}, at most {} is possible", out[i].rank(), kMaxRank));
    Value v;
    v.name = out.size() == 1 ? node.name : fmt::format("{}:{}", node.name, i);
    v.type = out[i];
    v.producer = id;
    v.output = static_cast<int>(i);
    node.outputs.push_back(add_value(std::move(v)));
  }
  nodes_.push_back(std::move(node));
  return nodes_.back().outputs;
}

void Graph::set_output(const std::string& name, ValueId value) {
  for (const NamedValue& o : outputs_) {
    if (o.name == name)
      throw Error(ErrorCode::graph, fmt::format("graph '{}' has two outputs named '{}'", name_, name));
  }
  outputs_.push_back({name, value});
}

ValueId Graph::remove_output(const std::string& name) {
  const auto it = std::find_if(outputs_.begin(), outputs_.end(), [&](const NamedValue& o) { return o.name == name; });
  if (it == outputs_.end()) throw Error(ErrorCode::graph, fmt::format("graph '{}' has no output '{}'", name_, name));
  const ValueId value = it->value;
  outputs_.erase(it);
  return value;
}

void Graph::set_update(ValueId state, ValueId value) {
  const Value& s = this->value(state);
  if (s.kind != ValueKind::state)
    throw Error(ErrorCode::graph, fmt::format("'{}' is not a state and cannot be updated", s.name));
  if (s.type != type(value)) {
    throw Error(ErrorCode::graph, fmt::format("state '{}' is {}, its update '{}' is {}", s.name, to_string(s.type),
                                              this->value(value).name, to_string(type(value))));
  }
  for (const Update& u : updates_) {
    if (u.state == state) throw Error(ErrorCode::graph, fmt::format("state '{}' is updated twice", s.name));
  }
  updates_.push_back({state, value});
}

ValueId Graph::remove_update(ValueId state) {
  const auto it = std::find_if(updates_.begin(), updates_.end(), [&](const Update& u) { return u.state == state; });
  if (it == updates_.end())
    throw Error(ErrorCode::graph, fmt::format("state '{}' has no update", this->value(state).name));
  const ValueId value = it->value;
  updates_.erase(it);
  return value;
}

const Tensor& Graph::constant_of(ValueId id) const { return constants_[static_cast<std::size_t>(value(id).constant)]; }

std::vector<ValueId> Graph::inputs() const {
  std::vector<ValueId> ids;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i].kind == ValueKind::input) ids.push_back(static_cast<ValueId>(i));
  }
  return ids;
}

std::vector<ValueId> Graph::states() const {
  std::vector<ValueId> ids;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i].kind == ValueKind::state) ids.push_back(static_cast<ValueId>(i));
  }
  return ids;
}

std::optional<ValueId> Graph::find(const std::string& name) const {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Value& v = values_[i];
    if ((v.kind == ValueKind::input || v.kind == ValueKind::state) && v.name == name) return static_cast<ValueId>(i);
  }
  return std::nullopt;
}

std::string Graph::dump() const {
  const auto ref = [](ValueId v) { return v == kNoValue ? std::string("none") : fmt::format("%{}", v); };
  std::string text = fmt::format("graph {}\n", name_);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Value& v = values_[i];
    const auto id = static_cast<ValueId>(i);
    if (v.kind == ValueKind::input) {
      text += fmt::format("{} = input \"{}\" : {}\n", ref(id), v.name, to_string(v.type));
    } else if (v.kind == ValueKind::state) {
      constexpr std::array inits = {"constant", "uniform", "normal"};
      text += fmt::format("{} = state \"{}\" : {} {} init={}({}){}\n", ref(id), v.name, to_string(v.type),
                          memory_class_name(v.memory), inits[static_cast<std::size_t>(v.init.kind)], v.init.a,
                          v.trainable ? " trainable" : "");
    } else if (v.kind == ValueKind::constant) {
      Sha256 hash;
      hash.update(std::span<const std::byte>(constant_of(id).data));
      text += fmt::format("{} = constant : {} sha256={}\n", ref(id), to_string(v.type), hash.hex());
    }
  }
  for (const Node& n : nodes_) {
    std::vector<std::string> outs, ins, types, attrs;
    for (const ValueId v : n.outputs) {
      outs.push_back(ref(v));
      types.push_back(to_string(type(v)));
    }
    for (const ValueId v : n.inputs) ins.push_back(ref(v));
    for (const auto& [name, value] : n.attrs) attrs.push_back(fmt::format("{}={}", name, to_string(value)));
    text += fmt::format("{} = {}({})", fmt::join(outs, ", "), n.op->name, fmt::join(ins, ", "));
    if (!attrs.empty()) text += fmt::format(" {{{}}}", fmt::join(attrs, ", "));
    text += fmt::format(" : {}  # {}\n", fmt::join(types, ", "), n.name);
  }
  for (const NamedValue& o : outputs_) text += fmt::format("output \"{}\" = {}\n", o.name, ref(o.value));
  for (const Update& u : updates_) text += fmt::format("update {} <- {}\n", ref(u.state), ref(u.value));
  return text;
}

std::string Graph::hash() const { return sha256_hex(dump()); }

GraphCopier::GraphCopier(const Graph& from, Graph& to, std::span<const std::string> replaced)
    : from_(from), to_(to), mapping_(from.values().size(), kNoValue) {
  for (std::size_t i = 0; i < from.values().size(); ++i) {
    const Value& v = from.values()[i];
    if (v.kind == ValueKind::input) {
      const bool copied = std::find(replaced.begin(), replaced.end(), v.name) == replaced.end();
      if (copied) mapping_[i] = to.input(v.name, v.type);
    } else if (v.kind == ValueKind::state) {
      mapping_[i] = v.trainable ? to.parameter(v.name, v.type, v.init) : to.state(v.name, v.type, v.memory, v.init);
    }
  }
}

ValueId GraphCopier::operator()(ValueId old) {
  if (old == kNoValue) return kNoValue;
  ValueId& now = mapping_[static_cast<std::size_t>(old)];
  if (now == kNoValue) {
    const Value& v = from_.value(old);
    if (v.kind != ValueKind::constant)
      throw Error(ErrorCode::internal, fmt::format("value '{}' was used before it was copied", v.name));
    now = to_.constant(from_.constant_of(old), v.name);
  }
  return now;
}

void GraphCopier::copy(const Node& node) {
  std::vector<ValueId> inputs;
  for (const ValueId v : node.inputs) inputs.push_back((*this)(v));
  const std::vector<ValueId> outputs = to_.add(*node.op, std::move(inputs), node.attrs, node.name);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    to_.set_memory(outputs[i], from_.value(node.outputs[i]).memory);
    map(node.outputs[i], outputs[i]);
  }
}

void GraphCopier::finish() {
  for (const NamedValue& o : from_.outputs()) to_.set_output(o.name, (*this)(o.value));
  for (const Update& u : from_.updates()) to_.set_update((*this)(u.state), (*this)(u.value));
}

}  // namespace trivet
