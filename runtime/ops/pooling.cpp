#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_pooling.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::AveragePoolAttrs;
using kernels::AveragePoolBackwardAttrs;
using kernels::IntList;
using kernels::MaxPoolAttrs;
using kernels::PoolWindow;

// A larger window, stride or pad than any image has; keeps the sums below far from overflow.
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;

void check_list(const OpContext& context, std::string_view name, const IntList& list, int size, std::int64_t least) {
  if (list.n != size) context.fail(fmt::format("attribute '{}' has {} entries, expected {}", name, list.n, size));
  for (int i = 0; i < size; ++i) {
    if (list.v[i] < least || list.v[i] > kMaxExtent) {
      context.fail(fmt::format("attribute '{}' has {}, expected {} to {}", name, list.v[i], least, kMaxExtent));
    }
  }
}

// The shape (N, OH, OW, C) of pooling an image of shape (N, H, W, C).
Shape pooled_shape(const OpContext& context, const PoolWindow& window, const Shape& image) {
  if (image.size() != 4) {
    context.fail(fmt::format("the image has rank {}, expected 4: (N, H, W, C)", image.size()));
  }
  check_list(context, "kernel", window.kernel, 2, 1);
  if (window.strides.n != 0) check_list(context, "strides", window.strides, 2, 1);
  check_list(context, "pads", window.pads, 4, 0);
  Shape out = image;
  for (int i = 0; i < 2; ++i) {
    const std::int64_t kernel = window.kernel.v[i];
    const std::int64_t stride = window.strides.n == 0 ? kernel : window.strides.v[i];
    const std::int64_t before = window.pads.v[i];
    const std::int64_t after = window.pads.v[i + 2];
    if (before >= kernel || after >= kernel) {
      context.fail(fmt::format("pads {} and {} do not fit a kernel of {}", before, after, kernel),
                   "each pad must be smaller than the kernel, or a window could hold no element");
    }
    const std::int64_t extent = image[static_cast<std::size_t>(i) + 1];
    if (extent + before + after < kernel) {
      context.fail(fmt::format("a kernel of {} is larger than the image of {} with pads {} and {}", kernel, extent,
                               before, after));
    }
    context.require(extent > 0, "the image has no elements");
    out[static_cast<std::size_t>(i) + 1] = (extent + before + after - kernel) / stride + 1;
  }
  return out;
}

template <class Attributes>
std::vector<TensorType> infer_forward(const OpContext& context) {
  require_f32(context, 0, "x");
  return {{DType::f32, pooled_shape(context, context.attrs<Attributes>(), context.in(0).shape)}};
}

std::vector<TensorType> infer_max_backward(const OpContext& context) {
  require_f32(context, 1, "x");
  const TensorType y{DType::f32, pooled_shape(context, context.attrs<MaxPoolAttrs>(), context.in(1).shape)};
  require_type(context, 0, "dy", y);
  require_type(context, 2, "y", y);
  return {context.in(1)};
}

std::vector<TensorType> infer_average_backward(const OpContext& context) {
  const auto& attrs = context.attrs<AveragePoolBackwardAttrs>();
  const Shape image(attrs.input_shape.v, attrs.input_shape.v + attrs.input_shape.n);
  for (const std::int64_t d : image) {
    if (d < 0) context.fail(fmt::format("attribute 'input_shape' is {}", to_string(image)));
  }
  require_type(context, 0, "dy", {DType::f32, pooled_shape(context, attrs, image)});
  return {{DType::f32, image}};
}

// One comparison or addition for each element of each window; `pooled` is the smaller image.
Cost window_cost(const PoolWindow& window, const TensorType& pooled) {
  return {.flops = static_cast<double>(pooled.elements()) * static_cast<double>(window.kernel.v[0]) *
                   static_cast<double>(window.kernel.v[1])};
}

template <class A>
Cost forward_cost(const OpContext& context, std::span<const TensorType> out) {
  return window_cost(context.attrs<A>(), out[0]);
}

template <class A>
Cost backward_cost(const OpContext& context, std::span<const TensorType>) {
  return window_cost(context.attrs<A>(), context.in(0));
}

void max_gradient(GradContext& context) {
  context.set(0,
              context.apply("max_pool_backward", {context.dout(), context.in(0), context.out()}, context.attrs_list()));
}

void average_gradient(GradContext& context) {
  Attrs attrs = context.attrs_list();
  attrs.emplace_back("input_shape", context.in_type(0).shape);
  context.set(0, context.apply("average_pool_backward", {context.dout()}, attrs));
}

template <class A>
Attributes<A> window_attributes() {
  return Attributes<A>()
      .integers("kernel", &A::kernel, {}, true)
      .integers("strides", &A::strides, {})
      .integers("pads", &A::pads, {0, 0, 0, 0});
}

template <class A>
Attributes<A> average_attributes() {
  return window_attributes<A>().flag("count_include_pad", &A::count_include_pad, true);
}

}  // namespace

std::vector<OpDef> pooling_ops() {
  return {
      // Largest element of each window; NaN if the window holds one.
      {.name = "max_pool",
       .attrs = window_attributes<MaxPoolAttrs>(),
       .infer = infer_forward<MaxPoolAttrs>,
       .gradient = max_gradient,
       .cost = forward_cost<MaxPoolAttrs>},
      // (dy, x, y) -> dx. Each window's gradient goes to its first element, row by row, that equals y or is NaN.
      {.name = "max_pool_backward",
       .min_inputs = 3,
       .max_inputs = 3,
       .attrs = window_attributes<MaxPoolAttrs>(),
       .infer = infer_max_backward,
       .cost = backward_cost<MaxPoolAttrs>},
      {.name = "average_pool",
       .attrs = average_attributes<AveragePoolAttrs>(),
       .infer = infer_forward<AveragePoolAttrs>,
       .gradient = average_gradient,
       .cost = forward_cost<AveragePoolAttrs>},
      {.name = "average_pool_backward",
       .attrs = average_attributes<AveragePoolBackwardAttrs>().integers(
           "input_shape", &AveragePoolBackwardAttrs::input_shape, {}, true),
       .infer = infer_average_backward,
       .cost = backward_cost<AveragePoolBackwardAttrs>},
  };
}

}  // namespace trivet
