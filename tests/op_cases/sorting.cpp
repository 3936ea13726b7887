#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Ints = std::vector<std::int64_t>;

constexpr DType kOtherTypes[] = {DType::f64,     DType::i32,  DType::i64, DType::u8,
                                 DType::boolean, DType::bf16, DType::f16, DType::i8};

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
Fill listed(std::vector<double> values) { return {.kind = Fill::Kind::values, .values = std::move(values)}; }
CaseInput typed(DType type, Shape shape) {
  const double low = type == DType::u8 || type == DType::boolean ? 0 : -100;
  return {{type, std::move(shape)}, {.kind = Fill::Kind::index, .a = low, .b = 100}};
}
const Fill kTies = {.kind = Fill::Kind::index, .a = -2, .b = 3};
const Fill kSpecial = {.kind = Fill::Kind::values, .values = {1, 5, 2, kNan, -0.0, 3, kInf, kNan, 0, -kInf, 2, 3, -1}};

// The lines of x along its attribute "axis": for each the flat positions of its elements.
std::vector<Ints> lines(const std::string& op, const Variant& v, const Shape& x, std::size_t& axis) {
  const std::int64_t given = std::get<std::int64_t>(attribute(op, v, "axis"));
  axis = static_cast<std::size_t>(given < 0 ? given + static_cast<std::int64_t>(x.size()) : given);
  std::int64_t outer = 1, inner = 1;
  for (std::size_t d = 0; d < axis; ++d) outer *= x[d];
  for (std::size_t d = axis + 1; d < x.size(); ++d) inner *= x[d];
  std::vector<Ints> result;
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      Ints line;
      for (std::int64_t k = 0; k < x[axis]; ++k) line.push_back((o * x[axis] + k) * inner + i);
      result.push_back(std::move(line));
    }
  }
  return result;
}

// NaN is larger than all numbers.
bool less(double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; }

// --- argmax, argmin ---

OpCase arg_case(const std::string& op, bool smallest) {
  OpCase c;
  c.op = op;
  c.reference = [=](const std::vector<Ref>& in, const Variant& v) {
    std::size_t axis = 0;
    const std::vector<Ints> all = lines(op, v, in[0].shape, axis);
    const bool last = std::get<bool>(attribute(op, v, "select_last_index"));
    Shape shape = in[0].shape;
    shape[axis] = 1;
    Ref y = Ref::zeros(shape);
    for (std::size_t l = 0; l < all.size(); ++l) {
      std::size_t best = 0;
      for (std::size_t k = 1; k < all[l].size(); ++k) {
        const double sign = smallest ? -1 : 1;
        const double now = sign * in[0][all[l][k]], most = sign * in[0][all[l][best]];
        if (less(most, now) || (last && !less(now, most))) best = k;
      }
      y.data[l] = static_cast<double>(best);
    }
    if (!std::get<bool>(attribute(op, v, "keepdims"))) {
      y.shape.erase(y.shape.begin() + static_cast<std::ptrdiff_t>(axis));
    }
    return std::vector<Ref>{y};
  };
  const auto add = [&c](const std::string& name, CaseInput x, std::int64_t axis, bool keepdims = true) {
    for (const bool last : {false, true}) {
      c.variants.push_back({name + (last ? "_last" : ""),
                            {x},
                            {{"axis", axis}, {"keepdims", keepdims}, {"select_last_index", last}},
                            false});
    }
  };
  add("one", f32({1}), 0, false);
  add("rows", f32({5, 33}), 1, false);
  add("rows_kept", f32({5, 1025}), -1);
  add("columns", f32({33, 5}), 0);
  add("middle", f32({3, 33, 5}), 1, false);
  for (const std::int64_t n : {1, 3, 10, 16, 33, 64, 200, 255, 256, 257, 1000}) {
    add("ties_in_rows_" + std::to_string(n), f32({37, n}, kTies), 1);
  }
  add("ties_in_columns", f32({33, 300}, kTies), 0);
  add("special_in_short_rows", f32({33, 11}, kSpecial), 1);
  add("special_in_rows", f32({33, 129}, kSpecial), 1);
  add("special_in_long_rows", f32({5, 700}, kSpecial), 1);
  add("special_in_columns", f32({33, 7}, kSpecial), 0);
  add("all_nan", f32({3, 65}, listed({kNan})), 1);
  add("all_nan_long", f32({3, 300}, listed({kNan})), 1);
  add("all_minus_infinity", f32({3, 65}, listed({-kInf})), 1);
  add("all_infinity", f32({3, 65}, listed({kInf})), 1);
  add("all_minus_infinity_columns", f32({65, 3}, listed({-kInf})), 0);
  add("no_rows", f32({0, 3}), 1);
  add("parallel_rows", f32({5003, 10}), 1, false);
  add("parallel_long_rows", f32({70, 1025}), 1, false);
  add("parallel_columns", f32({4, 100, 301}), 1);
  for (const DType type : {DType::i32, DType::i64, DType::u8, DType::i8}) {
    add(dtype_name(type), {{type, {5, 33}}, {.kind = Fill::Kind::index, .a = type == DType::u8 ? 0.0 : -9, .b = 9}}, 1);
    add(std::string("columns_") + dtype_name(type), typed(type, {9, 33}), 0);
    add(std::string("extremes_") + dtype_name(type), {{type, {3, 5}}, listed({0, -1e30, 1e30, 5})}, 1);
  }
  c.bf16_inputs = {0};
  return c;
}

// --- top_k, sort ---

// The lines' places in their order.
std::vector<std::size_t> order(const Ref& x, const Ints& line, bool descending) {
  std::vector<std::size_t> places(line.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::stable_sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return descending ? less(x[line[b]], x[line[a]]) : less(x[line[a]], x[line[b]]);
  });
  return places;
}

// Values and indices of the chosen places of each line.
std::vector<Ref> chosen(const Ref& x, const std::vector<Ints>& all, std::size_t axis, std::int64_t k,
                        const std::vector<std::vector<std::size_t>>& places) {
  Shape shape = x.shape;
  shape[axis] = k;
  Ref values = Ref::zeros(shape), indices = Ref::zeros(shape);
  std::int64_t inner = 1;
  for (std::size_t d = axis + 1; d < shape.size(); ++d) inner *= shape[d];
  for (std::size_t l = 0; l < all.size(); ++l) {
    const auto line = static_cast<std::int64_t>(l);
    for (std::int64_t j = 0; j < k; ++j) {
      const std::int64_t to = (line / inner * k + j) * inner + line % inner;
      const std::size_t place = places[l][static_cast<std::size_t>(j)];
      values[to] = x[all[l][place]];
      indices[to] = static_cast<double>(place);
    }
  }
  return {values, indices};
}

OpCase top_k_case() {
  OpCase c;
  c.op = "top_k";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    std::size_t axis = 0;
    const std::vector<Ints> all = lines("top_k", v, in[0].shape, axis);
    const std::int64_t k = std::get<std::int64_t>(attribute("top_k", v, "k"));
    std::vector<std::vector<std::size_t>> places;
    for (const Ints& line : all) {
      places.push_back(order(in[0], line, std::get<bool>(attribute("top_k", v, "largest"))));
      places.back().resize(static_cast<std::size_t>(k));
      if (!std::get<bool>(attribute("top_k", v, "sorted"))) std::sort(places.back().begin(), places.back().end());
    }
    return chosen(in[0], all, axis, k, places);
  };
  const auto add = [&c](const std::string& name, const CaseInput& x, std::int64_t k, std::int64_t axis,
                        bool gradient = true) {
    for (const bool largest : {true, false}) {
      const std::string suffix = largest ? "" : "_smallest";
      const Attrs attrs = {{"k", k}, {"axis", axis}, {"largest", largest}};
      c.variants.push_back({name + suffix, {x}, attrs, gradient});
      Attrs unsorted = attrs;
      unsorted.emplace_back("sorted", false);
      c.variants.push_back({name + suffix + "_unsorted", {x}, unsorted, gradient});
    }
  };
  add("one", f32({1}), 1, 0);
  add("line", f32({33}), 5, 0);
  add("all_of_it", f32({3, 33}), 33, 1);
  add("rows", f32({3, 1025}), 7, -1);
  add("columns", f32({65, 3}), 4, 0);
  add("middle", f32({2, 9, 3}), 2, 1);
  add("many", f32({2, 1000}), 60, 1);
  add("more_than_an_eighth", f32({2, 1000}), 200, 1);
  add("ties", f32({5, 300}, kTies), 30, 1, false);
  add("ties_many", f32({2, 1000}, kTies), 60, 1, false);
  add("special", f32({5, 100}, kSpecial), 11, 1, false);
  add("special_short", f32({5, 13}, kSpecial), 6, 1, false);
  add("none", f32({3, 5}), 0, 1, false);
  add("of_nothing", f32({3, 0}), 0, 1, false);
  add("no_lines", f32({0, 5}), 2, 1, false);
  add("parallel", f32({100, 301}), 5, 1, false);
  for (const DType type : kOtherTypes) {
    add(dtype_name(type), typed(type, {3, 100}), 5, 1, false);
    add(std::string("many_") + dtype_name(type), typed(type, {3, 600}), 70, 1, false);
  }
  return c;
}

OpCase sort_case() {
  OpCase c;
  c.op = "sort";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    std::size_t axis = 0;
    const std::vector<Ints> all = lines("sort", v, in[0].shape, axis);
    std::vector<std::vector<std::size_t>> places;
    for (const Ints& line : all) {
      places.push_back(order(in[0], line, std::get<bool>(attribute("sort", v, "descending"))));
    }
    return chosen(in[0], all, axis, in[0].shape[axis], places);
  };
  const auto add = [&c](const std::string& name, const CaseInput& x, std::int64_t axis, bool gradient = true) {
    for (const bool descending : {false, true}) {
      c.variants.push_back(
          {name + (descending ? "_descending" : ""), {x}, {{"axis", axis}, {"descending", descending}}, gradient});
    }
  };
  add("one", f32({1}), 0);
  add("line", f32({33}), 0);
  add("rows", f32({3, 65}), -1);
  add("columns", f32({65, 3}), 0);
  add("middle", f32({2, 9, 3}), 1);
  add("long_line", f32({1025}, {.b = 1e10}), 0);
  add("ties", f32({5, 300}, kTies), 1, false);
  add("special", f32({5, 100}, kSpecial), 1, false);
  add("special_short", f32({5, 13}, kSpecial), 1, false);
  add("subnormal", f32({100}, listed({1e-45, -1e-45, 0, 1e-40, -1e-40, 1})), 0, false);
  add("equal", f32({3, 70}, listed({2})), 1, false);
  add("empty", f32({3, 0}), 1, false);
  add("parallel", f32({100, 301}), 1, false);
  add("parallel_columns", f32({301, 100}), 0, false);
  for (const DType type : kOtherTypes) {
    add(dtype_name(type), typed(type, {3, 100}), 1, false);
    add(std::string("extremes_") + dtype_name(type), {{type, {3, 7}}, listed({0, -1e30, 1e30, 5, 0})}, 1, false);
  }
  return c;
}

// --- cumulative_sum ---

OpCase cumulative_sum_case() {
  OpCase c;
  c.op = "cumulative_sum";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    std::size_t axis = 0;
    Ref y = in[0];
    for (Ints line : lines("cumulative_sum", v, in[0].shape, axis)) {
      if (std::get<bool>(attribute("cumulative_sum", v, "reverse"))) std::reverse(line.begin(), line.end());
      double total = 0;
      for (const std::int64_t i : line) {
        const double before = total;
        total += in[0][i];
        y[i] = std::get<bool>(attribute("cumulative_sum", v, "exclusive")) ? before : total;
      }
    }
    return std::vector<Ref>{y};
  };
  const auto add = [&c](const std::string& name, const CaseInput& x, std::int64_t axis, bool gradient = true) {
    for (const bool exclusive : {false, true}) {
      for (const bool reverse : {false, true}) {
        c.variants.push_back({name + (exclusive ? "_exclusive" : "") + (reverse ? "_reverse" : ""),
                              {x},
                              {{"axis", axis}, {"exclusive", exclusive}, {"reverse", reverse}},
                              gradient});
      }
    }
  };
  add("one", f32({1}), 0);
  add("rows", f32({3, 33}), 1);
  add("columns", f32({33, 3}), 0);
  add("middle", f32({2, 9, 3}), -2);
  add("long_rows", f32({3, 2500}), 1);
  add("long_columns", f32({1025, 3}), 0);
  add("mean_1e4_rows", f32({3, 2500}, {.a = 1e4}), 1, false);
  add("mean_1e4_columns", f32({1025, 3}, {.a = 1e4}), 0, false);
  add("special", f32({2, 6}, listed({1, kInf, 2, -kInf, 1, kNan})), 1, false);
  add("special_long", f32({2, 1100}, listed({1, 2, 3, kInf, 4})), 1, false);
  add("empty", f32({3, 0}), 1, false);
  add("parallel", f32({30, 1501}), 1, false);
  add("parallel_columns", f32({41, 600}), 0, false);
  for (const DType type : {DType::i32, DType::i64}) {
    add(std::string("rows_") + dtype_name(type), typed(type, {3, 1100}), 1, false);
    add(std::string("columns_") + dtype_name(type), typed(type, {33, 5}), 0, false);
  }
  c.bf16_inputs = {0};
  return c;
}

}  // namespace

std::vector<OpCase> sorting_cases() {
  return {arg_case("argmax", false), arg_case("argmin", true), top_k_case(), sort_case(), cumulative_sum_case()};
}

}  // namespace trivet::testing
