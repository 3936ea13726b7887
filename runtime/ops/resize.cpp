#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_resize.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::ResizeAttrs;
using kernels::ResizeBackwardAttrs;
using kernels::ResizeMode;

constexpr std::int64_t kLargest = std::int64_t{1} << 31;  // of a spatial dimension

// Sizes of the spatial dimensions after resizing `before`.
Shape resized(const OpContext& context, const ResizeAttrs& attrs, const Shape& before) {
  const bool by_size = attrs.sizes.n != 0;
  if (by_size == (attrs.scales.n != 0)) context.fail("expected either sizes or scales");
  const int given = by_size ? attrs.sizes.n : attrs.scales.n;
  if (static_cast<std::size_t>(given) != before.size()) {
    context.fail(
        fmt::format("there are {} {} for {} spatial dimensions", given, by_size ? "sizes" : "scales", before.size()),
        "x is (N, D.., C); the batch and the channels are not resized");
  }
  Shape after;
  for (std::size_t d = 0; d < before.size(); ++d) {
    if (before[d] < 1 || before[d] > kLargest) {
      context.fail(fmt::format("spatial dimension {} is {}, expected 1 to {}", d, before[d], kLargest));
    }
    if (!by_size && !(attrs.scales.v[d] > 0 && attrs.scales.v[d] <= static_cast<double>(kLargest))) {
      context.fail(fmt::format("scale {} is not supported, expected more than 0", attrs.scales.v[d]));
    }
    const double size = by_size ? static_cast<double>(attrs.sizes.v[d])
                                : std::floor(static_cast<double>(before[d]) * attrs.scales.v[d]);
    if (!(size >= 1 && size <= static_cast<double>(kLargest))) {
      context.fail(fmt::format("spatial dimension {} would have size {}, expected 1 to {}", d, size, kLargest));
    }
    after.push_back(static_cast<std::int64_t>(size));
  }
  return after;
}

void require_image(const OpContext& context, std::string_view name) {
  const int rank = context.in(0).rank();
  if (rank < 3 || rank > 5) context.fail(fmt::format("{} has rank {}, expected 3 to 5: (N, D.., C)", name, rank));
}

void require_float(const OpContext& context, std::string_view name) {
  const DType type = context.in(0).dtype;
  if (is_compute_type(type)) return;
  context.fail(fmt::format("{} is {}, expected f32, bf16 or f16", name, dtype_name(type)),
               "mode nearest takes every dtype");
}

Shape with_spatial(const TensorType& type, const Shape& spatial) {
  Shape shape = type.shape;
  std::copy(spatial.begin(), spatial.end(), shape.begin() + 1);
  return shape;
}

Shape spatial_of(const TensorType& type) { return Shape(type.shape.begin() + 1, type.shape.end() - 1); }

std::vector<TensorType> infer_resize(const OpContext& context) {
  const auto& attrs = context.attrs<ResizeAttrs>();
  require_image(context, "x");
  if (attrs.mode != ResizeMode::nearest) require_float(context, "x");
  const TensorType& x = context.in(0);
  return {{x.dtype, with_spatial(x, resized(context, attrs, spatial_of(x)))}};
}

std::vector<TensorType> infer_resize_backward(const OpContext& context) {
  const auto& attrs = context.attrs<ResizeBackwardAttrs>();
  require_image(context, "dy");
  require_float(context, "dy");
  const TensorType& dy = context.in(0);
  const Shape before = size_list(context, attrs.input_sizes);
  require_type(
      context, 0, "dy",
      {dy.dtype, before.size() + 2 == dy.shape.size() ? with_spatial(dy, resized(context, attrs, before)) : before});
  return {{dy.dtype, with_spatial(dy, before)}};
}

void gradient_resize(GradContext& g) {
  Attrs attrs = g.attrs_list();
  attrs.emplace_back("input_sizes", spatial_of(g.in_type(0)));
  g.set(0, g.apply("resize_backward", {g.dout()}, std::move(attrs)));
}

// The kernels work along one axis after the other.
Cost cost_resize(const OpContext& context, std::span<const TensorType> out) {
  const ResizeMode mode = context.attrs<ResizeAttrs>().mode;
  const double taps = mode == ResizeMode::nearest ? 0 : mode == ResizeMode::linear ? 2 : 4;
  const auto elements = static_cast<double>(std::max(context.in(0).elements(), out[0].elements()));
  return {.flops = 2 * taps * elements * (context.in(0).rank() - 2)};
}

template <class S>
Attributes<S> resize_attributes() {
  return Attributes<S>()
      .integers("sizes", &S::sizes, {})
      .numbers("scales", &S::scales, {})
      .template choice<ResizeMode>("mode", &S::mode, {"nearest", "linear", "cubic"})
      .template choice<kernels::ResizeCoordinates>("coordinate_transformation_mode", &S::coordinates,
                                                   {"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"})
      .template choice<kernels::ResizeNearest>("nearest_mode", &S::nearest_mode,
                                               {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})
      .number("cubic_coeff_a", &S::cubic_coeff_a, -0.75)
      .flag("exclude_outside", &S::exclude_outside, false);
}

}  // namespace

std::vector<OpDef> resize_ops() {
  return {
      // x (N, D.., C) with one to three spatial dimensions, as ONNX Resize.
      {.name = "resize",
       .attrs = resize_attributes<ResizeAttrs>(),
       .infer = infer_resize,
       .gradient = gradient_resize,
       .cost = cost_resize},
      {.name = "resize_backward",
       .attrs = resize_attributes<ResizeBackwardAttrs>().integers("input_sizes", &ResizeBackwardAttrs::input_sizes, {},
                                                                  true),
       .infer = infer_resize_backward,
       .cost = cost_resize},
  };
}

}  // namespace trivet
