// Attributes that are lists of sizes, axes or dtypes, as the shape rules of several families read them.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "trivet/graph/op.h"
#include "trivet/ops/grad_context.h"

namespace trivet {

inline Shape to_shape(const kernels::IntList& list) { return Shape(list.v, list.v + list.n); }

inline Shape size_list(const OpContext& context, const kernels::IntList& list) {
  for (int i = 0; i < list.n; ++i) {
    if (list.v[i] < 0) context.fail(fmt::format("shape {} has a negative size", to_string(to_shape(list))));
  }
  return to_shape(list);
}

// Axes of `count` list entries (the first ones if `axes` is empty), each at most once.
inline std::vector<int> listed_axes(const OpContext& context, const kernels::IntList& axes, int count, int rank) {
  if (axes.n != 0 && axes.n != count) {
    context.fail(fmt::format("there are {} axes, expected {}", axes.n, count));
  }
  std::vector<int> result;
  for (int i = 0; i < count; ++i) {
    const std::int64_t axis = axes.n == 0 ? i : axes.v[i];
    if (axis < -rank || axis >= rank) context.fail(fmt::format("axis {} is outside of rank {}", axis, rank));
    result.push_back(static_cast<int>(axis < 0 ? axis + rank : axis));
    if (std::count(result.begin(), result.end(), result.back()) > 1) {
      context.fail(fmt::format("axis {} is given twice", result.back()));
    }
  }
  return result;
}

// The choices of an attribute of type DType.
inline std::vector<std::string> dtype_choices() {
  return {"f32", "f64", "i32", "i64", "u8", "bool", "bf16", "f16", "i8"};
}

// Refuses an attribute's value that an integer dtype cannot hold. Floats are rounded.
inline void require_representable(const OpContext& context, double value, DType type) {
  const auto within = [&](double low, double high) {
    return value >= low && value <= high && value == std::trunc(value);
  };
  const bool good = type == DType::i32       ? within(-2147483648.0, 2147483647.0)
                    : type == DType::i64     ? within(-0x1p53, 0x1p53)
                    : type == DType::u8      ? within(0, 255)
                    : type == DType::i8      ? within(-128, 127)
                    : type == DType::boolean ? within(0, 1)
                                             : true;
  if (!good) context.fail(fmt::format("value {} is not exact in {}", value, dtype_name(type)));
}

inline void require_indices(const OpContext& context, int input, std::string_view name) {
  const DType type = context.in(input).dtype;
  if (type != DType::i32 && type != DType::i64) {
    context.fail(fmt::format("{} are {}, expected i32 or i64", name, dtype_name(type)));
  }
}

inline ValueId full_of(GradContext& g, const TensorType& type, double value) {
  return g.apply("full", {}, {{"shape", type.shape}, {"value", value}, {"dtype", std::string(dtype_name(type.dtype))}});
}

inline ValueId cast_to(GradContext& g, ValueId value, DType dtype) {
  if (g.graph().type(value).dtype == dtype) return value;
  return g.apply("cast", {value}, {{"to", std::string(dtype_name(dtype))}});
}

// Data movement costs its bytes only.
inline Cost moves_only(const OpContext&, std::span<const TensorType>) { return {}; }

}  // namespace trivet
