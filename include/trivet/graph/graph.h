// The static program of a model: nodes apply ops to typed values. Pure: a value is written once. What changes
// from step to step (parameters, optimizer state) is a stateful value with an update: the value that takes its
// place when the step ends.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trivet/graph/op.h"

namespace trivet {

using NodeId = std::int32_t;

enum class ValueKind {
  input,     // written by the host before each run
  constant,  // part of the graph
  state,     // persists between runs: parameters, optimizer state, running statistics
  computed,  // a node's output
};

// What memory is counted as in plans.
enum class MemoryClass { parameters, gradients, optimizer, activations, workspace, data };
const char* memory_class_name(MemoryClass c);

// How a stateful value starts. Draws are keyed by (seed, name), so they do not depend on the order of creation.
struct Init {
  enum class Kind { constant, uniform, normal } kind = Kind::constant;
  double a = 0;  // the constant; half-width of the uniform range around 0; standard deviation
};

struct Value {
  std::string name;
  TensorType type;
  ValueKind kind = ValueKind::computed;
  MemoryClass memory = MemoryClass::activations;
  NodeId producer = -1;  // computed values
  int output = 0;        // which output of the producer
  Init init;             // states
  bool trainable = false;
  std::int32_t constant = -1;  // index into Graph::constants()
};

struct Node {
  const OpDef* op = nullptr;
  std::string name;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attrs attrs;                    // complete
  std::vector<std::byte> packed;  // the op's plain struct

  template <class A>
  const A& attributes() const {
    return *reinterpret_cast<const A*>(packed.data());
  }
};

struct NamedValue {
  std::string name;
  ValueId value;
};

struct Update {
  ValueId state;
  ValueId value;
};

class Graph {
 public:
  explicit Graph(std::string name = "graph") : name_(std::move(name)) {}

  // Names are unique among inputs and states; Error(graph) otherwise.
  ValueId input(const std::string& name, TensorType type);
  ValueId parameter(const std::string& name, TensorType type, Init init);
  ValueId state(const std::string& name, TensorType type, MemoryClass memory, Init init = {});
  ValueId constant(Tensor tensor, const std::string& name = {});

  // Applies an op; types are inferred and checked. An empty name becomes "<op>_<number>".
  std::vector<ValueId> add(const OpDef& op, std::vector<ValueId> inputs, const Attrs& attrs = {},
                           std::string name = {});

  void set_output(const std::string& name, ValueId value);
  ValueId remove_output(const std::string& name);  // the value stays; Error(graph) if there is no such output
  // `value` replaces `state` at the end of each run. Types must be equal, one update for each state.
  void set_update(ValueId state, ValueId value);
  ValueId remove_update(ValueId state);  // the value stays; Error(graph) if there is none
  void set_memory(ValueId value, MemoryClass memory) { at(value).memory = memory; }

  const std::string& name() const { return name_; }
  const std::vector<Node>& nodes() const { return nodes_; }  // in a valid order of execution
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Tensor>& constants() const { return constants_; }
  const std::vector<NamedValue>& outputs() const { return outputs_; }
  const std::vector<Update>& updates() const { return updates_; }
  const Node& node(NodeId id) const { return nodes_[static_cast<std::size_t>(id)]; }
  const Value& value(ValueId id) const { return values_[static_cast<std::size_t>(id)]; }
  const TensorType& type(ValueId id) const { return value(id).type; }
  const Tensor& constant_of(ValueId id) const;
  std::vector<ValueId> inputs() const;
  std::vector<ValueId> states() const;
  std::optional<ValueId> find(const std::string& name) const;  // inputs and states

  // Stable text: equal for equal graphs, and different for different ones (constants by digest).
  std::string dump() const;
  std::string hash() const;  // SHA-256 of dump()

 private:
  Value& at(ValueId id) { return values_[static_cast<std::size_t>(id)]; }
  ValueId add_value(Value value);
  void require_new_name(const std::string& name) const;

  std::string name_;
  std::vector<Node> nodes_;
  std::vector<Value> values_;
  std::vector<Tensor> constants_;
  std::vector<NamedValue> outputs_;
  std::vector<Update> updates_;
};

// Copies a graph piece by piece, which is how passes rewrite: walk the nodes of `from`, and for each either copy()
// it or add other nodes to `to` and map() its outputs.
class GraphCopier {
 public:
  // Copies inputs, but for those of `replaced`, and states at once, constants when used.
  GraphCopier(const Graph& from, Graph& to, std::span<const std::string> replaced = {});

  ValueId operator()(ValueId old);  // the new value; copies constants on demand
  void map(ValueId old, ValueId now) { mapping_[static_cast<std::size_t>(old)] = now; }
  void copy(const Node& node);
  void finish();  // outputs and updates

 private:
  const Graph& from_;
  Graph& to_;
  std::vector<ValueId> mapping_;
};

}  // namespace trivet
