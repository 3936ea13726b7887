#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/products.h"
#include "trivet/kernels/attrs_matrix.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::Activation;
using kernels::LinearAttrs;
using kernels::LinearBackwardWeightsAttrs;
using kernels::MatmulAttrs;

void require_elements(const OpContext& context, int input, std::string_view name) {
  if (context.in(input).elements() == 0) context.fail(fmt::format("{} has no elements", name));
}

void check_matrices(const OpContext& context, int input, std::string_view name) {
  require_compute_type(context, input, name);
  if (context.in(input).rank() < 2) {
    context.fail(fmt::format("{} has rank {}, expected 2 or more", name, context.in(input).rank()),
                 "reshape a vector to one row or one column");
  }
  require_elements(context, input, name);
}

// Sizes of the matrix op(value): rows, columns.
std::pair<std::int64_t, std::int64_t> matrix_size(const TensorType& type, bool transpose) {
  return transpose ? std::pair(type.dim(-1), type.dim(-2)) : std::pair(type.dim(-2), type.dim(-1));
}

std::vector<TensorType> infer_matmul(const OpContext& context) {
  check_matrices(context, 0, "a");
  check_matrices(context, 1, "b");
  const DType dtype = context.in(0).dtype;
  if (context.in(1).dtype != dtype) {
    context.fail(
        fmt::format("a is {} and b is {}; they must be equal", dtype_name(dtype), dtype_name(context.in(1).dtype)),
        "use cast on one of them: nothing is converted silently");
  }
  const auto& attrs = context.attrs<MatmulAttrs>();
  const auto [rows, depth] = matrix_size(context.in(0), attrs.transpose_a);
  const auto [depth_of_b, columns] = matrix_size(context.in(1), attrs.transpose_b);
  if (depth != depth_of_b) {
    context.fail(fmt::format("a has {} columns and b has {} rows{}; they must be equal", depth, depth_of_b,
                             attrs.transpose_a || attrs.transpose_b ? " after transposing" : ""));
  }
  const Shape& a = context.in(0).shape;
  const Shape& b = context.in(1).shape;
  Shape shape = broadcast_shapes(context, Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  shape.push_back(rows);
  shape.push_back(columns);
  return {{dtype, std::move(shape)}};
}

Cost matmul_cost(const OpContext& context, std::span<const TensorType> out) {
  const std::int64_t depth = matrix_size(context.in(0), context.attrs<MatmulAttrs>().transpose_a).second;
  return {.flops = 2.0 * static_cast<double>(out[0].elements()) * static_cast<double>(depth), .matrix = true};
}

ValueId matmul(GradContext& context, ValueId a, ValueId b, bool transpose_a, bool transpose_b) {
  return context.apply("matmul", {a, b}, {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}});
}

// All rows of all matrices of `value` as one matrix (rows, columns).
ValueId as_matrix(GradContext& context, ValueId value) {
  const TensorType type = context.graph().type(value);
  if (type.rank() == 2) return value;
  return context.apply("reshape", {value}, {{"shape", Shape{type.elements() / type.dim(-1), type.dim(-1)}}});
}

// With c = op(a) op(b): d op(a) = dc op(b)^T and d op(b) = op(a)^T dc, transposed back and summed over broadcasts.
void matmul_gradient(GradContext& context) {
  const auto attrs = context.attrs<MatmulAttrs>();
  const ValueId a = context.in(0);
  const ValueId b = context.in(1);
  const ValueId dc = context.dout();
  if (context.needs(0)) {
    const ValueId da = attrs.transpose_a ? matmul(context, b, dc, attrs.transpose_b, true)
                                         : matmul(context, dc, b, false, !attrs.transpose_b);
    context.set(0, sum_to(context, da, context.in_type(0)));
  }
  if (context.needs(1)) {
    // One matrix b for a whole batch: the sum over the batch is part of one tall product.
    const bool tall = context.in_type(1).rank() == 2 && !attrs.transpose_a;
    const ValueId left = tall ? as_matrix(context, a) : a;
    const ValueId right = tall ? as_matrix(context, dc) : dc;
    const ValueId db = attrs.transpose_b ? matmul(context, right, left, true, attrs.transpose_a)
                                         : matmul(context, left, right, !attrs.transpose_a, false);
    context.set(1, sum_to(context, db, context.in_type(1)));
  }
}

// Checks w (N, K).
void check_weights(const OpContext& context, const TensorType& w) {
  if (w.rank() != 2) context.fail(fmt::format("w has rank {}, expected 2: (N, K)", w.rank()));
  require_elements(context, 1, "w");
}

std::vector<TensorType> infer_linear(const OpContext& context) {
  const TensorType& x = context.in(0);
  const TensorType& w = context.in(1);
  if (x.rank() < 1) context.fail("x is a scalar, expected (..., K)");
  require_elements(context, 0, "x");
  check_weights(context, w);
  if (x.dim(-1) != w.dim(1)) {
    context.fail(fmt::format("x has {} features, but w {} expects {}", x.dim(-1), to_string(w.shape), w.dim(1)),
                 "w is (outputs, inputs)");
  }
  check_weight_types(context, 0, 1, 2, w.dim(0));
  Shape shape = x.shape;
  shape.back() = w.dim(0);
  return {{x.dtype, std::move(shape)}};
}

std::vector<TensorType> infer_linear_backward_data(const OpContext& context) {
  const TensorType& dy = context.in(0);
  const TensorType& w = context.in(1);
  if (dy.rank() < 1) context.fail("dy is a scalar, expected (..., N)");
  require_elements(context, 0, "dy");
  check_weights(context, w);
  if (dy.dim(-1) != w.dim(0)) {
    context.fail(fmt::format("dy has {} columns, but w {} gives {}", dy.dim(-1), to_string(w.shape), w.dim(0)),
                 "w is (outputs, inputs)");
  }
  check_weight_types(context, 0, 1, -1, 0);
  Shape shape = dy.shape;
  shape.back() = w.dim(1);
  return {{dy.dtype, std::move(shape)}};
}

std::vector<TensorType> infer_linear_backward_weights(const OpContext& context) {
  const auto& attrs = context.attrs<LinearBackwardWeightsAttrs>();
  const TensorType& x = context.in(0);
  const TensorType& dy = context.in(1);
  require_compute_type(context, 0, "x");
  if (x.rank() < 1) context.fail("x is a scalar, expected (..., K)");
  require_elements(context, 0, "x");
  require_elements(context, 1, "dy");
  Shape expected = x.shape;
  if (dy.rank() == x.rank()) expected.back() = dy.dim(-1);
  require_type(context, 1, "dy", {x.dtype, expected});
  const DType dtype = gradient_dtype(attrs.dtype, x.dtype);
  std::vector<TensorType> out = {{dtype, {dy.dim(-1), x.dim(-1)}}};
  if (attrs.bias) out.push_back({dtype, {dy.dim(-1)}});
  return out;
}

Cost linear_cost(const OpContext& context, std::span<const TensorType> out) {
  return {.flops = 2.0 * static_cast<double>(out[0].elements()) * static_cast<double>(context.in(1).dim(1)),
          .matrix = true};
}

Cost linear_backward_data_cost(const OpContext& context, std::span<const TensorType> out) {
  return {.flops = 2.0 * static_cast<double>(out[0].elements()) * static_cast<double>(context.in(1).dim(0)),
          .matrix = true};
}

Cost linear_backward_weights_cost(const OpContext& context, std::span<const TensorType> out) {
  const double rows = static_cast<double>(context.in(0).elements()) / static_cast<double>(out[0].dim(1));
  return {.flops = 2.0 * rows * static_cast<double>(out[0].elements()), .matrix = true};
}

void linear_gradient(GradContext& context) {
  ValueId dy = context.dout();
  if (context.attrs<LinearAttrs>().activation == Activation::relu) {
    dy = context.apply("relu_backward", {dy, context.out()});
  }
  if (context.needs(0)) context.set(0, context.apply("linear_backward_data", {dy, context.in(1)}));
  const bool bias = context.has(2) && context.needs(2);
  if (context.needs(1)) {
    const std::vector<ValueId> out =
        context.apply_all("linear_backward_weights", {context.in(0), dy},
                          {{"dtype", gradient_type(context.in_type(1), context.in_type(0))}, {"bias", bias}});
    context.set(1, out[0]);
    if (bias) context.set(2, out[1]);
  } else if (bias) {
    context.set(2, bias_gradient(context, dy, context.in_type(2)));
  }
}

}  // namespace

std::vector<OpDef> matrix_ops() {
  return {
      // (a, b) -> op(a) op(b): a (..., M, K), b (..., K, N) after op, both f32 or both bf16; the axes before the last
      // two
      // broadcast as in NumPy. Sums are f32, rounded once if the result is bf16. ONNX MatMul; its Gemm is matmul or
      // linear with mul and add for alpha, beta and C.
      {.name = "matmul",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<MatmulAttrs>()
                    .flag("transpose_a", &MatmulAttrs::transpose_a, false)
                    .flag("transpose_b", &MatmulAttrs::transpose_b, false),
       .infer = infer_matmul,
       .gradient = matmul_gradient,
       .cost = matmul_cost},
      // (x (..., K), w (N, K), bias (N), optional) -> activation(x w^T + bias), (..., N) of x's dtype.
      {.name = "linear",
       .min_inputs = 2,
       .max_inputs = 3,
       .attrs = Attributes<LinearAttrs>().choice("activation", &LinearAttrs::activation, {"none", "relu"}),
       .infer = infer_linear,
       .gradient = linear_gradient,
       .cost = linear_cost},
      // (dy (..., N), w (N, K)) -> dx = dy w, (..., K) of dy's dtype.
      {.name = "linear_backward_data",
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_linear_backward_data,
       .cost = linear_backward_data_cost},
      // (x (..., K), dy (..., N)) -> dw (N, K), summed over all rows, and the gradient of the bias (N) if it is asked
      // for.
      {.name = "linear_backward_weights",
       .min_inputs = 2,
       .max_inputs = 2,
       .attrs = Attributes<LinearBackwardWeightsAttrs>()
                    .choice("dtype", &LinearBackwardWeightsAttrs::dtype, {"same", "f32"})
                    .flag("bias", &LinearBackwardWeightsAttrs::bias, false),
       .infer = infer_linear_backward_weights,
       .cost = linear_backward_weights_cost},
  };
}

}  // namespace trivet
