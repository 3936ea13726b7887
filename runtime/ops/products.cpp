#include "runtime/ops/products.h"

#include <fmt/format.h>

#include <array>
#include <numeric>

#include "runtime/ops/checks.h"

namespace trivet {
namespace {

using kernels::ConvWindow;
using kernels::IntList;

// A larger stride, pad or dilation than any image has; keeps the sums below far from overflow.
constexpr std::int64_t kMaxStep = std::int64_t{1} << 20;

void check_list(const OpContext& context, std::string_view name, const IntList& list, int size, std::int64_t least) {
  if (list.n != size && list.n != 0) {
    context.fail(fmt::format("attribute '{}' has {} entries, expected {}", name, list.n, size));
  }
  for (int i = 0; i < list.n; ++i) {
    if (list.v[i] < least || list.v[i] > kMaxStep) {
      context.fail(fmt::format("attribute '{}' has {}, expected {} to {}", name, list.v[i], least, kMaxStep));
    }
  }
}

void check_tensor(const OpContext& context, std::string_view name, const Shape& shape, std::size_t rank) {
  if (shape.size() != rank) context.fail(fmt::format("{} has rank {}, expected {}", name, shape.size(), rank));
  for (const std::int64_t size : shape) {
    if (size < 1) context.fail(fmt::format("{} {} has no elements", name, to_string(shape)));
  }
}

// The channels of the input x, of the weights w and the groups fit together.
void check_channels(const OpContext& context, const ConvWindow& window, const Shape& x, const Shape& w) {
  if (window.groups < 1 || x.back() % window.groups != 0 || w[0] % window.groups != 0) {
    context.fail(fmt::format("groups is {}, but x has {} channels and w has {} outputs", window.groups, x.back(), w[0]),
                 "groups must divide both");
  }
  if (w.back() != x.back() / window.groups) {
    Shape expected = w;
    expected.back() = x.back() / window.groups;
    context.fail(fmt::format("x has {} channels in {} group(s), so w should be {}, not {}", x.back(), window.groups,
                             to_string(expected), to_string(w)),
                 "w is (outputs, kernel sizes, channels / groups)");
  }
}

}  // namespace

void check_weight_types(const OpContext& context, int x, int w, int bias, std::int64_t channels) {
  require_compute_type(context, x, "x");
  const DType type = context.in(w).dtype;
  if (type != context.in(x).dtype && type != DType::f32) {
    context.fail(fmt::format("w is {}, expected {}", dtype_name(type), dtype_name(context.in(x).dtype)),
                 "weights have the dtype of x, or are f32");
  }
  if (bias >= 0 && context.has(bias)) require_type(context, bias, "bias", {type, {channels}});
}

DType gradient_dtype(kernels::GradientType type, DType activations) {
  return type == kernels::GradientType::f32 ? DType::f32 : activations;
}

AttrValue gradient_type(const TensorType& w, const TensorType& x) {
  return std::string(w.dtype == x.dtype ? "same" : "f32");
}

ValueId bias_gradient(GradContext& context, ValueId dy, const TensorType& bias) {
  if (context.graph().type(dy).dtype != bias.dtype) {
    dy = context.apply("cast", {dy}, {{"to", std::string(dtype_name(bias.dtype))}});
  }
  Shape axes(static_cast<std::size_t>(context.graph().type(dy).rank() - 1));
  std::iota(axes.begin(), axes.end(), 0);
  if (axes.empty()) return dy;
  return context.apply("reduce_sum", {dy}, {{"axes", axes}, {"keepdims", false}});
}

Shape convolved_shape(const OpContext& context, const ConvWindow& window, const Shape& x, const Shape& w) {
  const std::size_t rank = x.size();
  const std::size_t axes = rank - 2;
  check_tensor(context, "x", x, rank);
  check_tensor(context, "w", w, rank);
  const auto size = static_cast<int>(axes);
  check_list(context, "strides", window.strides, size, 1);
  check_list(context, "pads", window.pads, 2 * size, 0);
  check_list(context, "dilations", window.dilations, size, 1);
  check_channels(context, window, x, w);
  constexpr std::array<std::string_view, 3> kNames = {"planes", "rows", "columns"};
  Shape y(rank);
  y.front() = x.front();
  y.back() = w.front();
  for (int i = 0; i < size; ++i) {
    const auto axis = static_cast<std::size_t>(i) + 1;
    const std::int64_t padded = x[axis] + window.pad_before(i) + window.pad_after(i);
    const std::int64_t reach = (w[axis] - 1) * window.dilation(i) + 1;
    if (reach > padded) {
      context.fail(fmt::format("the kernel covers {} {}, but the input has {} with its pads", reach,
                               kNames[kNames.size() - axes + static_cast<std::size_t>(i)], padded),
                   "add pads, or use a smaller kernel or dilation");
    }
    y[axis] = (padded - reach) / window.stride(i) + 1;
  }
  return y;
}

Cost convolution_cost(const TensorType& y, const Shape& w) {
  double products = 1;
  for (std::size_t i = 1; i < w.size(); ++i) products *= static_cast<double>(w[i]);
  return {.flops = 2.0 * static_cast<double>(y.elements()) * products, .matrix = true};
}

}  // namespace trivet
