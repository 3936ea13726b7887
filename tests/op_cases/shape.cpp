#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Ints = std::vector<std::int64_t>;

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput typed(DType type, Shape shape) {
  return {{type, std::move(shape)}, {.kind = Fill::Kind::index, .a = 0, .b = 200}};
}
CaseInput ids(DType type, Shape shape, double rows) {
  return {{type, std::move(shape)}, {.kind = Fill::Kind::index, .a = 0, .b = rows}};
}

Ints ints(const std::string& op, const Variant& v, const std::string& name) {
  return std::get<Ints>(attribute(op, v, name));
}

// Index of flat position i, and back.
Ints unflatten(std::int64_t i, const Shape& shape) {
  Ints index(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    index[d] = i % shape[d];
    i /= shape[d];
  }
  return index;
}
std::int64_t flatten(const Ints& index, const Shape& shape) {
  std::int64_t i = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) i = i * shape[d] + index[d];
  return i;
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
                {"parallel", {f32({257, 301})}, {}, false},
                {"parallel_batched", {f32({3, 100, 129})}, {{"perm", Ints{0, 2, 1}}}, false}};
  return c;
}

// --- slice ---

struct Range {
  std::int64_t start, step, count;
};

std::vector<Range> ranges(const std::string& op, const Variant& v, const Shape& shape) {
  const Ints starts = ints(op, v, "starts"), ends = ints(op, v, "ends");
  Ints axes = ints(op, v, "axes"), steps = ints(op, v, "steps");
  std::vector<Range> result;
  for (const std::int64_t n : shape) result.push_back({0, 1, n});
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto rank = static_cast<std::int64_t>(shape.size());
    const auto axis = axes.empty() ? i : static_cast<std::size_t>((axes[i] + rank) % rank);
    const std::int64_t n = shape[axis], step = steps.empty() ? 1 : steps[i];
    const auto clamped = [n](std::int64_t k) { return std::min(std::max(k < 0 ? k + n : k, std::int64_t{0}), n); };
    std::int64_t count = 0;
    for (std::int64_t k = clamped(starts[i]); k < clamped(ends[i]); ++k) count += (k - clamped(starts[i])) % step == 0;
    result[axis] = {clamped(starts[i]), count > 1 ? step : 1, count};
  }
  return result;
}

// For each element of the slice, in order: its position in the whole.
std::vector<std::int64_t> slice_positions(const std::vector<Range>& taken, const Shape& whole, Shape& part) {
  part.clear();
  for (const Range& r : taken) part.push_back(r.count);
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < element_count(part); ++i) {
    Ints index = unflatten(i, part);
    for (std::size_t d = 0; d < index.size(); ++d) index[d] = taken[d].start + index[d] * taken[d].step;
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
  for (const DType type : {DType::f64, DType::i32, DType::i64, DType::u8, DType::boolean}) {
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

// --- concat, pad ---

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
                {"parallel", {f32({301, 100}), f32({301, 57})}, on(1), false}};
  return c;
}

OpCase pad_case() {
  OpCase c;
  c.op = "pad";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const Ints pads = ints("pad", v, "pads");
    const Ints axes = ints("pad", v, "axes");
    Shape shape = in[0].shape;
    Ints before(shape.size(), 0);
    const std::size_t count = pads.size() / 2;
    for (std::size_t i = 0; i < count; ++i) {
      const auto rank = static_cast<std::int64_t>(shape.size());
      const auto axis = axes.empty() ? i : static_cast<std::size_t>((axes[i] + rank) % rank);
      before[axis] = pads[i];
      shape[axis] += pads[i] + pads[count + i];
    }
    Ref y = Ref::zeros(shape);
    for (double& value : y.data) value = std::get<double>(attribute("pad", v, "value"));
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      Ints index = unflatten(i, in[0].shape);
      for (std::size_t d = 0; d < index.size(); ++d) index[d] += before[d];
      y[flatten(index, shape)] = in[0][i];
    }
    return std::vector<Ref>{y};
  };
  c.variants = {{"line", {f32({5})}, {{"pads", Ints{2, 3}}}},
                {"matrix", {f32({3, 33})}, {{"pads", Ints{1, 0, 0, 2}}, {"value", -1.5}}},
                {"images", {f32({2, 5, 4, 3})}, {{"pads", Ints{1, 2, 3, 0}}, {"axes", Ints{1, 2}}}},
                {"negative_axis", {f32({3, 5})}, {{"pads", Ints{1, 1}}, {"axes", Ints{-1}}}},
                {"none", {f32({3, 5})}, {{"pads", Ints{}}}},
                {"infinity",
                 {f32({3, 5})},
                 {{"pads", Ints{1, 1, 1, 1}}, {"value", std::numeric_limits<double>::infinity()}},
                 false},
                {"empty", {f32({0, 3})}, {{"pads", Ints{2, 0, 1, 0}}, {"value", 7.0}}, false},
                {"i32", {typed(DType::i32, {3, 5})}, {{"pads", Ints{1, 1, 1, 1}}, {"value", -7.0}}, false},
                {"i64", {typed(DType::i64, {3, 5})}, {{"pads", Ints{1, 1, 1, 1}}, {"value", -7.0}}, false},
                {"u8", {typed(DType::u8, {3, 5})}, {{"pads", Ints{1, 1, 1, 1}}, {"value", 255.0}}, false},
                {"parallel", {f32({8, 40, 40, 3})}, {{"pads", Ints{0, 2, 2, 0, 0, 2, 2, 0}}}, false}};
  return c;
}

// --- embedding ---

OpCase embedding_case() {
  OpCase c;
  c.op = "embedding";
  c.reference = [](const std::vector<Ref>& in, const Variant&) {
    const std::int64_t rows = in[0].shape[0], width = in[0].shape[1];
    Shape shape = in[1].shape;
    shape.push_back(width);
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const double id = in[1][i / width];
      y[i] =
          id >= 0 && id < static_cast<double>(rows) ? in[0][static_cast<std::int64_t>(id) * width + i % width] : kNan;
    }
    return std::vector<Ref>{y};
  };
  const CaseInput wrong = {{DType::i64, {8}}, {.kind = Fill::Kind::values, .values = {0, -1, 4, 5, 1e15, -1e15, 3, 2}}};
  const CaseInput wrong_i32 = {{DType::i32, {4}},
                               {.kind = Fill::Kind::values, .values = {0, -2147483648.0, 2147483647, 4}}};
  c.variants = {{"scalar_id", {f32({5, 3}), ids(DType::i64, {}, 5)}},
                {"one_row", {f32({1, 1}), ids(DType::i64, {3}, 1)}},
                {"i64", {f32({7, 33}), ids(DType::i64, {2, 5}, 7)}},
                {"i32", {f32({7, 5}), ids(DType::i32, {3, 1, 4}, 7)}},
                {"repeated", {f32({2, 3}), ids(DType::i32, {33}, 2)}},
                {"out_of_range", {f32({5, 3}), wrong}, {}, false},
                {"out_of_range_i32", {f32({5, 3}), wrong_i32}, {}, false},
                {"no_ids", {f32({5, 3}), ids(DType::i64, {0}, 5)}, {}, false},
                {"parallel", {f32({101, 65}), ids(DType::i64, {4, 129}, 101)}, {}, false}};
  return c;
}

OpCase embedding_backward_case() {
  OpCase c;
  c.op = "embedding_backward";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const std::int64_t rows = std::get<std::int64_t>(attribute("embedding_backward", v, "rows")),
                       width = in[0].shape.back();
    Ref dtable = Ref::zeros({rows, width});
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const double id = in[1][i / width];
      if (id >= 0 && id < static_cast<double>(rows))
        dtable[static_cast<std::int64_t>(id) * width + i % width] += in[0][i];
    }
    return std::vector<Ref>{dtable};
  };
  const auto rows = [](std::int64_t n) { return Attrs{{"rows", n}}; };
  const CaseInput wrong = {{DType::i64, {6}}, {.kind = Fill::Kind::values, .values = {0, -1, 4, 5, 1e15, 4}}};
  c.variants = {{"scalar_id", {f32({3}), ids(DType::i64, {}, 5)}, rows(5), false},
                {"i64", {f32({2, 5, 33}), ids(DType::i64, {2, 5}, 7)}, rows(7), false},
                {"i32", {f32({33, 65}), ids(DType::i32, {33}, 7)}, rows(7), false},
                {"out_of_range", {f32({6, 3}), wrong}, rows(5), false},
                {"no_ids", {f32({0, 3}), ids(DType::i64, {0}, 5)}, rows(5), false},
                {"one_id_for_all", {f32({1025, 3}, {.a = 1e4}), ids(DType::i64, {1025}, 1)}, rows(3), false},
                {"parallel", {f32({4, 129, 130}), ids(DType::i64, {4, 129}, 101)}, rows(101), false}};
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
  return c;
}

}  // namespace

std::vector<OpCase> shape_cases() {
  return {reshape_case(), transpose_case(), slice_case(),     slice_backward_case(),     concat_case(),
          pad_case(),     expand_case(),    embedding_case(), embedding_backward_case(), full_case()};
}

}  // namespace trivet::testing
