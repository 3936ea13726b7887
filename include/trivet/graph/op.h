// What an op is. Each op is declared once, in runtime/ops/<family>.cpp, as one OpDef: attributes, shape rule,
// gradient, cost. Its kernels are found by the same name in each device's table (trivet/kernels/kernel.h).
// docs/adding-an-op.md walks through one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "trivet/base/types.h"

namespace trivet {

using ValueId = std::int32_t;
inline constexpr ValueId kNoValue = -1;  // an optional input that a node does not have

using AttrValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>>;

// Attributes by name, as a caller gives them. Node stores them complete, in the schema's order.
using Attrs = std::vector<std::pair<std::string, AttrValue>>;

std::string to_string(const AttrValue& value);

struct AttrSpec {
  std::string name;
  AttrValue fallback;  // also fixes the type
  bool required = false;
  std::vector<std::string> choices;                    // for strings: what is allowed
  std::function<void(void*, const AttrValue&)> store;  // into the op's plain struct
};

// The attributes of an op, and the plain struct (trivet/kernels/attrs_*.h) that its kernels receive.
struct AttrSchema {
  std::vector<AttrSpec> specs;
  std::size_t struct_size = 0;
  void (*construct)(void*) = nullptr;

  // Fills in defaults and checks names and types; `where` names the node in errors.
  Attrs complete(const Attrs& given, const std::string& where) const;
  std::vector<std::byte> pack(const Attrs& complete) const;
};

// Builds a schema: Attributes<SoftmaxAttrs>().integer("axis", &SoftmaxAttrs::axis, -1)
template <class S>
class Attributes {
 public:
  Attributes() {
    schema_.struct_size = sizeof(S);
    schema_.construct = [](void* p) { new (p) S(); };
  }
  Attributes& integer(std::string name, std::int64_t S::*field, std::int64_t fallback) {
    return push({std::move(name), fallback, false, {}, [field](void* s, const AttrValue& v) {
                   static_cast<S*>(s)->*field = std::get<std::int64_t>(v);
                 }});
  }
  Attributes& number(std::string name, double S::*field, double fallback) {
    return push({std::move(name), fallback, false, {}, [field](void* s, const AttrValue& v) {
                   static_cast<S*>(s)->*field = std::get<double>(v);
                 }});
  }
  Attributes& flag(std::string name, bool S::*field, bool fallback) {
    return push({std::move(name), fallback, false, {}, [field](void* s, const AttrValue& v) {
                   static_cast<S*>(s)->*field = std::get<bool>(v);
                 }});
  }
  // A list of integers; `required` if there is no sensible default.
  Attributes& integers(std::string name, kernels::IntList S::*field, std::vector<std::int64_t> fallback,
                       bool required = false) {
    return push({std::move(name), std::move(fallback), required, {}, [field](void* s, const AttrValue& v) {
                   const auto& list = std::get<std::vector<std::int64_t>>(v);
                   kernels::IntList& out = static_cast<S*>(s)->*field;
                   out.n = static_cast<int>(list.size());
                   for (std::size_t i = 0; i < list.size(); ++i) out.v[i] = list[i];
                 }});
  }
  Attributes& numbers(std::string name, kernels::NumberList S::*field, std::vector<double> fallback,
                      bool required = false) {
    return push({std::move(name), std::move(fallback), required, {}, [field](void* s, const AttrValue& v) {
                   const auto& list = std::get<std::vector<double>>(v);
                   kernels::NumberList& out = static_cast<S*>(s)->*field;
                   out.n = static_cast<int>(list.size());
                   for (std::size_t i = 0; i < list.size(); ++i) out.v[i] = list[i];
                 }});
  }
  // Any text of fewer than kMaxTextSize bytes, such as einsum's equation.
  Attributes& text(std::string name, kernels::Text S::*field, std::string fallback, bool required = false) {
    return push({std::move(name), std::move(fallback), required, {}, [field](void* s, const AttrValue& v) {
                   const auto& text = std::get<std::string>(v);
                   std::copy(text.begin(), text.end(), (static_cast<S*>(s)->*field).v);
                 }});
  }
  // One of `choices`, which are the names of Enum's values in order from 0. The first is the default.
  template <class Enum>
  Attributes& choice(std::string name, Enum S::*field, std::vector<std::string> choices) {
    return push({std::move(name), choices.front(), false, choices, [field, choices](void* s, const AttrValue& v) {
                   const auto& text = std::get<std::string>(v);
                   for (std::size_t i = 0; i < choices.size(); ++i) {
                     if (choices[i] == text) static_cast<S*>(s)->*field = static_cast<Enum>(i);
                   }
                 }});
  }
  operator AttrSchema() const { return schema_; }

 private:
  Attributes& push(AttrSpec spec) {
    schema_.specs.push_back(std::move(spec));
    return *this;
  }
  AttrSchema schema_;
};

// A node as its shape rule and its cost see it.
class OpContext {
 public:
  // `ids`: the node's inputs, kNoValue where an optional one is absent; `in`: their types.
  OpContext(std::string_view op, std::string_view node, std::span<const TensorType> in, std::span<const ValueId> ids,
            const void* attrs)
      : op_(op), node_(node), in_(in), ids_(ids), attrs_(attrs) {}

  int num_inputs() const { return static_cast<int>(in_.size()); }
  bool has(int i) const { return i < num_inputs() && ids_[static_cast<std::size_t>(i)] != kNoValue; }
  const TensorType& in(int i) const { return in_[static_cast<std::size_t>(i)]; }
  template <class A>
  const A& attrs() const {
    return *static_cast<const A*>(attrs_);
  }

  // Error(graph) that names the node, the op and all input types: "<node>: <op>(f32[2,3], f32[4]): <message>".
  [[noreturn]] void fail(const std::string& message, const std::string& hint = {}) const;
  void require(bool condition, const std::string& message) const {
    if (!condition) fail(message);
  }
  // The axis counted from the front, checked against input i's rank.
  int axis(std::int64_t axis, int input = 0) const;

 private:
  std::string_view op_;
  std::string_view node_;
  std::span<const TensorType> in_;
  std::span<const ValueId> ids_;
  const void* attrs_;
};

// Floating-point operations of one run. Bytes are counted by the framework from the inputs and outputs, unless
// the op moves something else (embedding reads only the rows that it needs).
struct Cost {
  double flops = 0;
  double bytes = -1;    // -1: all present inputs once and all outputs once
  bool matrix = false;  // bound by the machine's matrix-product rate rather than by its vector rate
};

class GradContext;  // trivet/ops/grad_context.h

struct OpDef {
  std::string name;
  int min_inputs = 1;
  int max_inputs = 1;  // more than min_inputs: optional ones; kAnyInputs: a list
  AttrSchema attrs = {};
  std::vector<TensorType> (*infer)(const OpContext&) = nullptr;
  // Null: not differentiable; gradients stop here. An op whose loss gradient is asked for all the same is an error
  // if `differentiable_error` says why.
  void (*gradient)(GradContext&) = nullptr;
  Cost (*cost)(const OpContext&, std::span<const TensorType> out) = nullptr;
  // Pairs (output, input): the kernel may write this output over that input. Types must be equal.
  std::vector<std::pair<int, int>> in_place = {};
  bool alias = false;  // output 0 is input 0's memory with another shape; there is no kernel
};

inline constexpr int kAnyInputs = 1 << 20;

}  // namespace trivet
