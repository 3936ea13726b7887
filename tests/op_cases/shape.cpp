#include <cmath>
#include <limits>

#include "tests/op_cases/shapes.h"

namespace trivet::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Ints ints(const std::string& op, const Variant& v, const std::string& name) {
  return std::get<Ints>(attribute(op, v, name));
}

OpCase reshape_case() {
  OpCase c;
  c.op = "reshape";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Ref y = in[0];
    y.shape = ints("reshape", v, "shape");
    std::int64_t known = 1;
    for (const std::int64_t n : y.shape) known *= n == -1 ? 1 : n;
    for (std::int64_t& n : y.shape) {
      if (n == -1) n = in[0].size() / known;
    }
    return std::vector<Ref>{y};
  };
  c.variants = {{"same", {f32({3, 33})}, {{"shape", Ints{3, 33}}}},
                {"flatten", {f32({3, 5, 7})}, {{"shape", Ints{3, -1}}}},
                {"split", {f32({1025})}, {{"shape", Ints{5, -1, 5}}}},
                {"to_scalar", {f32({1, 1})}, {{"shape", Ints{}}}},
                {"from_scalar", {f32({})}, {{"shape", Ints{-1}}}},
                {"empty", {f32({0, 3})}, {{"shape", Ints{3, 0, 2}}}, false},
                {"u8", {typed(DType::u8, {4, 9})}, {{"shape", Ints{-1}}}, false}};
  return c;
}

OpCase transpose_case() {
  OpCase c;
  c.op = "transpose";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Ints perm = ints("transpose", v, "perm");
    if (perm.empty()) {
      for (std::size_t d = in[0].shape.size(); d-- > 0;) perm.push_back(static_cast<std::int64_t>(d));
    }
    Shape shape;
    for (const std::int64_t d : perm) shape.push_back(in[0].shape[static_cast<std::size_t>(d)]);
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const Ints to = unflatten(i, shape);
      Ints from(to.size());
      for (std::size_t d = 0; d < to.size(); ++d) from[static_cast<std::size_t>(perm[d])] = to[d];
      y[i] = in[0][flatten(from, in[0].shape)];
    }
    return std::vector<Ref>{y};
  };
  c.variants = {{"scalar", {f32({})}},
                {"line", {f32({33})}},
                {"matrix", {f32({3, 33})}},
                {"whole_tiles", {f32({32, 48})}, {}, false},
                {"ragged_tiles", {f32({37, 53})}, {{"perm", Ints{1, 0}}}},
                {"identity", {f32({3, 5, 7})}, {{"perm", Ints{0, 1, 2}}}},
                {"heads", {f32({2, 5, 3, 4})}, {{"perm", Ints{0, 2, 1, 3}}}},
                {"channels_last", {f32({2, 3, 5, 7})}, {{"perm", Ints{0, 2, 3, 1}}}},
                {"channels_first", {f32({2, 5, 7, 3})}, {{"perm", Ints{0, 3, 1, 2}}}},
                {"reversed_4", {f32({2, 3, 4, 5})}},
                {"rank_8", {f32({2, 1, 2, 3, 1, 2, 2, 2})}, {{"perm", Ints{7, 2, 5, 0, 3, 1, 6, 4}}}},
                {"empty", {f32({0, 3})}, {}, false},
                {"u8", {typed(DType::u8, {33, 19})}, {}, false},
                {"i32", {typed(DType::i32, {33, 19})}, {}, false},
                {"i64", {typed(DType::i64, {3, 20, 33})}, {{"perm", Ints{0, 2, 1}}}, false},
                {"f64", {typed(DType::f64, {20, 33})}, {}, false},
                {"bool", {typed(DType::boolean, {5, 33})}, {}, false},
                {"bf16", {typed(DType::bf16, {37, 53})}, {}, false},
                {"f16", {typed(DType::f16, {20, 33})}, {}, false},
                {"i8", {typed(DType::i8, {20, 33})}, {}, false},
                {"parallel_bf16", {typed(DType::bf16, {257, 301})}, {}, false},
                {"parallel", {f32({257, 301})}, {}, false},
                {"parallel_batched", {f32({3, 100, 129})}, {{"perm", Ints{0, 2, 1}}}, false}};
  return c;
}

// --- slice ---

// The positions that are taken along each dimension.
std::vector<Ints> ranges(const std::string& op, const Variant& v, const Shape& shape) {
  const Ints starts = ints(op, v, "starts"), ends = ints(op, v, "ends");
  const Ints axes = ints(op, v, "axes"), steps = ints(op, v, "steps");
  std::vector<Ints> result;
  for (const std::int64_t n : shape) {
    result.emplace_back();
    for (std::int64_t k = 0; k < n; ++k) result.back().push_back(k);
  }
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto rank = static_cast<std::int64_t>(shape.size());
    const auto axis = axes.empty() ? i : static_cast<std::size_t>((axes[i] + rank) % rank);
    const std::int64_t n = shape[axis], step = steps.empty() ? 1 : steps[i];
    const std::int64_t start = starts[i] < 0 ? starts[i] + n : starts[i], end = ends[i] < 0 ? ends[i] + n : ends[i];
    result[axis].clear();
    // In doubles, which do not overflow; so far away that they stay outside, positions need not be exact.
    double k = static_cast<double>(start);
    if (step > 0 && k < 0) k = 0;
    if (step < 0 && k > static_cast<double>(n - 1)) k = static_cast<double>(n - 1);
    for (; step > 0 ? k < static_cast<double>(end) : k > static_cast<double>(end); k += static_cast<double>(step)) {
      if (k < 0 || k >= static_cast<double>(n)) break;
      result[axis].push_back(static_cast<std::int64_t>(k));
    }
  }
  return result;
}

// For each element of the slice, in order: its position in the whole.
std::vector<std::int64_t> slice_positions(const std::vector<Ints>& taken, const Shape& whole, Shape& part) {
  part.clear();
  for (const Ints& positions : taken) part.push_back(static_cast<std::int64_t>(positions.size()));
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < element_count(part); ++i) {
    Ints index = unflatten(i, part);
    for (std::size_t d = 0; d < index.size(); ++d) index[d] = taken[d][static_cast<std::size_t>(index[d])];
    positions.push_back(flatten(index, whole));
  }
  return positions;
}

struct SliceExample {
  std::string name;
  Shape shape;
  Attrs attrs;
  bool gradient = true;
};

std::vector<SliceExample> slice_examples() {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kFarBelow = std::numeric_limits<std::int64_t>::min();
  return {
      {"first_rows", {9, 33}, {{"starts", Ints{0}}, {"ends", Ints{4}}}},
      {"columns", {5, 33}, {{"starts", Ints{3}}, {"ends", Ints{20}}, {"axes", Ints{1}}}},
      {"one_element", {7}, {{"starts", Ints{6}}, {"ends", Ints{7}}}},
      {"negative", {9, 33}, {{"starts", Ints{-5, -30}}, {"ends", Ints{-1, -2}}, {"axes", Ints{-2, -1}}}},
      {"clamped", {9, 33}, {{"starts", Ints{-100, 5}}, {"ends", Ints{kFar, kFar}}}},
      {"steps", {9, 33}, {{"starts", Ints{1, 2}}, {"ends", Ints{9, 33}}, {"axes", Ints{0, 1}}, {"steps", Ints{3, 4}}}},
      {"huge_step", {9, 33}, {{"starts", Ints{2}}, {"ends", Ints{33}}, {"axes", Ints{1}}, {"steps", Ints{kFar}}}},
      {"box", {3, 5, 6, 7}, {{"starts", Ints{1, 2, 3}}, {"ends", Ints{4, 5, 6}}, {"axes", Ints{1, 2, 3}}}},
      {"everything", {3, 5}, {{"starts", Ints{}}, {"ends", Ints{}}}},
      {"nothing", {3, 5}, {{"starts", Ints{4}}, {"ends", Ints{2}}, {"axes", Ints{1}}}, false},
      {"reversed", {5, 33}, {{"starts", Ints{-1}}, {"ends", Ints{kFarBelow}}, {"axes", Ints{1}}, {"steps", Ints{-1}}}},
      {"reversed_rows", {9, 3}, {{"starts", Ints{kFar}}, {"ends", Ints{-100}}, {"steps", Ints{-1}}}},
      {"backwards",
       {9, 33},
       {{"starts", Ints{7, 30}}, {"ends", Ints{1, -30}}, {"axes", Ints{0, 1}}, {"steps", Ints{-3, -4}}}},
      {"backwards_from_before", {7}, {{"starts", Ints{-8}}, {"ends", Ints{-20}}, {"steps", Ints{-1}}}, false},
      {"backwards_to_behind", {7}, {{"starts", Ints{2}}, {"ends", Ints{5}}, {"steps", Ints{-1}}}, false},
      {"huge_step_back", {9}, {{"starts", Ints{4}}, {"ends", Ints{kFarBelow}}, {"steps", Ints{kFarBelow}}}},
      {"parallel_reversed",
       {301, 257},
       {{"starts", Ints{-1, -1}}, {"ends", Ints{kFarBelow, kFarBelow}}, {"steps", Ints{-1, -1}}},
       false},
      {"parallel", {301, 257}, {{"starts", Ints{1}}, {"ends", Ints{250}}, {"axes", Ints{1}}}, false},
      {"parallel_steps",
       {301, 257},
       {{"starts", Ints{0}}, {"ends", Ints{257}}, {"axes", Ints{1}}, {"steps", Ints{2}}},
       false}};
}

OpCase slice_case() {
  OpCase c;
  c.op = "slice";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape part;
    const auto positions = slice_positions(ranges("slice", v, in[0].shape), in[0].shape, part);
    Ref y = Ref::zeros(part);
    for (std::int64_t i = 0; i < y.size(); ++i) y[i] = in[0][positions[static_cast<std::size_t>(i)]];
    return std::vector<Ref>{y};
  };
  for (const SliceExample& e : slice_examples()) c.variants.push_back({e.name, {f32(e.shape)}, e.attrs, e.gradient});
  for (const DType type : kOtherTypes) {
    const Attrs attrs = {{"starts", Ints{1, 2}}, {"ends", Ints{9, 33}}, {"steps", Ints{3, 4}}};
    c.variants.push_back({dtype_name(type), {typed(type, {9, 33})}, attrs, false});
  }
  return c;
}

OpCase slice_backward_case() {
  OpCase c;
  c.op = "slice_backward";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Ref dx = Ref::zeros(ints("slice_backward", v, "input_shape"));
    Shape part;
    const auto positions = slice_positions(ranges("slice_backward", v, dx.shape), dx.shape, part);
    for (std::size_t i = 0; i < positions.size(); ++i) dx[positions[i]] = in[0].data[i];
    return std::vector<Ref>{dx};
  };
  for (const SliceExample& e : slice_examples()) {
    Variant v{e.name, {}, e.attrs, false};
    v.attrs.emplace_back("input_shape", e.shape);
    Shape part;
    slice_positions(ranges(c.op, v, e.shape), e.shape, part);
    v.inputs = {f32(part)};
    c.variants.push_back(std::move(v));
  }
  return c;
}

// --- concat, split ---

OpCase concat_case() {
  OpCase c;
  c.op = "concat";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape shape = in[0].shape;
    const auto rank = static_cast<std::int64_t>(shape.size());
    const auto axis = static_cast<std::size_t>((std::get<std::int64_t>(attribute("concat", v, "axis")) + rank) % rank);
    for (std::size_t k = 1; k < in.size(); ++k) shape[axis] += in[k].shape[axis];
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      Ints index = unflatten(i, shape);
      std::size_t k = 0;
      while (index[axis] >= in[k].shape[axis]) index[axis] -= in[k++].shape[axis];
      y[i] = in[k][flatten(index, in[k].shape)];
    }
    return std::vector<Ref>{y};
  };
  const auto on = [](std::int64_t axis) { return Attrs{{"axis", axis}}; };
  c.variants = {{"single", {f32({3, 5})}},
                {"lines", {f32({1}), f32({33}), f32({3})}},
                {"rows", {f32({2, 5}), f32({3, 5})}, on(0)},
                {"columns", {f32({3, 5}), f32({3, 1}), f32({3, 7})}, on(1)},
                {"middle", {f32({2, 3, 4}), f32({2, 1, 4})}, on(-2)},
                {"with_empty", {f32({2, 3}), f32({2, 0}), f32({2, 2})}, on(-1), false},
                {"u8", {typed(DType::u8, {3, 5}), typed(DType::u8, {3, 4})}, on(1), false},
                {"i64", {typed(DType::i64, {3, 5}), typed(DType::i64, {2, 5})}, on(0), false},
                {"bf16", {typed(DType::bf16, {3, 5}), typed(DType::bf16, {3, 8})}, on(1), false},
                {"i8", {typed(DType::i8, {3, 5}), typed(DType::i8, {3, 8})}, on(1), false},
                {"parallel", {f32({301, 100}), f32({301, 57})}, on(1), false}};
  return c;
}

OpCase split_case() {
  OpCase c;
  c.op = "split";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const auto rank = static_cast<std::int64_t>(in[0].shape.size());
    const auto axis = static_cast<std::size_t>((std::get<std::int64_t>(attribute("split", v, "axis")) + rank) % rank);
    Ints sizes = ints("split", v, "sizes");
    if (sizes.empty()) {
      const std::int64_t count = std::get<std::int64_t>(attribute("split", v, "num_outputs"));
      std::int64_t rest = in[0].shape[axis];
      const std::int64_t part = rest / count + (rest % count != 0);
      for (std::int64_t i = 0; i < count; ++i, rest -= sizes.back()) sizes.push_back(std::min(part, rest));
    }
    std::vector<Ref> parts;
    std::int64_t begin = 0;
    for (const std::int64_t size : sizes) {
      Shape shape = in[0].shape;
      shape[axis] = size;
      Ref part = Ref::zeros(shape);
      for (std::int64_t i = 0; i < part.size(); ++i) {
        Ints index = unflatten(i, shape);
        index[axis] += begin;
        part[i] = in[0][flatten(index, in[0].shape)];
      }
      parts.push_back(std::move(part));
      begin += size;
    }
    return parts;
  };
  const auto by = [](std::int64_t axis, Ints sizes) { return Attrs{{"axis", axis}, {"sizes", std::move(sizes)}}; };
  const auto into = [](std::int64_t axis, std::int64_t n) { return Attrs{{"axis", axis}, {"num_outputs", n}}; };
  c.variants = {{"one_part", {f32({3, 5})}, into(0, 1)},
                {"rows", {f32({6, 5})}, into(0, 3)},
                {"smaller_last", {f32({3, 33})}, into(-1, 4)},
                {"more_parts_than_needed", {f32({3, 5})}, into(1, 4)},
                {"sizes", {f32({3, 33})}, by(1, {1, 0, 30, 2})},
                {"middle", {f32({2, 7, 3})}, by(-2, {3, 4})},
                {"line", {f32({1025})}, by(0, {1000, 25})},
                {"empty", {f32({0, 4})}, into(1, 2), false},
                {"parallel", {f32({301, 257})}, by(1, {100, 157}), false}};
  for (const DType type : kOtherTypes)
    c.variants.push_back({dtype_name(type), {typed(type, {5, 9})}, into(1, 2), false});
  return c;
}

// --- space_to_depth, depth_to_space, trilu ---

OpCase depth_case(bool to_space) {
  OpCase c;
  c.op = to_space ? "depth_to_space" : "space_to_depth";
  c.reference = [=, op = c.op](const std::vector<Ref>& in, const Variant& v) {
    const std::int64_t b = std::get<std::int64_t>(attribute(op, v, "blocksize"));
    const bool dcr = std::get<std::string>(attribute(op, v, "mode")) == "DCR";
    const Shape& x = in[0].shape;
    const Shape fine = to_space ? Shape{x[0], x[1] * b, x[2] * b, x[3] / (b * b)} : x;
    const Shape coarse = to_space ? x : Shape{x[0], x[1] / b, x[2] / b, x[3] * b * b};
    Ref y = Ref::zeros(to_space ? fine : coarse);
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const Ints at = unflatten(i, fine);
      const std::int64_t row = at[1] % b, column = at[2] % b;
      const std::int64_t channel = dcr ? (row * b + column) * fine[3] + at[3] : (at[3] * b + row) * b + column;
      const std::int64_t other = flatten({at[0], at[1] / b, at[2] / b, channel}, coarse);
      (to_space ? y[i] : y[other]) = to_space ? in[0][other] : in[0][i];
    }
    return std::vector<Ref>{y};
  };
  const auto attrs = [](std::int64_t b, std::string mode) {
    return Attrs{{"blocksize", b}, {"mode", std::move(mode)}};
  };
  const auto image = [=](std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t channels, std::int64_t b) {
    return to_space ? Shape{n, h, w, channels * b * b} : Shape{n, h * b, w * b, channels};
  };
  c.variants = {{"block_1", {f32(image(1, 3, 3, 2, 1))}},
                {"dcr", {f32(image(2, 3, 5, 3, 2))}, attrs(2, "DCR")},
                {"crd", {f32(image(2, 3, 5, 3, 2))}, attrs(2, "CRD")},
                {"dcr_3", {f32(image(1, 1, 2, 1, 3))}, attrs(3, "DCR")},
                {"crd_3", {f32(image(1, 2, 1, 4, 3))}, attrs(3, "CRD")},
                {"empty", {f32(image(0, 2, 2, 3, 2))}, attrs(2, "CRD"), false},
                {"no_channels", {f32(image(2, 2, 2, 0, 2))}, attrs(2, "DCR"), false},
                {"parallel", {f32(image(3, 20, 31, 5, 2))}, attrs(2, "DCR"), false},
                {"parallel_crd", {f32(image(3, 20, 31, 5, 2))}, attrs(2, "CRD"), false}};
  for (const DType type : kOtherTypes) {
    c.variants.push_back({dtype_name(type), {typed(type, image(1, 2, 3, 3, 2))}, attrs(2, "CRD"), false});
  }
  return c;
}

OpCase trilu_case() {
  OpCase c;
  c.op = "trilu";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const bool upper = std::get<bool>(attribute("trilu", v, "upper"));
    const auto k = static_cast<double>(std::get<std::int64_t>(attribute("trilu", v, "k")));
    Ref y = in[0];
    const std::int64_t columns = y.shape.back(), rows = y.shape[y.shape.size() - 2];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const auto diagonal = static_cast<double>(i % columns - i / columns % rows);
      if (upper ? diagonal < k : diagonal > k) y[i] = 0;
    }
    return std::vector<Ref>{y};
  };
  const auto attrs = [](bool upper, std::int64_t k) { return Attrs{{"upper", upper}, {"k", k}}; };
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t k : {std::int64_t{0}, std::int64_t{2}, std::int64_t{-3}, std::int64_t{40}, kFar, -kFar}) {
    const std::string suffix = k == kFar ? "far" : k == -kFar ? "far_below" : std::to_string(k);
    c.variants.push_back({"upper_" + suffix, {f32({2, 5, 33})}, attrs(true, k), k < 33});
    c.variants.push_back({"lower_" + suffix, {f32({33, 7})}, attrs(false, k), k > -33});
  }
  c.variants.push_back({"empty", {f32({2, 0, 3})}, {}, false});
  c.variants.push_back({"parallel", {f32({3, 129, 100})}, attrs(false, -1), false});
  for (const DType type : kOtherTypes) c.variants.push_back({dtype_name(type), {typed(type, {5, 4})}, {}, false});
  return c;
}

// --- expand, full ---

OpCase expand_case() {
  OpCase c;
  c.op = "expand";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Ref y = Ref::zeros(ints("expand", v, "shape"));
    const Shape& from = in[0].shape;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const Ints to = unflatten(i, y.shape);
      Ints index(from.size());
      for (std::size_t d = 0; d < from.size(); ++d) index[d] = from[d] == 1 ? 0 : to[d + to.size() - from.size()];
      y[i] = in[0][flatten(index, from)];
    }
    return std::vector<Ref>{y};
  };
  const auto to = [](Ints shape) { return Attrs{{"shape", std::move(shape)}}; };
  c.variants = {{"scalar_to_scalar", {f32({})}, to({})},
                {"scalar", {f32({})}, to({3, 33})},
                {"rows", {f32({5})}, to({3, 5})},
                {"columns", {f32({3, 1})}, to({3, 33})},
                {"middle", {f32({2, 1, 5})}, to({3, 2, 4, 5})},
                {"same", {f32({3, 5})}, to({3, 5})},
                {"empty", {f32({1, 3})}, to({0, 3}), false},
                {"i64", {typed(DType::i64, {3, 1})}, to({3, 4}), false},
                {"u8", {typed(DType::u8, {3})}, to({2, 3}), false},
                {"bf16", {typed(DType::bf16, {3, 1})}, to({3, 33}), false},
                {"parallel", {f32({301, 1})}, to({301, 257}), false},
                {"parallel_rows", {f32({257})}, to({301, 257}), false}};
  return c;
}

OpCase full_case() {
  OpCase c;
  c.op = "full";
  c.reference = [](const std::vector<Ref>&, const Variant& v) {
    Ref y = Ref::zeros(ints("full", v, "shape"));
    for (double& x : y.data) x = std::get<double>(attribute("full", v, "value"));
    return std::vector<Ref>{y};
  };
  c.variants = {{"scalar", {}, {{"shape", Ints{}}, {"value", 1.0}}, false},
                {"zeros", {}, {{"shape", Ints{3, 33}}}, false},
                {"nan", {}, {{"shape", Ints{1025}}, {"value", kNan}}, false},
                {"empty", {}, {{"shape", Ints{0, 2}}, {"value", 2.0}}, false},
                {"parallel", {}, {{"shape", Ints{70, 1025}}, {"value", -0.5}}, false}};
  for (const DType type : kOtherTypes) {
    const Attrs attrs = {{"shape", Ints{3, 5}}, {"value", 1.0}, {"dtype", std::string(dtype_name(type))}};
    c.variants.push_back({dtype_name(type), {}, attrs, false});
  }
  return c;
}

}  // namespace

std::vector<OpCase> shape_cases() {
  return {reshape_case(), transpose_case(), slice_case(),      slice_backward_case(), concat_case(), split_case(),
          expand_case(),  depth_case(true), depth_case(false), trilu_case(),          full_case()};
}

}  // namespace trivet::testing
