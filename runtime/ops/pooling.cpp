#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_pooling.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::AdaptivePoolAttrs;
using kernels::AdaptivePoolBackwardAttrs;
using kernels::AveragePoolAttrs;
using kernels::AveragePoolBackwardAttrs;
using kernels::IntList;
using kernels::MaxPoolAttrs;
using kernels::PoolWindow;

// Larger than any image's; keeps the sums below far from overflow.
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;
constexpr std::int64_t kMaxPad = std::int64_t{1} << 20;

void check_list(const OpContext& context, std::string_view name, const IntList& list, int size, std::int64_t least,
                std::int64_t most) {
  if (list.n != size) context.fail(fmt::format("attribute '{}' has {} entries, expected {}", name, list.n, size));
  for (int i = 0; i < size; ++i) {
    if (list.v[i] < least || list.v[i] > most) {
      context.fail(fmt::format("attribute '{}' has {}, expected {} to {}", name, list.v[i], least, most));
    }
  }
}

// The number of spatial axes of an image (N, spatial axes .., C).
int spatial_axes(const OpContext& context, const Shape& image) {
  const int rank = static_cast<int>(image.size());
  if (rank < 3 || rank > 5) {
    context.fail(fmt::format("the image has rank {}, expected 3 to 5: (N, one to three spatial axes, C)", rank));
  }
  for (int i = 1; i <= rank - 2; ++i) {
    context.require(image[static_cast<std::size_t>(i)] > 0, "the image has no elements");
  }
  return rank - 2;
}

// The windows along one axis.
struct Windows {
  std::int64_t extent, kernel, stride, before, after, dilation;

  std::int64_t reach() const { return (kernel - 1) * dilation + 1; }
  std::int64_t count(bool ceil_mode) const {
    const std::int64_t room = extent + before + after - reach();
    const std::int64_t last = (room + (ceil_mode ? stride - 1 : 0)) / stride;
    return last * stride >= extent + before ? last : last + 1;
  }
  // A window holds an element if its first place behind the pad does.
  bool holds_element(std::int64_t window) const {
    const std::int64_t start = window * stride - before;
    const std::int64_t skipped = start < 0 ? (-start + dilation - 1) / dilation : 0;
    return skipped < kernel && start + skipped * dilation < extent;
  }
  // Only windows that leave the image can be empty.
  bool all_hold_elements(std::int64_t windows) const {
    for (std::int64_t i = 0; i < windows && i * stride < before; ++i) {
      if (!holds_element(i)) return false;
    }
    for (std::int64_t i = windows - 1; i >= 0 && i * stride - before + reach() > extent; --i) {
      if (!holds_element(i)) return false;
    }
    return true;
  }
};

std::int64_t entry(const IntList& list, int i, std::int64_t fallback) { return list.n == 0 ? fallback : list.v[i]; }

// The shape of pooling an image of shape (N, spatial axes .., C).
Shape pooled_shape(const OpContext& context, const PoolWindow& window, const Shape& image) {
  const int axes = spatial_axes(context, image);
  check_list(context, "kernel", window.kernel, axes, 1, kMaxExtent);
  if (window.strides.n != 0) check_list(context, "strides", window.strides, axes, 1, kMaxExtent);
  if (window.pads.n != 0) check_list(context, "pads", window.pads, 2 * axes, 0, kMaxPad);
  if (window.dilations.n != 0) check_list(context, "dilations", window.dilations, axes, 1, kMaxExtent);
  Shape out = image;
  for (int i = 0; i < axes; ++i) {
    const std::int64_t kernel = window.kernel.v[i];
    const Windows along = {.extent = image[static_cast<std::size_t>(i) + 1],
                           .kernel = kernel,
                           .stride = entry(window.strides, i, kernel),
                           .before = entry(window.pads, i, 0),
                           .after = entry(window.pads, i + axes, 0),
                           .dilation = entry(window.dilations, i, 1)};
    if (along.extent + along.before + along.after < along.reach()) {
      context.fail(fmt::format("a kernel of {} with dilation {} is larger than the image of {} with pads {} and {}",
                               kernel, along.dilation, along.extent, along.before, along.after));
    }
    const std::int64_t windows = along.count(window.ceil_mode);
    if (!along.all_hold_elements(windows)) {
      context.fail(fmt::format("pads {} and {} do not fit a kernel of {} with dilation {} on {} elements", along.before,
                               along.after, kernel, along.dilation, along.extent),
                   "each window must hold an element of the image, so pads must be smaller than the kernel");
    }
    out[static_cast<std::size_t>(i) + 1] = windows;
  }
  return out;
}

// The shape of an adaptive pool with these output sizes.
Shape adaptive_shape(const OpContext& context, const IntList& sizes, const Shape& image) {
  const int axes = spatial_axes(context, image);
  check_list(context, "output_size", sizes, axes, 1, kMaxExtent);
  Shape out = image;
  for (int i = 0; i < axes; ++i) out[static_cast<std::size_t>(i) + 1] = sizes.v[i];
  return out;
}

Shape global_shape(const OpContext& context, const Shape& image) {
  Shape out = image;
  for (int i = 0; i < spatial_axes(context, image); ++i) out[static_cast<std::size_t>(i) + 1] = 1;
  return out;
}

Shape listed_shape(const OpContext& context, const IntList& list) {
  const Shape image(list.v, list.v + list.n);
  for (const std::int64_t d : image) {
    if (d < 0) context.fail(fmt::format("attribute 'input_shape' is {}", to_string(image)));
  }
  element_count(image);
  return image;
}

// x: f32, bf16, f16, u8 or i8; y has the same.
std::vector<TensorType> infer_max(const OpContext& context) {
  const TensorType& x = context.in(0);
  if (!is_compute_type(x.dtype) && x.dtype != DType::u8 && x.dtype != DType::i8) {
    context.fail(fmt::format("x is {}, expected f32, bf16, f16, u8 or i8", dtype_name(x.dtype)));
  }
  return {{x.dtype, pooled_shape(context, context.attrs<MaxPoolAttrs>(), x.shape)}};
}

// x: f32 or bf16; y has the same.
std::vector<TensorType> infer_average(const OpContext& context) {
  require_compute_type(context, 0, "x");
  const TensorType& x = context.in(0);
  return {{x.dtype, pooled_shape(context, context.attrs<AveragePoolAttrs>(), x.shape)}};
}

std::vector<TensorType> infer_adaptive(const OpContext& context) {
  require_compute_type(context, 0, "x");
  const TensorType& x = context.in(0);
  return {{x.dtype, adaptive_shape(context, context.attrs<AdaptivePoolAttrs>().output_size, x.shape)}};
}

std::vector<TensorType> infer_global(const OpContext& context) {
  require_compute_type(context, 0, "x");
  return {{context.in(0).dtype, global_shape(context, context.in(0).shape)}};
}

// dy, x, y: f32 or bf16, the same.
std::vector<TensorType> infer_max_backward(const OpContext& context) {
  require_compute_type(context, 1, "x");
  const TensorType& x = context.in(1);
  const TensorType y{x.dtype, pooled_shape(context, context.attrs<MaxPoolAttrs>(), x.shape)};
  require_type(context, 0, "dy", y);
  require_type(context, 2, "y", y);
  return {x};
}

std::vector<TensorType> infer_average_backward(const OpContext& context) {
  const auto& attrs = context.attrs<AveragePoolBackwardAttrs>();
  const Shape image = listed_shape(context, attrs.input_shape);
  require_compute_type(context, 0, "dy");
  const DType dtype = context.in(0).dtype;
  require_type(context, 0, "dy", {dtype, pooled_shape(context, attrs, image)});
  return {{dtype, image}};
}

// Whether `pooled` may be an adaptive pool of `image`: any sizes of the spatial axes.
void check_adaptive(const OpContext& context, const Shape& pooled, const Shape& image) {
  spatial_axes(context, image);
  const bool fits = pooled.size() == image.size() && pooled.front() == image.front() && pooled.back() == image.back();
  if (!fits || std::any_of(pooled.begin() + 1, pooled.end() - 1, [](std::int64_t d) { return d < 1; })) {
    context.fail(fmt::format("dy has shape {}, which is no pool of an image {}", to_string(pooled), to_string(image)));
  }
}

std::vector<TensorType> infer_adaptive_max_backward(const OpContext& context) {
  require_compute_type(context, 1, "x");
  const TensorType& x = context.in(1);
  check_adaptive(context, context.in(0).shape, x.shape);
  require_type(context, 0, "dy", {x.dtype, context.in(0).shape});
  require_type(context, 2, "y", context.in(0));
  return {x};
}

std::vector<TensorType> infer_adaptive_average_backward(const OpContext& context) {
  require_compute_type(context, 0, "dy");
  const Shape image = listed_shape(context, context.attrs<AdaptivePoolBackwardAttrs>().input_shape);
  check_adaptive(context, context.in(0).shape, image);
  return {{context.in(0).dtype, image}};
}

// One comparison or addition for each element of each window; `pooled` is the smaller image.
Cost window_cost(const PoolWindow& window, const TensorType& pooled) {
  double flops = static_cast<double>(pooled.elements());
  for (int i = 0; i < window.kernel.n; ++i) flops *= static_cast<double>(window.kernel.v[i]);
  return {.flops = flops};
}

template <class A>
Cost forward_cost(const OpContext& context, std::span<const TensorType> out) {
  return window_cost(context.attrs<A>(), out[0]);
}

template <class A>
Cost backward_cost(const OpContext& context, std::span<const TensorType>) {
  return window_cost(context.attrs<A>(), context.in(0));
}

// Adaptive windows overlap by less than one element on each side, which is not counted.
Cost adaptive_cost(const OpContext& context, std::span<const TensorType> out) {
  return {.flops = static_cast<double>(std::max(context.in(0).elements(), out[0].elements()))};
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

void adaptive_max_gradient(GradContext& context) {
  context.set(0, context.apply("adaptive_max_pool_backward", {context.dout(), context.in(0), context.out()}));
}

void adaptive_average_gradient(GradContext& context) {
  context.set(0, context.apply("adaptive_average_pool_backward", {context.dout()},
                               {{"input_shape", context.in_type(0).shape}}));
}

template <class A>
Attributes<A> window_attributes() {
  return Attributes<A>()
      .integers("kernel", &A::kernel, {}, true)
      .integers("strides", &A::strides, {})
      .integers("pads", &A::pads, {})
      .integers("dilations", &A::dilations, {})
      .flag("ceil_mode", &A::ceil_mode, false);
}

template <class A>
Attributes<A> average_attributes() {
  return window_attributes<A>().flag("count_include_pad", &A::count_include_pad, true);
}

AttrSchema adaptive_attributes() {
  return Attributes<AdaptivePoolAttrs>().integers("output_size", &AdaptivePoolAttrs::output_size, {}, true);
}

std::vector<OpDef> window_ops() {
  return {
      // Largest element of each window; NaN if the window holds one.
      {.name = "max_pool",
       .attrs = window_attributes<MaxPoolAttrs>(),
       .infer = infer_max,
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
       .infer = infer_average,
       .gradient = average_gradient,
       .cost = forward_cost<AveragePoolAttrs>},
      {.name = "average_pool_backward",
       .attrs = average_attributes<AveragePoolBackwardAttrs>().integers(
           "input_shape", &AveragePoolBackwardAttrs::input_shape, {}, true),
       .infer = infer_average_backward,
       .cost = backward_cost<AveragePoolBackwardAttrs>},
  };
}

// Windows that follow from the sizes of the image and the result; a global pool has one for each channel.
std::vector<OpDef> adaptive_ops() {
  return {
      {.name = "adaptive_max_pool",
       .attrs = adaptive_attributes(),
       .infer = infer_adaptive,
       .gradient = adaptive_max_gradient,
       .cost = adaptive_cost},
      // (dy, x, y) -> dx, like max_pool_backward.
      {.name = "adaptive_max_pool_backward",
       .min_inputs = 3,
       .max_inputs = 3,
       .infer = infer_adaptive_max_backward,
       .cost = adaptive_cost},
      {.name = "adaptive_average_pool",
       .attrs = adaptive_attributes(),
       .infer = infer_adaptive,
       .gradient = adaptive_average_gradient,
       .cost = adaptive_cost},
      {.name = "adaptive_average_pool_backward",
       .attrs = Attributes<AdaptivePoolBackwardAttrs>().integers("input_shape", &AdaptivePoolBackwardAttrs::input_shape,
                                                                 {}, true),
       .infer = infer_adaptive_average_backward,
       .cost = adaptive_cost},
      {.name = "global_max_pool", .infer = infer_global, .gradient = adaptive_max_gradient, .cost = adaptive_cost},
      {.name = "global_average_pool",
       .infer = infer_global,
       .gradient = adaptive_average_gradient,
       .cost = adaptive_cost},
  };
}

}  // namespace

std::vector<OpDef> pooling_ops() {
  std::vector<OpDef> ops = window_ops();
  for (OpDef& op : adaptive_ops()) ops.push_back(std::move(op));
  return ops;
}

}  // namespace trivet
