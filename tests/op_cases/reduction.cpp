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
  const bool all = axes.empty() && !std::get<bool>(attribute(op, v, "noop_with_empty_axes"));
  std::vector<bool> reduced(x.shape.size(), all);
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
  c.variants.push_back({"no_axes", {f32({3, 33})}, {{"noop_with_empty_axes", true}}});
  c.variants.push_back({"no_axes_of_scalar", {f32({})}, {{"noop_with_empty_axes", true}}});
  for (const std::int64_t n : {2, 10, 15, 16, 17, 64, 100, 255, 300}) {
    add("short_rows_" + std::to_string(n), f32({67, n}), {1}, false, false);
    add("short_columns_" + std::to_string(n), f32({67, n}), {0}, false, false);
  }
  for (Variant& v : c.variants) {
    if (v.name.starts_with("parallel") || v.name.starts_with("short")) v.tolerance = kLongSum;
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

// The integer dtypes that ONNX's operators have.
void add_integers(std::vector<OpCase>& cases) {
  const Fill numbers = {.kind = Fill::Kind::index, .a = -20, .b = 20};
  const Fill factors = {.kind = Fill::Kind::index, .a = -3, .b = 4};
  const Fill bytes = {.kind = Fill::Kind::index, .a = 0, .b = 100};
  for (OpCase& c : cases) {
    const bool extreme = c.op == "reduce_max" || c.op == "reduce_min";
    const bool product = c.op == "reduce_prod";
    if (!extreme && !product && c.op != "reduce_sum" && c.op != "reduce_l1" && c.op != "reduce_sum_square") continue;
    std::vector<DType> types = {DType::i32, DType::i64};
    if (extreme) types = {DType::i32, DType::i64, DType::u8, DType::i8};
    for (const DType type : types) {
      const Fill& fill = product ? factors : type == DType::u8 ? bytes : numbers;
      const auto add = [&](const std::string& name, Shape shape, std::vector<std::int64_t> axes) {
        c.variants.push_back({std::string(dtype_name(type)) + "_" + name,
                              {{{type, std::move(shape)}, fill}},
                              {{"axes", std::move(axes)}},
                              false});
      };
      add("rows", {5, 9}, {1});
      add("columns", {9, 67}, {0});
      add("alternating", {2, 3, 4, 3, 2}, {1, 3});
      add("all", {2, 5}, {0, 1});
      if (!product) add("parallel", {300, 129}, {0});
    }
  }
}

// Shared tail of the other reductions: finish() of what join() made of the elements.
using Finish = double (*)(double);

OpCase finished(OpCase c, Finish finish) {
  c.reference = [joined = c.reference, finish](const std::vector<Ref>& in, const Variant& v) {
    std::vector<Ref> y = joined(in, v);
    for (double& value : y[0].data) value = finish(value);
    return y;
  };
  return c;
}

void set_fill(OpCase& c, const Fill& fill) {
  for (Variant& v : c.variants) {
    if (v.inputs[0].fill.kind == Fill::Kind::normal) v.inputs[0].fill = fill;
  }
}

void add_empty(OpCase& c) {
  c.variants.push_back({"of_nothing", {f32({0, 3})}, {{"axes", std::vector<std::int64_t>{0}}}, false});
}

OpCase log_sum_exp_case() {
  OpCase c = reduce_case("reduce_log_sum_exp", 0, nullptr);
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape shape;
    const std::vector<std::int64_t> target = targets(in[0], "reduce_log_sum_exp", v, shape);
    Ref most = Ref::zeros(shape);
    for (double& value : most.data) value = -kInf;
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      double& value = most[target[static_cast<std::size_t>(i)]];
      value = larger(value, in[0][i]);
    }
    Ref sum = Ref::zeros(shape);
    for (std::int64_t i = 0; i < in[0].size(); ++i) {
      const std::int64_t k = target[static_cast<std::size_t>(i)];
      sum[k] += in[0][i] == most[k] ? 1 : std::exp(in[0][i] - most[k]);
    }
    for (std::int64_t k = 0; k < sum.size(); ++k) {
      sum[k] = std::isfinite(most[k]) ? most[k] + std::log(sum[k]) : most[k];
    }
    return std::vector<Ref>{sum};
  };
  add_extreme_variants(c);
  return c;
}

OpCase prod_case() {
  OpCase c = reduce_case("reduce_prod", 1, [](double a, double b) { return a * b; });
  set_fill(c, {.kind = Fill::Kind::uniform, .a = 0.9, .b = 1.1});
  for (Variant& v : c.variants) {
    if (v.name.starts_with("parallel")) v.inputs[0].fill = {.kind = Fill::Kind::uniform, .a = 0.9999, .b = 1.0001};
  }
  const Attrs rows = {{"axes", std::vector<std::int64_t>{1}}};
  c.variants.push_back({"one_zero", {f32({3, 5}, listed({1, 2, 0, -3, 0.5, 2, 1}))}, rows});
  c.variants.push_back({"two_zeros", {f32({3, 5}, listed({0, 2, 0, -3, 1.5}))}, rows});
  c.variants.push_back(
      {"leaves_the_range_and_returns", {f32({2, 33}, listed({1e30, 1e30, 1e-30, 1e-30}))}, rows, false});
  add_empty(c);
  return c;
}

}  // namespace

std::vector<OpCase> reduction_cases() {
  const auto sum = [](double a, double b) { return a + b; };
  const auto magnitudes = [](double a, double b) { return a + std::abs(b); };
  const auto squares = [](double a, double b) { return a + b * b; };
  std::vector<OpCase> cases = {reduce_case("reduce_sum", 0, sum),
                               reduce_case("reduce_mean", 0, sum, true),
                               reduce_case("reduce_max", -kInf, larger),
                               reduce_case("reduce_min", kInf, smaller),
                               prod_case(),
                               reduce_case("reduce_l1", 0, magnitudes),
                               finished(reduce_case("reduce_l2", 0, squares), std::sqrt),
                               reduce_case("reduce_sum_square", 0, squares),
                               finished(reduce_case("reduce_log_sum", 0, sum), std::log),
                               log_sum_exp_case(),
                               squared_norm_case()};
  for (OpCase& c : cases) {
    const std::string& op = c.op;
    if (op == "reduce_max" || op == "reduce_min") add_extreme_variants(c);
    if (op == "reduce_sum" || op.starts_with("reduce_l") || op == "reduce_sum_square") add_empty(c);
    if (op == "reduce_log_sum") set_fill(c, {.kind = Fill::Kind::uniform, .a = 0.1, .b = 2});
    if (op == "reduce_l2") {
      c.variants.push_back({"zeros", {f32({3, 5}, listed({0}))}, {{"axes", std::vector<std::int64_t>{1}}}, false});
    }
    c.bf16_inputs = {0};
  }
  add_integers(cases);
  return cases;
}

}  // namespace trivet::testing
