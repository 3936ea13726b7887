#include <cmath>
#include <limits>

#include "tests/op_cases/shapes.h"

namespace trivet::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Fill listed(std::vector<double> values) { return {.kind = Fill::Kind::values, .values = std::move(values)}; }
CaseInput listed_ids(Shape shape, std::vector<double> values, DType type = DType::i64) {
  return {{type, std::move(shape)}, listed(std::move(values))};
}
// Indices from -n to n - 1, or from 0 on.
CaseInput indices(DType type, Shape shape, double n) {
  return {{type, std::move(shape)}, {.kind = Fill::Kind::index, .a = -n, .b = n}};
}
CaseInput ids(DType type, Shape shape, double rows) {
  return {{type, std::move(shape)}, {.kind = Fill::Kind::index, .a = 0, .b = rows}};
}

std::int64_t integer(const std::string& op, const Variant& v, const std::string& name) {
  return std::get<std::int64_t>(attribute(op, v, name));
}
std::size_t axis_of(const std::string& op, const Variant& v, std::size_t rank) {
  const std::int64_t axis = integer(op, v, "axis");
  return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis);
}

// The element that an index names, -1 if it is outside.
std::int64_t place(double index, std::int64_t n) {
  if (index < 0) index += static_cast<double>(n);
  return index >= 0 && index < static_cast<double>(n) ? static_cast<std::int64_t>(index) : -1;
}

// What is read outside: by the dtype of input 0.
double outside_value(const std::string& op, const Variant& v) {
  const bool zero = op != "embedding" && std::get<bool>(attribute(op, v, "zero_outside"));
  return !zero && is_float(v.inputs[0].type.dtype) ? kNan : 0;
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
  const CaseInput wrong = listed_ids({8}, {0, -1, 4, 5, 1e15, -1e15, 3, 2});
  const CaseInput wrong_i32 = listed_ids({4}, {0, -2147483648.0, 2147483647, 4}, DType::i32);
  c.variants = {{"scalar_id", {f32({5, 3}), ids(DType::i64, {}, 5)}},
                {"one_row", {f32({1, 1}), ids(DType::i64, {3}, 1)}},
                {"i64", {f32({7, 33}), ids(DType::i64, {2, 5}, 7)}},
                {"i32", {f32({7, 5}), ids(DType::i32, {3, 1, 4}, 7)}},
                {"repeated", {f32({2, 3}), ids(DType::i32, {33}, 2)}},
                {"out_of_range", {f32({5, 3}), wrong}, {}, false},
                {"out_of_range_i32", {f32({5, 3}), wrong_i32}, {}, false},
                {"no_ids", {f32({5, 3}), ids(DType::i64, {0}, 5)}, {}, false},
                {"f16", {typed(DType::f16, {5, 3}), wrong}, {}, false},
                {"parallel", {f32({101, 65}), ids(DType::i64, {4, 129}, 101)}, {}, false}};
  c.bf16_inputs = {0};
  return c;
}

OpCase embedding_backward_case() {
  OpCase c;
  c.op = "embedding_backward";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const std::int64_t rows = integer("embedding_backward", v, "rows"), width = in[0].shape.back();
    Ref dtable = Ref::zeros({rows, width});
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const double id = in[1][i / width];
      if (id >= 0 && id < static_cast<double>(rows))
        dtable[static_cast<std::int64_t>(id) * width + i % width] += in[0][i];
    }
    return std::vector<Ref>{dtable};
  };
  const auto rows = [](std::int64_t n) { return Attrs{{"rows", n}}; };
  const CaseInput wrong = listed_ids({6}, {0, -1, 4, 5, 1e15, 4});
  c.variants = {{"scalar_id", {f32({3}), ids(DType::i64, {}, 5)}, rows(5), false},
                {"i64", {f32({2, 5, 33}), ids(DType::i64, {2, 5}, 7)}, rows(7), false},
                {"i32", {f32({33, 65}), ids(DType::i32, {33}, 7)}, rows(7), false},
                {"out_of_range", {f32({6, 3}), wrong}, rows(5), false},
                {"no_ids", {f32({0, 3}), ids(DType::i64, {0}, 5)}, rows(5), false},
                {"no_columns", {f32({4, 0}), ids(DType::i64, {4}, 5)}, rows(5), false},
                {"one_id_for_all", {f32({1025, 3}, {.a = 1e4}), ids(DType::i64, {1025}, 1)}, rows(3), false},
                {"two_ids_wide", {f32({200, 600}, {.a = 1e4}), ids(DType::i64, {200}, 2)}, rows(2), false},
                {"parallel", {f32({4, 129, 130}), ids(DType::i64, {4, 129}, 101)}, rows(101), false},
                {"parallel_narrow", {f32({3000, 7}), ids(DType::i64, {3000}, 11)}, rows(11), false, 1e-5}};
  c.bf16_inputs = {0};
  return c;
}

// --- gather ---

// For each element of the gathered tensor: its position in x (of shape `whole`), -1 if outside.
std::vector<std::int64_t> gather_positions(const Shape& whole, std::size_t axis, const Ref& index, Shape& shape) {
  shape.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(axis));
  shape.insert(shape.end(), index.shape.begin(), index.shape.end());
  shape.insert(shape.end(), whole.begin() + static_cast<std::ptrdiff_t>(axis) + 1, whole.end());
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < element_count(shape); ++i) {
    const Ints at = unflatten(i, shape);
    Ints of_index(at.begin() + static_cast<std::ptrdiff_t>(axis),
                  at.begin() + static_cast<std::ptrdiff_t>(axis + index.shape.size()));
    Ints of_x(at.begin(), at.begin() + static_cast<std::ptrdiff_t>(axis));
    of_x.push_back(place(index[flatten(of_index, index.shape)], whole[axis]));
    of_x.insert(of_x.end(), at.begin() + static_cast<std::ptrdiff_t>(axis + index.shape.size()), at.end());
    positions.push_back(of_x[axis] < 0 ? -1 : flatten(of_x, whole));
  }
  return positions;
}

struct GatherExample {
  std::string name;
  Shape x;
  CaseInput index;
  std::int64_t axis;
  bool gradient = true;
};

std::vector<GatherExample> gather_examples() {
  return {{"scalar_index", {5, 3}, indices(DType::i64, {}, 5), 0},
          {"line", {33}, indices(DType::i32, {7}, 33), 0},
          {"rows", {5, 33}, indices(DType::i64, {2, 4}, 5), 0},
          {"columns", {3, 9}, indices(DType::i64, {5}, 9), 1},
          {"middle", {2, 5, 3}, indices(DType::i32, {3, 1}, 5), -2},
          {"repeated", {2, 3}, indices(DType::i64, {65}, 2), 0},
          {"no_indices", {4, 3}, indices(DType::i64, {0}, 4), 0, false},
          {"outside", {4, 3}, listed_ids({7}, {3, 4, -4, -5, 1e15, -1e15, 0}), 0, false},
          {"of_nothing", {3, 0}, listed_ids({2}, {0, -1}), 1, false},
          {"parallel", {301, 65}, indices(DType::i64, {400}, 301), 0, false},
          {"parallel_elements", {3, 9000}, indices(DType::i64, {8000}, 9000), 1, false},
          {"parallel_middle", {7, 50, 30}, indices(DType::i32, {90}, 50), 1, false}};
}

OpCase gather_case() {
  OpCase c;
  c.op = "gather";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape shape;
    const auto from = gather_positions(in[0].shape, axis_of("gather", v, in[0].shape.size()), in[1], shape);
    Ref y = Ref::zeros(shape);
    for (std::size_t i = 0; i < from.size(); ++i) {
      y.data[i] = from[i] < 0 ? outside_value("gather", v) : in[0][from[i]];
    }
    return std::vector<Ref>{y};
  };
  for (const GatherExample& e : gather_examples()) {
    c.variants.push_back({e.name, {f32(e.x), e.index}, {{"axis", e.axis}}, e.gradient});
  }
  const CaseInput outside = listed_ids({5}, {3, 4, -4, -5, 0});
  c.variants.push_back({"zero_outside", {f32({4, 3}), outside}, {{"zero_outside", true}}});
  for (const DType type : kOtherTypes) {
    c.variants.push_back({dtype_name(type), {typed(type, {4, 3}), outside}, {}, false});
    c.variants.push_back({std::string("elements_") + dtype_name(type), {typed(type, {4}), outside}, {}, false});
  }
  return c;
}

OpCase gather_backward_case() {
  OpCase c;
  c.op = "gather_backward";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape whole = in[0].shape;
    const auto axis = axis_of("gather_backward", v, whole.size() - in[1].shape.size() + 1);
    whole.erase(whole.begin() + static_cast<std::ptrdiff_t>(axis),
                whole.begin() + static_cast<std::ptrdiff_t>(axis + in[1].shape.size()));
    whole.insert(whole.begin() + static_cast<std::ptrdiff_t>(axis), integer("gather_backward", v, "size"));
    Shape shape;
    const auto to = gather_positions(whole, axis, in[1], shape);
    Ref dx = Ref::zeros(whole);
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (to[i] >= 0) dx[to[i]] += in[0].data[i];
    }
    return std::vector<Ref>{dx};
  };
  for (const GatherExample& e : gather_examples()) {
    const auto rank = static_cast<std::int64_t>(e.x.size());
    const auto axis = static_cast<std::size_t>((e.axis + rank) % rank);
    Shape shape;
    Ref index = Ref::zeros(e.index.type.shape);
    gather_positions(e.x, axis, index, shape);
    c.variants.push_back({e.name, {f32(shape), e.index}, {{"axis", e.axis}, {"size", e.x[axis]}}, false});
  }
  c.bf16_inputs = {0};
  return c;
}

// --- gather_elements, scatter_elements ---

// For each index: the position in x that it names, -1 if outside.
std::vector<std::int64_t> element_positions(const Shape& whole, std::size_t axis, const Ref& index) {
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < index.size(); ++i) {
    Ints at = unflatten(i, index.shape);
    at[axis] = place(index[i], whole[axis]);
    positions.push_back(at[axis] < 0 ? -1 : flatten(at, whole));
  }
  return positions;
}

OpCase gather_elements_case() {
  OpCase c;
  c.op = "gather_elements";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const auto from = element_positions(in[0].shape, axis_of("gather_elements", v, in[0].shape.size()), in[1]);
    Ref y = Ref::zeros(in[1].shape);
    for (std::size_t i = 0; i < from.size(); ++i) {
      y.data[i] = from[i] < 0 ? outside_value("gather_elements", v) : in[0][from[i]];
    }
    return std::vector<Ref>{y};
  };
  const auto on = [](std::int64_t axis) { return Attrs{{"axis", axis}}; };
  const CaseInput outside = listed_ids({3, 5}, {3, 4, -4, -5, 0, 1e15});
  c.variants = {{"line", {f32({33}), indices(DType::i64, {7}, 33)}},
                {"rows", {f32({5, 33}), indices(DType::i64, {9, 33}, 5)}, on(0)},
                {"columns", {f32({5, 33}), indices(DType::i32, {5, 9}, 33)}, on(1)},
                {"smaller", {f32({4, 5, 6}), indices(DType::i64, {3, 7, 2}, 5)}, on(1)},
                {"smaller_last", {f32({4, 5, 6}), indices(DType::i64, {3, 4, 9}, 6)}, on(-1)},
                {"no_indices", {f32({4, 5}), indices(DType::i64, {0, 5}, 4)}, on(0), false},
                {"outside", {f32({3, 4}), outside}, on(1), false},
                {"zero_outside", {f32({3, 4}), outside}, {{"axis", std::int64_t{1}}, {"zero_outside", true}}},
                {"parallel", {f32({301, 65}), indices(DType::i64, {200, 65}, 301)}, on(0), false},
                {"parallel_last", {f32({301, 65}), indices(DType::i64, {301, 70}, 65)}, on(1), false}};
  for (const DType type : kOtherTypes) {
    c.variants.push_back({dtype_name(type), {typed(type, {3, 4}), outside}, on(1), false});
  }
  return c;
}

double joined(const std::string& reduction, double a, double b) {
  if (reduction == "none") return b;
  if (reduction == "add") return a + b;
  if (reduction == "mul") return a * b;
  if (std::isnan(a) || std::isnan(b)) return kNan;
  return reduction == "max" ? std::max(a, b) : std::min(a, b);
}

// Integers wrap around in their dtype; the cases keep them small enough.
Ref scattered(const Ref& x, const std::vector<std::int64_t>& to, const Ref& updates, const std::string& reduction) {
  Ref y = x;
  for (std::int64_t i = 0; i < updates.size(); ++i) {
    const std::int64_t k = to[static_cast<std::size_t>(i)];
    if (k >= 0) y[k] = joined(reduction, y[k], updates[i]);
  }
  return y;
}

OpCase scatter_elements_case() {
  OpCase c;
  c.op = "scatter_elements";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const auto to = element_positions(in[0].shape, axis_of("scatter_elements", v, in[0].shape.size()), in[1]);
    return std::vector<Ref>{
        scattered(in[0], to, in[2], std::get<std::string>(attribute("scatter_elements", v, "reduction")))};
  };
  const auto add = [&c](std::string name, CaseInput x, CaseInput index, std::int64_t axis, std::string reduction,
                        bool gradient = true, Fill fill = {}) {
    const CaseInput updates = {{x.type.dtype, index.type.shape}, is_float(x.type.dtype) ? fill : x.fill};
    c.variants.push_back({std::move(name),
                          {std::move(x), std::move(index), updates},
                          {{"axis", axis}, {"reduction", std::move(reduction)}},
                          gradient});
  };
  add("none_rows", f32({5, 3}), listed_ids({3, 3}, {0, 1, 4, -1, 3, 0, 2, 0, 1}), 0, "none");
  add("none_columns", f32({3, 5}), listed_ids({2, 3}, {0, -2, 4, 1, 2, 0}, DType::i32), -1, "none");
  add("none_last_stays", f32({3, 5}), indices(DType::i64, {3, 33}, 5), 1, "none", false);
  for (const std::string reduction : {"add", "mul", "max", "min"}) {
    add(reduction + "_line", f32({33}), indices(DType::i64, {65}, 33), 0, reduction);
    add(reduction + "_rows", f32({5, 7}), indices(DType::i32, {9, 6}, 5), 0, reduction);
    add(reduction + "_columns", f32({3, 5}), indices(DType::i64, {3, 9}, 5), 1, reduction);
    add(reduction + "_zeros", f32({3, 4}, listed({0, 1, 2, 0, -3})), indices(DType::i64, {3, 6}, 4), 1, reduction,
        reduction == "mul", listed({2, 0, 1, 3, 0.5, -1, 4}));
    add(reduction + "_outside", f32({3, 4}), listed_ids({3, 5}, {3, 4, -4, -5, 0, 1e15}), 1, reduction);
    add(reduction + "_special", f32({2, 4}, listed({1, kInf, 2, kNan})), listed_ids({2, 3}, {0, 1, 2}), 1, reduction,
        false, listed({kNan, 2, -kInf, 3}));
    add(reduction + "_parallel", f32({301, 65}), indices(DType::i64, {200, 65}, 301), 0, reduction, false);
    add(reduction + "_parallel_last", f32({301, 65}), indices(DType::i64, {301, 70}, 65), 1, reduction, false);
    for (const DType type : {DType::i32, DType::i64}) {
      const CaseInput x = {{type, {3, 5}}, {.kind = Fill::Kind::index, .a = -9, .b = 9}};
      add(reduction + "_" + dtype_name(type), x, indices(DType::i64, {3, 7}, 5), 1, reduction, false);
    }
  }
  for (const DType type : kOtherTypes) {
    add(std::string("none_") + dtype_name(type), typed(type, {3, 5}), listed_ids({3, 2}, {0, 3}), 1, "none", false);
  }
  add("no_indices", f32({4, 5}), indices(DType::i64, {0, 5}, 4), 0, "add", false);
  for (Variant& v : c.variants) {
    if (v.name.starts_with("mul")) v.tolerance = 1e-5;
  }
  c.bf16_inputs = {0, 2};
  return c;
}

// --- gather_nd, scatter_nd ---

// For each element that the tuples of `index` name, in order: its position in x (of shape `whole`), -1 if outside.
std::vector<std::int64_t> nd_positions(const Shape& whole, std::int64_t batch_dims, const Ref& index, Shape& shape) {
  const auto batch = static_cast<std::ptrdiff_t>(batch_dims);
  const std::ptrdiff_t depth = index.shape.back();
  const auto lead = static_cast<std::ptrdiff_t>(index.shape.size()) - 1;
  shape.assign(index.shape.begin(), index.shape.end() - 1);
  shape.insert(shape.end(), whole.begin() + batch + depth, whole.end());
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < element_count(shape); ++i) {
    const Ints at = unflatten(i, shape);
    Ints tuple(at.begin(), at.begin() + lead);
    tuple.push_back(0);
    Ints of_x(at.begin(), at.begin() + batch);
    bool outside = false;
    for (std::ptrdiff_t d = 0; d < depth; ++d) {
      tuple.back() = d;
      of_x.push_back(place(index[flatten(tuple, index.shape)], whole[static_cast<std::size_t>(batch + d)]));
      outside = outside || of_x.back() < 0;
    }
    of_x.insert(of_x.end(), at.begin() + lead, at.end());
    positions.push_back(outside ? -1 : flatten(of_x, whole));
  }
  return positions;
}

struct NdExample {
  std::string name;
  Shape x;
  CaseInput index;
  std::int64_t batch_dims = 0;
  bool gradient = true;
};

std::vector<NdExample> nd_examples() {
  return {{"one_tuple", {5, 3}, listed_ids({2}, {-1, 2})},
          {"elements", {3, 5}, indices(DType::i64, {9, 2}, 3)},
          {"rows", {5, 33}, indices(DType::i32, {4, 2, 1}, 5)},
          {"planes", {4, 3, 5, 2}, indices(DType::i64, {7, 2}, 3)},
          {"batch", {3, 4, 5}, indices(DType::i64, {3, 2, 1}, 4), 1},
          {"batch_elements", {3, 4, 4}, indices(DType::i64, {3, 5, 2}, 4), 1},
          {"two_batch_dims", {2, 3, 4, 2}, indices(DType::i64, {2, 3, 1}, 4), 2},
          {"outside", {3, 4, 2}, listed_ids({5, 2}, {0, 1, 3, 0, -3, -4, 0, 4, -4, 0}), 0, false},
          {"no_tuples", {3, 4}, indices(DType::i64, {0, 1}, 3), 0, false},
          {"parallel", {101, 70}, indices(DType::i64, {500, 1}, 101), 0, false},
          {"parallel_wide", {11, 1100}, indices(DType::i64, {40, 1}, 11), 0, false},
          {"parallel_elements", {100, 200}, indices(DType::i64, {20000, 2}, 100), 0, false}};
}

OpCase gather_nd_case() {
  OpCase c;
  c.op = "gather_nd";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape shape;
    const auto from = nd_positions(in[0].shape, integer("gather_nd", v, "batch_dims"), in[1], shape);
    Ref y = Ref::zeros(shape);
    for (std::size_t i = 0; i < from.size(); ++i) {
      y.data[i] = from[i] < 0 ? outside_value("gather_nd", v) : in[0][from[i]];
    }
    return std::vector<Ref>{y};
  };
  for (const NdExample& e : nd_examples()) {
    c.variants.push_back({e.name, {f32(e.x), e.index}, {{"batch_dims", e.batch_dims}}, e.gradient});
  }
  const CaseInput outside = listed_ids({5, 2}, {0, 1, 3, 0, -3, -4, 0, 4, -4, 0});
  c.variants.push_back({"zero_outside", {f32({3, 4, 2}), outside}, {{"zero_outside", true}}});
  for (const DType type : kOtherTypes) {
    c.variants.push_back({dtype_name(type), {typed(type, {3, 4, 2}), outside}, {}, false});
  }
  return c;
}

OpCase scatter_nd_case() {
  OpCase c;
  c.op = "scatter_nd";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape shape;
    const auto to = nd_positions(in[0].shape, integer("scatter_nd", v, "batch_dims"), in[1], shape);
    return std::vector<Ref>{
        scattered(in[0], to, in[2], std::get<std::string>(attribute("scatter_nd", v, "reduction")))};
  };
  const auto add = [&c](std::string name, CaseInput x, const NdExample& e, std::string reduction, bool gradient,
                        Fill fill = {}) {
    Shape shape;
    nd_positions(e.x, e.batch_dims, Ref::zeros(e.index.type.shape), shape);
    const CaseInput updates = {{x.type.dtype, shape}, std::move(fill)};
    c.variants.push_back({std::move(name),
                          {std::move(x), e.index, updates},
                          {{"reduction", std::move(reduction)}, {"batch_dims", e.batch_dims}},
                          gradient});
  };
  for (const NdExample& e : nd_examples()) {
    for (const std::string reduction : {"none", "add", "mul", "max", "min"}) {
      const bool parallel = e.name.starts_with("parallel");
      if (parallel && reduction != "none" && reduction != "add") continue;
      // Where indices repeat, only reduction none has no gradient; outside ones are dropped without harm.
      const bool gradient = !parallel && e.name != "no_tuples" && (reduction != "none" || e.name == "one_tuple");
      add(reduction + "_" + e.name, f32(e.x), e, reduction, gradient);
    }
  }
  const NdExample unique = {"unique", {5, 33}, listed_ids({4, 1}, {3, 0, -1, 2})};
  add("none_unique", f32(unique.x), unique, "none", true);
  const Fill small = {.kind = Fill::Kind::index, .a = 0, .b = 9};
  for (const DType type : kOtherTypes) {
    add(std::string("none_") + dtype_name(type), typed(type, unique.x), unique, "none", false, small);
  }
  for (const DType type : {DType::i32, DType::i64}) {
    add(std::string("add_") + dtype_name(type), typed(type, {5, 3}), {"", {5, 3}, indices(DType::i64, {9, 1}, 5)},
        "add", false, small);
  }
  for (Variant& v : c.variants) {
    if (v.name.starts_with("mul")) v.tolerance = 1e-5;
  }
  c.bf16_inputs = {0, 2};
  return c;
}

// --- one_hot, non_zero ---

OpCase one_hot_case() {
  OpCase c;
  c.op = "one_hot";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const std::int64_t depth = integer("one_hot", v, "depth");
    const std::size_t axis = axis_of("one_hot", v, in[0].shape.size() + 1);
    Shape shape = in[0].shape;
    shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(axis), depth);
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      Ints at = unflatten(i, shape);
      const std::int64_t k = at[axis];
      at.erase(at.begin() + static_cast<std::ptrdiff_t>(axis));
      const bool on = place(in[0][flatten(at, in[0].shape)], depth) == k;
      y[i] = std::get<double>(attribute("one_hot", v, on ? "on_value" : "off_value"));
    }
    return std::vector<Ref>{y};
  };
  const auto deep = [](std::int64_t depth, std::int64_t axis = -1) { return Attrs{{"depth", depth}, {"axis", axis}}; };
  c.variants = {{"scalar", {indices(DType::i64, {}, 5)}, deep(5), false},
                {"labels", {indices(DType::i32, {33}, 10)}, deep(10), false},
                {"first_axis", {indices(DType::i64, {33}, 10)}, deep(10, 0), false},
                {"middle", {indices(DType::i64, {3, 5}, 7)}, deep(7, 1), false},
                {"negative_axis", {indices(DType::i64, {3, 5}, 7)}, deep(7, -2), false},
                {"outside", {listed_ids({7}, {0, 3, 4, -4, -5, 1e15, -1e15})}, deep(4), false},
                {"empty", {indices(DType::i64, {0, 3}, 4)}, deep(4), false},
                {"parallel", {indices(DType::i64, {20011}, 10)}, deep(10), false},
                {"parallel_first", {indices(DType::i64, {20011}, 10)}, deep(10, 0), false}};
  Attrs values = deep(7);
  values.emplace_back("on_value", 2.5);
  values.emplace_back("off_value", -kInf);
  c.variants.push_back({"values", {indices(DType::i64, {3, 5}, 7)}, values, false});
  for (const DType type : kOtherTypes) {
    Attrs attrs = deep(7);
    attrs.emplace_back("dtype", std::string(dtype_name(type)));
    c.variants.push_back({dtype_name(type), {indices(DType::i64, {3, 5}, 7)}, attrs, false});
  }
  return c;
}

OpCase non_zero_case() {
  OpCase c;
  c.op = "non_zero";
  c.reference = [](const std::vector<Ref>& in, const Variant&) {
    const Ref& x = in[0];
    const auto rank = static_cast<std::int64_t>(x.shape.size());
    Ref y = Ref::zeros({rank, x.size()});
    Ref count = Ref::zeros({});
    for (std::int64_t d = 0; d < rank; ++d) {
      for (std::int64_t i = 0; i < x.size(); ++i) {
        y[d * x.size() + i] = static_cast<double>(x.shape[static_cast<std::size_t>(d)]);
      }
    }
    for (std::int64_t i = 0; i < x.size(); ++i) {
      if (x[i] == 0) continue;
      const Ints at = unflatten(i, x.shape);
      const auto column = static_cast<std::int64_t>(count[0]);
      for (std::int64_t d = 0; d < rank; ++d) {
        y[d * x.size() + column] = static_cast<double>(at[static_cast<std::size_t>(d)]);
      }
      count[0] += 1;
    }
    return std::vector<Ref>{y, count};
  };
  const Fill sparse = {.kind = Fill::Kind::index, .a = -1, .b = 2};
  c.variants = {{"scalar", {f32({}, listed({3}))}, {}, false},
                {"scalar_zero", {f32({}, listed({0}))}, {}, false},
                {"line", {f32({33}, sparse)}, {}, false},
                {"matrix", {f32({5, 33}, sparse)}, {}, false},
                {"rank_4", {f32({3, 4, 1, 5}, sparse)}, {}, false},
                {"none", {f32({3, 5}, listed({0, -0.0}))}, {}, false},
                {"all", {f32({3, 5}, listed({1, kNan, kInf, 1e-45}))}, {}, false},
                {"empty", {f32({3, 0, 2})}, {}, false},
                {"parallel", {f32({70, 1025}, sparse)}, {}, false},
                {"parallel_narrow", {f32({20011, 3}, sparse)}, {}, false}};
  for (const DType type : kOtherTypes) {
    const Fill fill = type == DType::u8 || type == DType::boolean ? Fill{.kind = Fill::Kind::index, .a = 0, .b = 3}
                                                                  : listed({0, -0.0, 1, 0, -3, 0, 2});
    c.variants.push_back({dtype_name(type), {{{type, {5, 7}}, fill}}, {}, false});
  }
  return c;
}

}  // namespace

std::vector<OpCase> indexing_cases() {
  return {embedding_case(),       embedding_backward_case(), gather_case(),
          gather_backward_case(), gather_elements_case(),    scatter_elements_case(),
          gather_nd_case(),       scatter_nd_case(),         one_hot_case(),
          non_zero_case()};
}

}  // namespace trivet::testing
