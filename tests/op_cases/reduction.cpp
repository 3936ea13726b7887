#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
Fill listed(std::vector<double> values) { return {.kind = Fill::Kind::values, .values = std::move(values)}; }

// For each element of x, in order: the flat position in the result that it is reduced into. `shape` becomes the
// result's shape.
std::vector<std::int64_t> targets(const Ref& x, const std::string& op, const Variant& v, Shape& shape) {
  const auto axes = std::get<std::vector<std::int64_t>>(attribute(op, v, "axes"));
  const bool keepdims = std::get<bool>(attribute(op, v, "keepdims"));
  const auto rank = static_cast<std::int64_t>(x.shape.size());
  std::vector<bool> reduced(x.shape.size(), axes.empty());
  for (const std::int64_t axis : axes) reduced[static_cast<std::size_t>((axis + rank) % rank)] = true;
  shape.clear();
  for (std::size_t d = 0; d < x.shape.size(); ++d) {
    if (!reduced[d] || keepdims) shape.push_back(reduced[d] ? 1 : x.shape[d]);
  }
  std::vector<std::int64_t> result;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    std::int64_t rest = i, target = 0, stride = 1;
    for (std::size_t d = x.shape.size(); d-- > 0;) {
      if (!reduced[d]) {
        target += rest % x.shape[d] * stride;
        stride *= x.shape[d];
      }
      rest /= x.shape[d];
    }
    result.push_back(target);
  }
  return result;
}

using Join = double (*)(double, double);

OpCase reduce_case(const std::string& op, double start, Join join, bool mean = false) {
  OpCase c;
  c.op = op;
  c.reference = [=](const std::vector<Ref>& in, const Variant& v) {
    Shape shape;
    const std::vector<std::int64_t> target = targets(in[0], op, v, shape);
    Ref y = Ref::zeros(shape);
    for (double& value : y.data) value = start;
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      double& value = y[target[static_cast<std::size_t>(i)]];
      value = join(value, in[0][i]);
    }
    if (mean) {
      for (double& value : y.data) value /= static_cast<double>(in[0].size()) / static_cast<double>(y.size());
    }
    return std::vector<Ref>{y};
  };
  using Axes = std::vector<std::int64_t>;
  const auto add = [&c](std::string name, CaseInput x, Axes axes, bool keepdims = true, bool gradient = true) {
    c.variants.push_back(
        {std::move(name), {std::move(x)}, {{"axes", std::move(axes)}, {"keepdims", keepdims}}, gradient});
  };
  // Positive and negative terms of a long sum cancel; its error is that of the partial sums.
  constexpr double kLongSum = 1e-5;
  c.variants.push_back({"scalar", {f32({})}});
  c.variants.push_back({"one", {f32({1})}});
  c.variants.push_back({"all_by_default", {f32({3, 33})}});
  add("line", f32({1025}), {0}, false);
  add("rows", f32({5, 33}), {1}, false);
  add("columns", f32({33, 5}), {0}, false);
  add("columns_kept", f32({67, 3}), {0});
  add("negative_axes", f32({3, 4, 5}), {-1, -3});
  add("middle", f32({3, 33, 5}), {1}, false);
  add("first_and_last", f32({3, 4, 5}), {0, 2}, false);
  add("images_to_channels", f32({2, 3, 4, 5}), {0, 2, 3});
  add("alternating", f32({2, 3, 4, 3, 2}), {1, 3}, false);
  add("alternating_rest", f32({2, 3, 4, 3, 2}), {0, 2, 4}, false);
  add("size_one_axes", f32({1, 7, 1}), {0, 2}, false);
  add("size_one_only", f32({33, 1}), {1});
  add("mean_1e4", f32({5, 33}, {.a = 1e4}), {1});
  add("mean_1e4_columns", f32({257, 3}, {.a = 1e4}), {0});
  add("nothing_left", f32({0, 3}), {1}, true, false);
  add("parallel_long_rows", f32({5, 70001}), {1}, true, false);
  add("parallel_many_rows", f32({3001, 17}), {1}, false, false);
  add("parallel_narrow_columns", f32({20011, 10}), {0}, false, false);
  add("parallel_wide_columns", f32({301, 557}), {0}, true, false);
  add("parallel_images", f32({8, 33, 30, 31}), {0, 2, 3}, true, false);
  add("parallel_middle", f32({6, 900, 65}), {1}, true, false);
  add("parallel_mean_1e4", f32({20011, 10}, {.a = 1e4}), {0}, false, false);
  add("parallel_all", f32({33, 4099}), {}, false, false);
  add("nan", f32({4, 33}, listed({1, 2, kNan, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})), {1}, true, false);
  add("nan_columns", f32({33, 7}, listed({1, 2, 3, 4, kNan, 6, 7, 8, 9, 10, 11})), {0}, true, false);
  for (Variant& v : c.variants) {
    if (v.name.starts_with("parallel")) v.tolerance = kLongSum;
  }
  return c;
}

void add_extreme_variants(OpCase& c) {
  for (const auto& [name, axis] : {std::pair{"rows", 1}, std::pair{"columns", 0}}) {
    const Attrs attrs = {{"axes", std::vector<std::int64_t>{axis}}};
    c.variants.push_back(
        {std::string("infinities_") + name, {f32({9, 33}, listed({-kInf, 1, kInf, -3, 0}))}, attrs, false});
    c.variants.push_back({std::string("all_minus_infinity_") + name, {f32({9, 33}, listed({-kInf}))}, attrs, false});
    c.variants.push_back({std::string("all_infinity_") + name, {f32({9, 33}, listed({kInf}))}, attrs, false});
    c.variants.push_back({std::string("large_") + name, {f32({9, 33}, {.b = 1e30})}, attrs, false});
  }
}

double larger(double a, double b) { return std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b); }
double smaller(double a, double b) { return std::isnan(a) || std::isnan(b) ? kNan : std::min(a, b); }

OpCase sum_case() {
  OpCase c = reduce_case("reduce_sum", 0, [](double a, double b) { return a + b; });
  c.variants.push_back({"sum_of_nothing", {f32({0, 3})}, {{"axes", std::vector<std::int64_t>{0}}}, false});
  c.variants.push_back({"sum_of_nothing_at_all", {f32({2, 0})}, {}, false});
  return c;
}

OpCase squared_norm_case() {
  OpCase c;
  c.op = "squared_norm";
  c.reference = [](const std::vector<Ref>& in, const Variant&) {
    Ref y = Ref::zeros({});
    for (const double x : in[0].data) y[0] += x * x;
    return std::vector<Ref>{y};
  };
  c.variants = {{"scalar", {f32({})}},
                {"one", {f32({1})}},
                {"odd", {f32({3, 33})}},
                {"line", {f32({1025})}},
                {"empty", {f32({0})}, {}, false},
                {"parallel", {f32({70, 1025})}, {}, false},
                {"mean_1e4", {f32({33, 1025}, {.a = 1e4})}, {}, false},
                {"tiny", {f32({1025}, {.b = 1e-12})}, {}, false},
                {"nan", {f32({1025}, listed({1, 2, kNan}))}, {}, false},
                {"overflows_to_infinity", {f32({33}, listed({1e25}))}, {}, false}};
  return c;
}

OpCase argmax_case() {
  OpCase c;
  c.op = "argmax";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const Ref& x = in[0];
    const auto rank = static_cast<std::int64_t>(x.shape.size());
    const auto axis = static_cast<std::size_t>((std::get<std::int64_t>(attribute("argmax", v, "axis")) + rank) % rank);
    std::int64_t inner = 1;
    for (std::size_t d = axis + 1; d < x.shape.size(); ++d) inner *= x.shape[d];
    const std::int64_t n = x.shape[axis];
    Shape shape = x.shape;
    shape[axis] = 1;
    Ref y = Ref::zeros(shape);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const std::int64_t first = i / inner * n * inner + i % inner;
      std::int64_t best = 0;
      for (std::int64_t k = 1; k < n; ++k) {
        const double now = x[first + k * inner], most = x[first + best * inner];
        if (now > most || (std::isnan(now) && !std::isnan(most))) best = k;
      }
      y[i] = static_cast<double>(best);
    }
    if (!std::get<bool>(attribute("argmax", v, "keepdims")))
      y.shape.erase(y.shape.begin() + static_cast<std::ptrdiff_t>(axis));
    return std::vector<Ref>{y};
  };
  const auto add = [&c](std::string name, CaseInput x, std::int64_t axis, bool keepdims = true) {
    c.variants.push_back({std::move(name), {std::move(x)}, {{"axis", axis}, {"keepdims", keepdims}}, false});
  };
  const Fill ties = {.kind = Fill::Kind::index, .a = 0, .b = 3};
  add("one", f32({1}), 0, false);
  add("rows", f32({5, 33}), 1, false);
  add("rows_kept", f32({5, 1025}), -1);
  add("columns", f32({33, 5}), 0);
  add("middle", f32({3, 33, 5}), 1, false);
  add("ties_in_rows", f32({33, 200}, ties), 1);
  add("ties_in_columns", f32({33, 300}, ties), 0);
  add("nan_in_rows", f32({33, 129}, listed({1, 5, 2, kNan, 3, kInf, kNan, 0, 1, 2, 3})), 1);
  add("nan_in_columns", f32({33, 7}, listed({1, 5, 2, kNan, 3, kInf, kNan, 0, 1, 2, 3})), 0);
  add("all_nan", f32({3, 65}, listed({kNan})), 1);
  add("all_minus_infinity", f32({3, 65}, listed({-kInf})), 1);
  add("all_minus_infinity_columns", f32({65, 3}, listed({-kInf})), 0);
  add("no_rows", f32({0, 3}), 1);
  add("parallel_rows", f32({5003, 10}), 1, false);
  add("parallel_columns", f32({4, 100, 301}), 1);
  return c;
}

}  // namespace

std::vector<OpCase> reduction_cases() {
  OpCase max = reduce_case("reduce_max", -kInf, larger);
  OpCase min = reduce_case("reduce_min", kInf, smaller);
  add_extreme_variants(max);
  add_extreme_variants(min);
  return {sum_case(),
          reduce_case(
              "reduce_mean", 0, [](double a, double b) { return a + b; }, true),
          std::move(max),
          std::move(min),
          squared_norm_case(),
          argmax_case()};
}

}  // namespace trivet::testing
