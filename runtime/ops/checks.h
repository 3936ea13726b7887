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
constexpr bool is_compute_type(DType type) { return type == DType::f32 || type == DType::bf16 || type == DType::f16; }

inline void require_compute_type(const OpContext& context, int input, std::string_view name) {
  const DType dtype = context.in(input).dtype;
  if (!is_compute_type(dtype)) {
    context.fail(fmt::format("{} is {}, expected f32, bf16 or f16", name, dtype_name(dtype)));
  }
}

inline void require_type(const OpContext& context, int input, std::string_view name, const TensorType& expected) {
  if (context.in(input) != expected) {
    context.fail(fmt::format("{} is {}, expected {}", name, to_string(context.in(input)), to_string(expected)));
  }
}

}  // namespace trivet
