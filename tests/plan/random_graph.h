// Random graphs for property tests: element-wise, matrix, reduction and shape ops over a few sizes, with states that
// are updated in place.
#pragma once

#include <fmt/format.h>

#include <random>

#include "trivet/ops/registry.h"

namespace trivet::testing {

// Multiples of 1/1000 in [-1, 1].
inline Tensor filled(const TensorType& type, std::uint32_t seed) {
  Tensor t(type);
  std::mt19937 rng(seed);
  for (float& v : t.as<float>()) v = static_cast<float>(rng() % 2001) / 1000.0F - 1.0F;
  return t;
}

class RandomGraph {
 public:
  explicit RandomGraph(std::uint32_t seed) : rng_(seed) {}

  Graph make() {
    Graph g("random");
    for (int i = 0; i < 3; ++i) values_.push_back(g.input(fmt::format("x{}", i), {DType::f32, {8, size()}}));
    const ValueId state = g.state("s", {DType::f32, {8, 16}}, MemoryClass::optimizer, {Init::Kind::normal, 1.0});
    values_.push_back(state);
    const int nodes = 5 + pick(25);
    for (int i = 0; i < nodes; ++i) add_node(g);
    for (std::size_t i = 0; i < 2; ++i) {
      g.set_output(fmt::format("y{}", i), apply(g, "tanh", {values_[values_.size() - 1 - i]}));
    }
    add_update(g, state);
    return g;
  }

 private:
  int pick(int n) { return static_cast<int>(rng_() % static_cast<std::uint32_t>(n)); }
  std::int64_t size() { return std::int64_t{16} << pick(3); }
  ValueId any() { return values_[static_cast<std::size_t>(pick(static_cast<int>(values_.size())))]; }

  void add_node(Graph& g) {
    const ValueId a = any();
    const TensorType type = g.type(a);
    switch (pick(6)) {
      case 0:
        values_.push_back(apply(g, "tanh", {a}));
        break;
      case 1:
        values_.push_back(apply(g, "relu", {a}));
        break;
      case 2:
        for (const ValueId b : values_) {
          if (b != a && g.type(b) == type) {
            values_.push_back(apply(g, pick(2) == 0 ? "add" : "sub", {a, b}));
            return;
          }
        }
        values_.push_back(apply(g, "add", {a, a}));
        break;
      case 3:
        values_.push_back(apply(g, "reshape", {a}, {{"shape", std::vector<std::int64_t>{type.dim(0), type.dim(1)}}}));
        break;
      case 4: {
        const ValueId w = apply(g, "matmul", {a, any_with(g, type.dim(1))}, {{"transpose_b", true}});
        values_.push_back(apply(g, "tanh", {w}));
        values_.push_back(apply(g, "matmul", {values_.back(), any_with_rows(g, g.type(values_.back()).dim(1))}));
        break;
      }
      default:
        values_.push_back(apply(g, "mul", {a, apply(g, "reduce_mean", {a}, {{"axes", std::vector<std::int64_t>{1}}})}));
    }
  }

  ValueId any_with(const Graph& g, std::int64_t columns) {
    for (std::size_t i = values_.size(); i-- > 0;) {
      if (g.type(values_[i]).dim(1) == columns) return values_[i];
    }
    return values_[0];
  }
  ValueId any_with_rows(const Graph& g, std::int64_t rows) {
    for (std::size_t i = values_.size(); i-- > 0;) {
      if (g.type(values_[i]).dim(0) == rows) return values_[i];
    }
    return values_[0];
  }

  void add_update(Graph& g, ValueId state) {
    for (std::size_t i = values_.size(); i-- > 0;) {
      if (values_[i] != state && g.type(values_[i]) == g.type(state)) {
        g.set_update(state, apply(g, "add", {state, values_[i]}, {}, "update"));
        return;
      }
    }
    g.set_update(state, apply(g, "zero", {state}, {}, "update"));
  }

  std::mt19937 rng_;
  std::vector<ValueId> values_;
};

}  // namespace trivet::testing
