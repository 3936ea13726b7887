// Values of ranks whose sum depends on the order, and the sum in the order that is promised, written down plainly.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/math/small_float.h"
#include "trivet/comm/communicator.h"

namespace trivet::testing {

using Bytes = std::vector<std::byte>;

inline double value_of(int rank, std::int64_t i, bool integer) {
  std::uint64_t h = (static_cast<std::uint64_t>(rank) << 40 ^ static_cast<std::uint64_t>(i)) + 0x9e3779b97f4a7c15U;
  h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9U;
  h = (h ^ h >> 27) * 0x94d049bb133111ebU;
  h ^= h >> 31;
  const double fraction = static_cast<double>(h >> 12) / static_cast<double>(std::uint64_t{1} << 51) - 1;
  return integer ? std::floor(fraction * 1e6) : std::ldexp(fraction, static_cast<int>(h % 24));
}

template <class T>
T to(double v) {
  if constexpr (std::is_same_v<T, kernels::BFloat16>) {
    return kernels::from_f32<kernels::BFloat16>(static_cast<float>(v));
  } else {
    return static_cast<T>(v);
  }
}

template <class T>
std::vector<T> values(int rank, std::int64_t elements) {
  std::vector<T> v(static_cast<std::size_t>(elements));
  for (std::int64_t i = 0; i < elements; ++i) {
    v[static_cast<std::size_t>(i)] = to<T>(value_of(rank, i, std::is_integral_v<T>));
  }
  return v;
}

// Neighbours, then neighbours of the results, and so on.
template <class A>
A tree(std::vector<A>& level, ReduceOp op) {
  while (level.size() > 1) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < level.size(); i += 2) {
      const A a = level[i];
      if (i + 1 == level.size()) {
        level[n++] = a;
        continue;
      }
      const A b = level[i + 1];
      level[n++] = op == ReduceOp::sum ? static_cast<A>(a + b) : op == ReduceOp::max ? std::max(a, b) : std::min(a, b);
    }
    level.resize(n);
  }
  return level[0];
}

template <class T>
std::vector<T> reduced(int ranks, std::int64_t elements, ReduceOp op) {
  std::vector<std::vector<T>> all;
  for (int r = 0; r < ranks; ++r) all.push_back(values<T>(r, elements));
  std::vector<T> result;
  result.reserve(static_cast<std::size_t>(elements));
  using A = std::conditional_t<std::is_same_v<T, kernels::BFloat16>, float, T>;
  std::vector<A> leaves;
  for (std::size_t i = 0; i < static_cast<std::size_t>(elements); ++i) {
    leaves.clear();
    if constexpr (std::is_same_v<T, kernels::BFloat16>) {
      for (const auto& v : all) leaves.push_back(kernels::to_f32(v[i]));
      result.push_back(kernels::from_f32<T>(tree(leaves, op)));
    } else {
      for (const auto& v : all) leaves.push_back(v[i]);
      result.push_back(tree(leaves, op));
    }
  }
  return result;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace trivet::testing
