// Shape rules, gradients and declarations that the element-wise families share.
#pragma once

#include <string>

#include "runtime/ops/checks.h"
#include "trivet/ops/grad_context.h"

namespace trivet {

// Floating-point operations for one element. An elementary function counts as its float32 polynomial does.
inline constexpr int kSimple = 1;
inline constexpr int kExp = 18;
inline constexpr int kLog = 24;
inline constexpr int kErf = 30;
inline constexpr int kTrigonometric = 24;
inline constexpr int kPow = 60;

template <int kFlops>
Cost per_element(const OpContext&, std::span<const TensorType> out) {
  return {.flops = kFlops * static_cast<double>(out[0].elements())};
}

// (x) -> y of the same type, f32 or bf16.
std::vector<TensorType> infer_float(const OpContext& context);
// (dy, saved) -> dx, all of one type, f32 or bf16.
std::vector<TensorType> infer_backward(const OpContext& context);

// Hands back a contribution that has the output's shape.
void set_broadcast(GradContext& g, int input, ValueId gradient);
// A scalar of the gradient's dtype.
ValueId constant_like_dout(GradContext& g, double value);
ValueId scaled(GradContext& g, ValueId x, double scale, double shift = 0);

OpDef unary(std::string name, void (*gradient)(GradContext&), decltype(OpDef::cost) cost = per_element<kSimple>);
OpDef binary(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&),
             decltype(OpDef::cost) cost = per_element<kSimple>);
// Inputs (dy, saved).
OpDef backward(std::string name, decltype(OpDef::cost) cost);

// The op with these attributes.
inline OpDef with(AttrSchema attrs, OpDef op) {
  op.attrs = std::move(attrs);
  return op;
}

}  // namespace trivet
