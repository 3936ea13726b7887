#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "runtime/ops/lists.h"
#include "trivet/kernels/attrs_padding.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using kernels::PadAttrs;
using kernels::PadMode;
using kernels::TileAttrs;

constexpr std::int64_t kMostPad = std::int64_t{1} << 40;  // keeps sums far from overflow

struct AxisPad {
  int axis;
  std::int64_t before;
  std::int64_t after;
};

std::vector<AxisPad> axis_pads(const OpContext& context, const PadAttrs& attrs) {
  if (attrs.pads.n % 2 != 0) {
    context.fail(fmt::format("pads has {} entries, expected two for each axis", attrs.pads.n),
                 "all pads before, then all pads after, as in ONNX");
  }
  const int count = attrs.pads.n / 2;
  const std::vector<int> axes = listed_axes(context, attrs.axes, count, context.in(0).rank());
  std::vector<AxisPad> pads;
  for (int i = 0; i < count; ++i) {
    const AxisPad pad{axes[static_cast<std::size_t>(i)], attrs.pads.v[i], attrs.pads.v[count + i]};
    if (pad.before < 0 || pad.after < 0 || pad.before > kMostPad || pad.after > kMostPad) {
      context.fail(fmt::format("pads {} and {} of axis {} are not supported, expected 0 to {}", pad.before, pad.after,
                               pad.axis, kMostPad),
                   "use slice to cut elements off");
    }
    pads.push_back(pad);
  }
  return pads;
}

// `size` is the dimension before padding.
void require_enough(const OpContext& context, PadMode mode, const AxisPad& pad, std::int64_t size) {
  if (mode == PadMode::constant || pad.before + pad.after == 0) return;
  if (size < 1) context.fail(fmt::format("dimension {} has size 0: there is nothing to repeat", pad.axis));
  if (mode == PadMode::reflect && std::max(pad.before, pad.after) >= size) {
    context.fail(fmt::format("pads {} and {} of axis {} do not fit its size {}", pad.before, pad.after, pad.axis, size),
                 "mode reflect has at most size - 1 elements to repeat at each end");
  }
}

std::vector<TensorType> infer_pad(const OpContext& context) {
  const auto& attrs = context.attrs<PadAttrs>();
  TensorType y = context.in(0);
  if (attrs.mode == PadMode::constant) require_representable(context, attrs.value, y.dtype);
  for (const AxisPad& pad : axis_pads(context, attrs)) {
    std::int64_t& size = y.shape[static_cast<std::size_t>(pad.axis)];
    require_enough(context, attrs.mode, pad, size);
    size += pad.before + pad.after;
  }
  return {y};
}

std::vector<TensorType> infer_pad_backward(const OpContext& context) {
  const auto& attrs = context.attrs<PadAttrs>();
  require_compute_type(context, 0, "dy");
  TensorType dx = context.in(0);
  for (const AxisPad& pad : axis_pads(context, attrs)) {
    std::int64_t& size = dx.shape[static_cast<std::size_t>(pad.axis)];
    if (size < pad.before + pad.after) {
      context.fail(
          fmt::format("pads {} and {} of axis {} are more than its size {}", pad.before, pad.after, pad.axis, size));
    }
    size -= pad.before + pad.after;
    require_enough(context, attrs.mode, pad, size);
  }
  return {dx};
}

void gradient_pad(GradContext& g) {
  const auto& attrs = g.attrs<PadAttrs>();
  if (attrs.mode != PadMode::constant) {
    g.set(0, g.apply("pad_backward", {g.dout()}, g.attrs_list()));
    return;
  }
  std::vector<std::int64_t> starts, ends, axes;
  for (int i = 0; i < attrs.pads.n / 2; ++i) {
    const std::int64_t axis = attrs.axes.n == 0 ? i : attrs.axes.v[i];
    starts.push_back(attrs.pads.v[i]);
    ends.push_back(attrs.pads.v[i] + g.in_type(0).dim(static_cast<int>(axis)));
    axes.push_back(axis);
  }
  g.set(0, g.apply("slice", {g.dout()}, {{"starts", starts}, {"ends", ends}, {"axes", axes}}));
}

std::vector<TensorType> infer_tile(const OpContext& context) {
  const kernels::IntList& repeats = context.attrs<TileAttrs>().repeats;
  TensorType y = context.in(0);
  if (repeats.n != y.rank()) {
    context.fail(fmt::format("there are {} repeats for rank {}", repeats.n, y.rank()));
  }
  for (int d = 0; d < repeats.n; ++d) {
    if (repeats.v[d] < 1 || repeats.v[d] > kMostPad) {
      context.fail(
          fmt::format("repeat {} of dimension {} is not supported, expected 1 to {}", repeats.v[d], d, kMostPad));
    }
    std::int64_t& size = y.shape[static_cast<std::size_t>(d)];
    if (size > kMostPad) context.fail(fmt::format("dimension {} is too large to repeat", d));
    if (__builtin_mul_overflow(size, repeats.v[d], &size)) {
      context.fail(fmt::format("dimension {} repeated {} times is too large", d, repeats.v[d]));
    }
  }
  return {y};
}

// A tile is a pad in mode wrap, and so is its gradient.
void gradient_tile(GradContext& g) {
  std::vector<std::int64_t> pads(static_cast<std::size_t>(2 * g.in_type(0).rank()), 0);
  for (int d = 0; d < g.in_type(0).rank(); ++d) {
    pads[static_cast<std::size_t>(g.in_type(0).rank() + d)] = g.out_type().dim(d) - g.in_type(0).dim(d);
  }
  g.set(0, g.apply("pad_backward", {g.dout()}, {{"pads", pads}, {"mode", std::string("wrap")}}));
}

Cost cost_pad_backward(const OpContext& context, std::span<const TensorType>) {
  return {.flops = static_cast<double>(context.in(0).elements())};
}

AttrSchema pad_attributes() {
  return Attributes<PadAttrs>()
      .integers("pads", &PadAttrs::pads, {}, true)
      .integers("axes", &PadAttrs::axes, {})
      .choice("mode", &PadAttrs::mode, {"constant", "reflect", "edge", "wrap"})
      .number("value", &PadAttrs::value, 0.0);
}

}  // namespace

std::vector<OpDef> padding_ops() {
  return {
      {.name = "pad", .attrs = pad_attributes(), .infer = infer_pad, .gradient = gradient_pad, .cost = moves_only},
      // dy -> dx: each element of dx is the sum of dy over the places to which pad copied it, in their order.
      {.name = "pad_backward", .attrs = pad_attributes(), .infer = infer_pad_backward, .cost = cost_pad_backward},
      {.name = "tile",
       .attrs = Attributes<TileAttrs>().integers("repeats", &TileAttrs::repeats, {}, true),
       .infer = infer_tile,
       .gradient = gradient_tile,
       .cost = moves_only},
  };
}

}  // namespace trivet
