#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
Fill normal(double mean, double deviation) { return {.kind = Fill::Kind::normal, .a = mean, .b = deviation}; }
Fill uniform(double low, double high) { return {.kind = Fill::Kind::uniform, .a = low, .b = high}; }
Fill repeated(std::vector<double> v) { return {.kind = Fill::Kind::values, .values = std::move(v)}; }

// Long sums of both signs cancel, so their error is measured by the number of terms.
constexpr double kLongSums = 2e-5;

// Calls f with the indices of each row along the axis.
template <class F>
void for_each_row(const std::string& op, const Variant& v, const Shape& shape, const F& f) {
  const auto given = std::get<std::int64_t>(attribute(op, v, "axis"));
  const auto axis = static_cast<std::size_t>(given < 0 ? given + static_cast<std::int64_t>(shape.size()) : given);
  std::int64_t inner = 1, outer = 1;
  for (std::size_t i = 0; i < axis; ++i) outer *= shape[i];
  for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      std::vector<std::int64_t> row;
      for (std::int64_t k = 0; k < shape[axis]; ++k) row.push_back((o * shape[axis] + k) * inner + i);
      f(row);
    }
  }
}

std::vector<Ref> softmax_of(const std::string& op, bool log, const Ref& x, const Variant& v) {
  Ref y = Ref::zeros(x.shape);
  for_each_row(op, v, x.shape, [&](const std::vector<std::int64_t>& row) {
    double max = -kInfinity, sum = 0;
    for (const std::int64_t i : row) max = x[i] > max ? x[i] : max;
    for (const std::int64_t i : row) sum += std::exp(x[i] - max);
    for (const std::int64_t i : row) y[i] = log ? x[i] - max - std::log(sum) : std::exp(x[i] - max) / sum;
  });
  return {y};
}

// dx[i] = sum over j of dy[j] * d y[j] / d x[i].
std::vector<Ref> softmax_backward_of(const std::string& op, bool log, const std::vector<Ref>& in, const Variant& v) {
  const Ref &dy = in[0], &y = in[1];
  Ref dx = Ref::zeros(y.shape);
  for_each_row(op, v, y.shape, [&](const std::vector<std::int64_t>& row) {
    for (const std::int64_t i : row) {
      for (const std::int64_t j : row) {
        const double same = i == j ? 1 : 0;
        dx[i] += dy[j] * (log ? same - std::exp(y[i]) : y[j] * (same - y[i]));
      }
    }
  });
  return {dx};
}

OpCase softmax_case(const std::string& op, bool log) {
  OpCase result{
      .op = op,
      .reference = [op, log](const std::vector<Ref>& in, const Variant& v) { return softmax_of(op, log, in[0], v); },
      .variants = {},
      .bf16_inputs = {0}};
  result.variants = {
      {"one_element", {f32({1})}},
      {"rows_of_3", {f32({5, 3})}},
      {"rows_of_10", {f32({7, 10})}},
      {"rows_of_16", {f32({3, 16})}},
      {"rows_of_17", {f32({3, 17})}},
      {"rows_of_33", {f32({2, 3, 33})}},
      {"rows_of_64", {f32({3, 64})}},
      {"rows_of_65", {f32({3, 65})}},
      {"row_of_1025", {f32({2, 1025})}},
      {"many_rows", {f32({500, 40})}},
      {"many_rows_of_10", {f32({1700, 10})}},
      {"axis_0", {f32({3, 5})}, {{"axis", std::int64_t{0}}}},
      {"axis_1_of_3", {f32({2, 33, 70})}, {{"axis", std::int64_t{1}}}},
      {"axis_parallel", {f32({3, 20, 300})}, {{"axis", std::int64_t{-2}}}},
      {"axis_before_ones", {f32({4, 6, 1})}, {{"axis", std::int64_t{1}}}},
      {"all_equal", {f32({3, 7}, repeated({1e4}))}},
      {"mean_1e4", {f32({4, 33}, normal(1e4, 1))}},
      {"large", {f32({4, 33}, normal(0, 100))}, {}, /*gradient=*/false},
      {"huge", {f32({4, 33}, normal(0, 1e30))}, {}, /*gradient=*/false},
  };
  const std::vector<double> inf = {1, -kInfinity, 2, 0, -kInfinity};
  const std::vector<double> masked = {-kInfinity, -kInfinity, -kInfinity, 1, 2, 3};
  const std::vector<double> broken = {1, kNan, 3, kInfinity, 0, 1, kInfinity, kInfinity, -kInfinity};
  result.variants.push_back({"some_masked", {f32({4, 5}, repeated(inf))}, {}, false});
  result.variants.push_back({"fully_masked_rows", {f32({4, 3}, repeated(masked))}, {}, false});
  result.variants.push_back({"nan_and_infinity", {f32({3, 3}, repeated(broken))}, {}, false});
  result.variants.push_back({"nan_and_infinity_wide",
                             {f32({10, 70}, repeated({1, kNan, 3, kInfinity, 0, -kInfinity, 2, 5, 1, 7, 2}))},
                             {},
                             false});
  result.variants.push_back({"some_masked_wide", {f32({3, 70}, repeated(inf))}, {}, false});
  result.variants.push_back({"axis_0_not_finite",
                             {f32({3, 6}, repeated({-kInfinity, 1, kNan, 0, kInfinity, 2}))},
                             {{"axis", std::int64_t{0}}},
                             false});
  return result;
}

OpCase softmax_backward_case(const std::string& op, bool log) {
  OpCase result{.op = op,
                .reference = [op, log](const std::vector<Ref>& in,
                                       const Variant& v) { return softmax_backward_of(op, log, in, v); },
                .variants = {},
                .bf16_inputs = {0, 1}};
  const Fill y = log ? normal(-4, 1) : uniform(0, 0.1);
  const auto add = [&](const std::string& name, const Shape& shape, Attrs attrs, double tolerance = 2e-6) {
    result.variants.push_back({name, {f32(shape), f32(shape, y)}, std::move(attrs), /*gradient=*/false, tolerance});
  };
  add("one_element", {1}, {});
  add("rows_of_3", {5, 3}, {});
  add("rows_of_33", {2, 3, 33}, {});
  add("row_of_1025", {2, 1025}, {}, kLongSums);
  add("many_rows", {500, 40}, {});
  add("axis_0", {3, 5}, {{"axis", std::int64_t{0}}});
  add("axis_1_of_3", {2, 33, 70}, {{"axis", std::int64_t{1}}});
  add("axis_parallel", {3, 20, 300}, {{"axis", std::int64_t{-2}}});
  result.variants.push_back({"masked",
                             {f32({2, 4}), f32({2, 4}, repeated({log ? -kInfinity : 0, log ? 0.0 : 1.0}))},
                             {},
                             /*gradient=*/false});
  return result;
}

}  // namespace

std::vector<OpCase> softmax_cases() {
  return {softmax_case("softmax", false), softmax_backward_case("softmax_backward", false),
          softmax_case("log_softmax", true), softmax_backward_case("log_softmax_backward", true)};
}

}  // namespace trivet::testing
