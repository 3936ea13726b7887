#include "trivet/ops/muon.h"

#include <fmt/format.h>

#include <cmath>

#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

ValueId scaled(Graph& graph, ValueId x, double factor) { return apply(graph, "affine", {x}, {{"scale", factor}}); }

ValueId product(Graph& graph, ValueId a, ValueId b, bool transpose_a, bool transpose_b) {
  return apply(graph, "matmul", {a, b}, {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}});
}

// Divided by its Frobenius norm, so that no singular value passes 1; the shift keeps a zero matrix zero.
ValueId normalized(Graph& graph, ValueId matrix) {
  const ValueId square = apply(graph, "squared_norm", {matrix});
  const ValueId shifted = apply(graph, "affine", {square}, {{"shift", 1e-14}});
  return apply(graph, "mul", {matrix, apply(graph, "rsqrt", {shifted})});
}

}  // namespace

ValueId orthogonalize(Graph& graph, ValueId matrix, int iterations) {
  const TensorType type = graph.type(matrix);
  if (type.dtype != DType::f32 || type.rank() != 2 || type.elements() == 0) {
    throw Error(ErrorCode::graph,
                fmt::format("orthogonalize: the value is {}, expected an f32 matrix with elements", to_string(type)),
                "reshape weights of a higher rank to (first axis, all others)");
  }
  // The product of the matrix with itself is taken over its longer side.
  const bool tall = type.dim(0) > type.dim(1);
  ValueId x = normalized(graph, matrix);
  for (int i = 0; i < iterations; ++i) {
    const ValueId a = product(graph, x, x, tall, !tall);
    const ValueId b =
        apply(graph, "add", {scaled(graph, a, -4.7750), scaled(graph, product(graph, a, a, false, false), 2.0315)});
    const ValueId turned = tall ? product(graph, x, b, false, false) : product(graph, b, x, false, false);
    x = apply(graph, "add", {scaled(graph, x, 3.4445), turned});
  }
  return x;
}

MuonDirection muon_direction(Graph& graph, ValueId gradient, ValueId buffer, ValueId scale,
                             const MuonOptions& options) {
  const TensorType type = graph.type(buffer);
  if (scale != kNoValue) gradient = apply(graph, "mul", {gradient, scale});
  const Attrs momentum = {{"decay", options.momentum}};
  const ValueId next = apply(graph, "average_step", {buffer, gradient}, momentum);
  ValueId update = options.nesterov ? apply(graph, "average_step", {next, gradient}, momentum) : next;
  const std::int64_t rows = type.dim(0);
  const std::int64_t columns = type.elements() / rows;
  if (type.rank() > 2) update = apply(graph, "reshape", {update}, {{"shape", Shape{rows, columns}}});
  update = orthogonalize(graph, update);
  if (type.rank() > 2) update = apply(graph, "reshape", {update}, {{"shape", type.shape}});
  const double ratio = static_cast<double>(rows) / static_cast<double>(columns);
  return {scaled(graph, update, std::sqrt(std::max(1.0, ratio))), next};
}

MuonStep muon_step(Graph& graph, ValueId param, ValueId gradient, ValueId buffer, ValueId lr, ValueId scale,
                   const MuonOptions& options) {
  const TensorType type = graph.type(param);
  if (type.rank() < 2 || type.elements() == 0) {
    throw Error(ErrorCode::graph,
                fmt::format("muon: parameter '{}' is {}, expected rank 2 or more and some elements",
                            graph.value(param).name, to_string(type)),
                "use adamw_step for vectors");
  }
  const MuonDirection to = muon_direction(graph, gradient, buffer, scale, options);
  ValueId update = to.direction;
  if (options.weight_decay != 0) {
    update = apply(graph, "add", {update, scaled(graph, param, options.weight_decay)});
  }
  return {apply(graph, "sub", {param, apply(graph, "mul", {update, lr})}), to.buffer};
}

}  // namespace trivet
