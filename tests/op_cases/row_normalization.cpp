#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
Fill normal(double mean, double deviation) { return {.kind = Fill::Kind::normal, .a = mean, .b = deviation}; }
Fill uniform(double low, double high) { return {.kind = Fill::Kind::uniform, .a = low, .b = high}; }
Fill repeated(std::vector<double> v) { return {.kind = Fill::Kind::values, .values = std::move(v)}; }

// Long sums of both signs cancel, so their error is measured by the number of terms.
constexpr double kLongSums = 2e-5;

struct Rows {
  std::int64_t n = 1;  // elements of a row
  Shape outer;

  Rows(const std::string& op, const Variant& v, const Shape& shape) {
    const auto given = std::get<std::int64_t>(attribute(op, v, "axis"));
    const auto axis = static_cast<std::size_t>(given < 0 ? given + static_cast<std::int64_t>(shape.size()) : given);
    for (std::size_t i = axis; i < shape.size(); ++i) n *= shape[i];
    outer = Shape(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis));
  }
};

std::vector<Ref> layer_norm_reference(const std::vector<Ref>& in, const Variant& v) {
  const Rows rows("layer_norm", v, in[0].shape);
  const std::int64_t n = rows.n;
  const double epsilon = std::get<double>(attribute("layer_norm", v, "epsilon"));
  const bool bias = in.size() > 2 && in[2].size() > 0;
  Ref y = Ref::zeros(in[0].shape);
  Ref mean = Ref::zeros(rows.outer), rstd = mean;
  for (std::int64_t r = 0; r < mean.size(); ++r) {
    double variance = 0;
    for (std::int64_t i = 0; i < n; ++i) mean[r] += in[0][r * n + i] / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) {
      variance += std::pow(in[0][r * n + i] - mean[r], 2) / static_cast<double>(n);
    }
    rstd[r] = 1 / std::sqrt(variance + epsilon);
    for (std::int64_t i = 0; i < n; ++i) {
      y[r * n + i] = (in[0][r * n + i] - mean[r]) * rstd[r] * in[1][i] + (bias ? in[2][i] : 0);
    }
  }
  return {y, mean, rstd};
}

std::vector<Ref> layer_norm_backward_reference(const std::vector<Ref>& in, const Variant&) {
  const Ref &dy = in[0], &x = in[1], &gamma = in[2], &mean = in[3], &rstd = in[4];
  const std::int64_t n = gamma.size();
  Ref dx = Ref::zeros(x.shape);
  Ref dgamma = Ref::zeros(gamma.shape), dbeta = dgamma;
  for (std::int64_t r = 0; r < mean.size(); ++r) {
    double sum = 0, product = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double normalized = (x[r * n + i] - mean[r]) * rstd[r];
      sum += dy[r * n + i] * gamma[i] / static_cast<double>(n);
      product += dy[r * n + i] * gamma[i] * normalized / static_cast<double>(n);
      dgamma[i] += dy[r * n + i] * normalized;
      dbeta[i] += dy[r * n + i];
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const double normalized = (x[r * n + i] - mean[r]) * rstd[r];
      dx[r * n + i] = rstd[r] * (dy[r * n + i] * gamma[i] - sum - normalized * product);
    }
  }
  return {dx, dgamma, dbeta};
}

std::vector<Ref> rms_norm_reference(const std::vector<Ref>& in, const Variant& v) {
  const Rows rows("rms_norm", v, in[0].shape);
  const double epsilon = std::get<double>(attribute("rms_norm", v, "epsilon"));
  Ref y = Ref::zeros(in[0].shape);
  Ref rstd = Ref::zeros(rows.outer);
  for (std::int64_t r = 0; r < rstd.size(); ++r) {
    double square = 0;
    for (std::int64_t i = 0; i < rows.n; ++i)
      square += std::pow(in[0][r * rows.n + i], 2) / static_cast<double>(rows.n);
    rstd[r] = 1 / std::sqrt(square + epsilon);
    for (std::int64_t i = 0; i < rows.n; ++i) y[r * rows.n + i] = in[0][r * rows.n + i] * rstd[r] * in[1][i];
  }
  return {y, rstd};
}

// dx[i] = sum over j of dy[j] gamma[j] * d (x[j] rstd) / d x[i], with d rstd / d x[i] = -rstd^3 x[i] / n.
std::vector<Ref> rms_norm_backward_reference(const std::vector<Ref>& in, const Variant&) {
  const Ref &dy = in[0], &x = in[1], &gamma = in[2], &rstd = in[3];
  const std::int64_t n = gamma.size();
  Ref dx = Ref::zeros(x.shape), dgamma = Ref::zeros(gamma.shape);
  for (std::int64_t r = 0; r < rstd.size(); ++r) {
    double product = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      product += dy[r * n + i] * gamma[i] * x[r * n + i];
      dgamma[i] += dy[r * n + i] * x[r * n + i] * rstd[r];
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const double of_rstd = -std::pow(rstd[r], 3) * x[r * n + i] / static_cast<double>(n);
      dx[r * n + i] = dy[r * n + i] * gamma[i] * rstd[r] + product * of_rstd;
    }
  }
  return {dx, dgamma};
}

const std::vector<std::pair<std::string, Shape>>& shapes() {
  static const std::vector<std::pair<std::string, Shape>> all = {
      {"vector", {3}},           {"small", {2, 3, 5}},     {"one_row_of_33", {1, 33}}, {"width_259", {5, 259}},
      {"width_1025", {3, 1025}}, {"1025_rows", {1025, 3}}, {"many_pieces", {600, 65}}, {"rows_of_64", {45, 64}},
      {"33_rows", {33, 16}},
  };
  return all;
}

Shape outer_of(const Shape& shape) { return Shape(shape.begin(), shape.end() - 1); }

// Inputs (x, gamma), and beta for layer_norm.
std::vector<CaseInput> norm_inputs(const Shape& shape, const Shape& row, bool bias, Fill fill = {}) {
  std::vector<CaseInput> inputs = {f32(shape, std::move(fill)), f32(row, normal(1, 0.3))};
  if (bias) inputs.push_back(f32(row));
  return inputs;
}

void add_forward_variants(OpCase& result, bool bias) {
  const auto last = [=](const Shape& shape, Fill fill = {}) {
    return norm_inputs(shape, {shape.back()}, bias, std::move(fill));
  };
  for (const auto& [name, shape] : shapes()) result.variants.push_back({name, last(shape)});
  result.variants.push_back({"epsilon", last({4, 9}), {{"epsilon", 0.1}}});
  result.variants.push_back({"two_axes", norm_inputs({3, 5, 7}, {5, 7}, bias), {{"axis", std::int64_t{-2}}}});
  result.variants.push_back({"all_axes", norm_inputs({3, 5, 7}, {3, 5, 7}, bias), {{"axis", std::int64_t{0}}}});
  result.variants.push_back({"mean_100", last({4, 48}, normal(100, 1))});
  // The mean that backward gets is rounded to float32, which at 1e4 is too coarse for the gradient's tolerance.
  result.variants.push_back({"mean_1e4", last({4, 48}, normal(1e4, 1)), {}, /*gradient=*/false});
  result.variants.push_back({"mean_1e4_wide", last({3, 1025}, normal(1e4, 1)), {}, /*gradient=*/false});
  result.variants.push_back({"large", last({4, 48}, normal(0, 1e12)), {}, /*gradient=*/false});
  result.variants.push_back({"constant", last({4, 300}, repeated({1e4})), {}, /*gradient=*/false});
  result.variants.push_back({"nan_in_a_row", last({2, 3}, repeated({1, kNan, 2, 3, 4, 5})), {}, false});
}

void add_backward_variants(OpCase& result, bool centered) {
  const auto add = [&](const std::string& name, const Shape& shape, const Shape& row, const Shape& rows, Attrs attrs) {
    std::vector<CaseInput> inputs = {f32(shape), f32(shape), f32(row)};
    if (centered) inputs.push_back(f32(rows, normal(0, 0.1)));
    inputs.push_back(f32(rows, uniform(0.5, 2)));
    result.variants.push_back({name, inputs, std::move(attrs), /*gradient=*/false, shape[0] > 100 ? kLongSums : 2e-6});
  };
  for (const auto& [name, shape] : shapes()) add(name, shape, {shape.back()}, outer_of(shape), {});
  add("two_axes", {3, 5, 7}, {5, 7}, {3}, {{"axis", std::int64_t{1}}});
  add("all_axes", {3, 5}, {3, 5}, {}, {{"axis", std::int64_t{0}}});
}

}  // namespace

std::vector<OpCase> row_normalization_cases() {
  OpCase layer{.op = "layer_norm", .reference = layer_norm_reference, .variants = {}, .bf16_inputs = {0}};
  add_forward_variants(layer, true);
  // One element is always its own mean.
  layer.variants.push_back({"one_element", norm_inputs({3, 1}, {1}, true)});
  layer.variants.push_back({"without_beta", norm_inputs({5, 33}, {33}, false)});
  layer.variants.push_back({"absent_beta", {f32({5, 33}), f32({33}), {.type = {}, .fill = {}, .absent = true}}});
  OpCase layer_backward{
      .op = "layer_norm_backward", .reference = layer_norm_backward_reference, .variants = {}, .bf16_inputs = {0, 1}};
  add_backward_variants(layer_backward, true);
  OpCase rms{.op = "rms_norm", .reference = rms_norm_reference, .variants = {}, .bf16_inputs = {0}};
  add_forward_variants(rms, false);
  OpCase rms_backward{
      .op = "rms_norm_backward", .reference = rms_norm_backward_reference, .variants = {}, .bf16_inputs = {0, 1}};
  add_backward_variants(rms_backward, false);
  return {layer, layer_backward, rms, rms_backward};
}

}  // namespace trivet::testing
