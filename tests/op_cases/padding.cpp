#include <cmath>
#include <limits>

#include "tests/op_cases/shapes.h"

namespace trivet::testing {
namespace {

// Pads before and after each of `rank` dimensions.
struct Pads {
  Ints before, after;
};
Pads pads_of(const std::string& op, const Variant& v, std::size_t rank) {
  const Ints pads = std::get<Ints>(attribute(op, v, "pads")), axes = std::get<Ints>(attribute(op, v, "axes"));
  Pads result = {Ints(rank, 0), Ints(rank, 0)};
  const std::size_t count = pads.size() / 2;
  for (std::size_t i = 0; i < count; ++i) {
    const auto n = static_cast<std::int64_t>(rank);
    const auto axis = axes.empty() ? i : static_cast<std::size_t>((axes[i] + n) % n);
    result.before[axis] = pads[i];
    result.after[axis] = pads[count + i];
  }
  return result;
}

// Walks step by step from position i (outside of [0, n) or not) to where its value comes from; -1: the constant.
std::int64_t origin(std::int64_t i, std::int64_t n, const std::string& mode) {
  if (mode == "constant") return i >= 0 && i < n ? i : -1;
  while (i < 0) i = mode == "reflect" ? -i : mode == "edge" ? 0 : i + n;
  while (i >= n) i = mode == "reflect" ? n - 1 - (i - (n - 1)) : mode == "edge" ? n - 1 : i - n;
  return i;
}

// For each element of the padded tensor, in order: where it comes from.
std::vector<std::int64_t> origins(const Shape& whole, const Shape& padded, const Pads& pads, const std::string& mode) {
  std::vector<std::int64_t> result;
  for (std::int64_t i = 0; i < element_count(padded); ++i) {
    Ints index = unflatten(i, padded);
    bool outside = false;
    for (std::size_t d = 0; d < index.size(); ++d) {
      index[d] = origin(index[d] - pads.before[d], whole[d], mode);
      outside = outside || index[d] < 0;
    }
    result.push_back(outside ? -1 : flatten(index, whole));
  }
  return result;
}

struct PadExample {
  std::string name;
  Shape shape;
  Ints pads;
  Ints axes = {};
  bool gradient = true;
};

OpCase pad_case() {
  OpCase c;
  c.op = "pad";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const Pads pads = pads_of("pad", v, in[0].shape.size());
    const auto mode = std::get<std::string>(attribute("pad", v, "mode"));
    Shape shape = in[0].shape;
    for (std::size_t d = 0; d < shape.size(); ++d) shape[d] += pads.before[d] + pads.after[d];
    const auto from = origins(in[0].shape, shape, pads, mode);
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t k = from[static_cast<std::size_t>(i)];
      y[i] = k < 0 ? std::get<double>(attribute("pad", v, "value")) : in[0][k];
    }
    return std::vector<Ref>{y};
  };
  const std::vector<PadExample> examples = {{"line", {33}, {1, 2}},
                                            {"rows", {5, 3}, {2, 1}, {0}},
                                            {"both", {5, 33}, {1, 3, 2, 4}},
                                            {"images", {2, 4, 5, 3}, {1, 2, 2, 1}, {1, 2}},
                                            {"last_axis", {3, 4}, {0, 2}, {-1}},
                                            {"nothing_added", {3, 5}, {}},
                                            {"all_four", {2, 3, 3, 2}, {1, 2, 2, 1, 1, 2, 2, 1}},
                                            {"size_one_more", {4, 1025}, {1024, 1024}, {1}, false},
                                            {"parallel", {70, 257}, {3, 5, 7, 9}, {}, false},
                                            {"parallel_images", {3, 40, 41, 5}, {2, 3, 3, 2}, {1, 2}, false}};
  for (const std::string mode : {"constant", "reflect", "edge", "wrap"}) {
    for (const PadExample& e : examples) {
      const Attrs attrs = {{"pads", e.pads}, {"axes", e.axes}, {"mode", mode}, {"value", 1.5}};
      if (mode == "reflect" && e.name == "all_four") continue;  // has too little to mirror
      c.variants.push_back({mode + "_" + e.name, {f32(e.shape)}, attrs, e.gradient});
    }
  }
  for (const std::string mode : {"edge", "wrap"}) {
    const Attrs far = {{"pads", Ints{7, 70, 11, 50}}, {"mode", mode}};
    c.variants.push_back({mode + "_far", {f32({3, 5})}, far});
    c.variants.push_back({mode + "_of_one", {f32({1, 1})}, far});
  }
  const auto constant = [](double value) { return Attrs{{"pads", Ints{1, 0, 2, 1}}, {"value", value}}; };
  for (const double value : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    c.variants.push_back({std::isnan(value) ? "nan" : "infinity", {f32({3, 5})}, constant(value), false});
  }
  c.variants.push_back({"empty", {f32({0, 5})}, constant(3), false});
  c.variants.push_back({"scalar", {f32({})}, {{"pads", Ints{}}}});
  for (const DType type : kOtherTypes) {
    c.variants.push_back({dtype_name(type), {typed(type, {3, 5})}, constant(1), false});
    const Attrs wrap = {{"pads", Ints{1, 0, 2, 1}}, {"mode", std::string("wrap")}};
    c.variants.push_back({std::string("wrap_") + dtype_name(type), {typed(type, {3, 5})}, wrap, false});
  }
  return c;
}

OpCase pad_backward_case() {
  OpCase c;
  c.op = "pad_backward";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const Pads pads = pads_of("pad_backward", v, in[0].shape.size());
    Shape whole = in[0].shape;
    for (std::size_t d = 0; d < whole.size(); ++d) whole[d] -= pads.before[d] + pads.after[d];
    const auto mode = std::get<std::string>(attribute("pad_backward", v, "mode"));
    const auto to = origins(whole, in[0].shape, pads, mode);
    Ref dx = Ref::zeros(whole);
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      if (to[static_cast<std::size_t>(i)] >= 0) dx[to[static_cast<std::size_t>(i)]] += in[0][i];
    }
    return std::vector<Ref>{dx};
  };
  for (const std::string mode : {"constant", "reflect", "edge", "wrap"}) {
    const auto add = [&](std::string name, CaseInput dy, Ints pads, Ints axes = {}) {
      c.variants.push_back({mode + "_" + std::move(name),
                            {std::move(dy)},
                            {{"pads", std::move(pads)}, {"axes", std::move(axes)}, {"mode", mode}},
                            false});
    };
    add("line", f32({33}), {3, 4});
    add("both", f32({9, 33}), {3, 1, 2, 5});
    add("images", f32({2, 7, 8, 3}), {1, 2, 2, 1}, {1, 2});
    add("wide_rows", f32({9, 600}), {2, 3}, {0});
    add("mean_1e4", f32({257, 33}, {.a = 1e4}), {100, 20, 57, 4}, {0, 1});
    add("parallel", f32({3, 45, 46, 17}), {2, 3, 3, 2}, {1, 2});
  }
  for (Variant& v : c.variants) {
    if (v.name == "reflect_mean_1e4") v.attrs[0].second = Ints{90, 2, 60, 2};
  }
  c.variants.push_back({"edge_of_one",
                        {f32({1025, 3})},
                        {{"pads", Ints{1000, 24}}, {"axes", Ints{0}}, {"mode", std::string("edge")}},
                        false});
  c.bf16_inputs = {0};
  return c;
}

OpCase tile_case() {
  OpCase c;
  c.op = "tile";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const Ints repeats = std::get<Ints>(attribute("tile", v, "repeats"));
    Shape shape = in[0].shape;
    for (std::size_t d = 0; d < shape.size(); ++d) shape[d] *= repeats[d];
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      Ints index = unflatten(i, shape);
      for (std::size_t d = 0; d < index.size(); ++d) index[d] %= in[0].shape[d];
      y[i] = in[0][flatten(index, in[0].shape)];
    }
    return std::vector<Ref>{y};
  };
  const auto by = [](Ints repeats) { return Attrs{{"repeats", std::move(repeats)}}; };
  c.variants = {{"scalar", {f32({})}, by({})},
                {"once", {f32({3, 5})}, by({1, 1})},
                {"line", {f32({3})}, by({11})},
                {"one_element", {f32({1})}, by({1025})},
                {"rows", {f32({3, 5})}, by({4, 1})},
                {"columns", {f32({3, 5})}, by({1, 7})},
                {"both", {f32({3, 5})}, by({2, 3})},
                {"rank_8", {f32({2, 1, 2, 1, 3, 1, 1, 2})}, by({2, 2, 1, 3, 2, 1, 2, 2}), false},
                {"empty", {f32({0, 5})}, by({2, 3}), false},
                {"parallel", {f32({30, 41})}, by({3, 7}), false}};
  for (const DType type : kOtherTypes)
    c.variants.push_back({dtype_name(type), {typed(type, {3, 5})}, by({2, 3}), false});
  return c;
}

}  // namespace

std::vector<OpCase> padding_cases() { return {pad_case(), pad_backward_case(), tile_case()}; }

}  // namespace trivet::testing
