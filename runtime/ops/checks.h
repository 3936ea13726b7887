// Checks that the shape rules of several families share. `name` is the input's name in the error.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "trivet/graph/op.h"

namespace trivet {

inline void require_f32(const OpContext& context, int input, std::string_view name) {
  if (context.in(input).dtype != DType::f32) {
    context.fail(fmt::format("{} is {}, expected f32", name, dtype_name(context.in(input).dtype)));
  }
}

// The types that ops compute on.
inline void require_f32_or_bf16(const OpContext& context, int input, std::string_view name) {
  const DType dtype = context.in(input).dtype;
  if (dtype != DType::f32 && dtype != DType::bf16) {
    context.fail(fmt::format("{} is {}, expected f32 or bf16", name, dtype_name(dtype)));
  }
}

inline void require_type(const OpContext& context, int input, std::string_view name, const TensorType& expected) {
  if (context.in(input) != expected) {
    context.fail(fmt::format("{} is {}, expected {}", name, to_string(context.in(input)), to_string(expected)));
  }
}

}  // namespace trivet
