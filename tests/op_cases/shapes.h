// What the cases of ops that move elements share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {

using Ints = std::vector<std::int64_t>;

inline constexpr DType kOtherTypes[] = {DType::f64,     DType::i32,  DType::i64, DType::u8,
                                        DType::boolean, DType::bf16, DType::f16, DType::i8};

inline CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }

// Small integers, which every dtype holds.
inline CaseInput typed(DType type, Shape shape) {
  return {{type, std::move(shape)}, {.kind = Fill::Kind::index, .a = 0, .b = 120}};
}

// The index of flat position i, and back.
inline Ints unflatten(std::int64_t i, const Shape& shape) {
  Ints index(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    index[d] = i % shape[d];
    i /= shape[d];
  }
  return index;
}
inline std::int64_t flatten(const Ints& index, const Shape& shape) {
  std::int64_t i = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) i = i * shape[d] + index[d];
  return i;
}

}  // namespace trivet::testing
