#include "runtime/ops/elementwise_rules.h"

#include "trivet/ops/registry.h"

namespace trivet {

std::vector<TensorType> infer_float(const OpContext& context) {
  require_compute_type(context, 0, "x");
  return {context.in(0)};
}

std::vector<TensorType> infer_backward(const OpContext& context) {
  require_compute_type(context, 0, "dy");
  require_type(context, 1, "the saved value", context.in(0));
  return {context.in(0)};
}

void set_broadcast(GradContext& g, int input, ValueId gradient) { g.set(input, sum_to(g, gradient, g.in_type(input))); }

ValueId constant_like_dout(GradContext& g, double value) {
  const char* dtype = dtype_name(g.graph().type(g.dout()).dtype);
  return g.apply("full", {}, {{"shape", Shape{}}, {"value", value}, {"dtype", std::string(dtype)}});
}

ValueId scaled(GradContext& g, ValueId x, double scale, double shift) {
  return g.apply("affine", {x}, {{"scale", scale}, {"shift", shift}});
}

OpDef unary(std::string name, void (*gradient)(GradContext&), decltype(OpDef::cost) cost) {
  return {.name = std::move(name), .infer = infer_float, .gradient = gradient, .cost = cost, .in_place = {{0, 0}}};
}

OpDef binary(std::string name, decltype(OpDef::infer) infer, void (*gradient)(GradContext&),
             decltype(OpDef::cost) cost) {
  return {.name = std::move(name),
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer,
          .gradient = gradient,
          .cost = cost,
          .in_place = {{0, 0}, {0, 1}}};
}

OpDef backward(std::string name, decltype(OpDef::cost) cost) {
  return binary(std::move(name), infer_backward, nullptr, cost);
}

}  // namespace trivet
