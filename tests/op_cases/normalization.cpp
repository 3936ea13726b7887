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

double number(const std::string& op, const Variant& v, const std::string& name) {
  return std::get<double>(attribute(op, v, name));
}

// ---- batch normalization ----

struct Channel {
  double mean = 0;
  double variance = 0;  // biased
};

Channel channel_of(const Ref& x, std::int64_t c, std::int64_t channels) {
  const auto n = static_cast<double>(x.size() / channels);
  Channel result;
  for (std::int64_t i = c; i < x.size(); i += channels) result.mean += x[i] / n;
  for (std::int64_t i = c; i < x.size(); i += channels) result.variance += std::pow(x[i] - result.mean, 2) / n;
  return result;
}

std::vector<Ref> batch_norm_reference(const std::vector<Ref>& in, const Variant& v) {
  Ref y = Ref::zeros(in[0].shape);
  const double epsilon = number("batch_norm", v, "epsilon");
  const std::int64_t channels = in[1].size();
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t c = i % channels;
    y[i] = (in[0][i] - in[3][c]) / std::sqrt(in[4][c] + epsilon) * in[1][c] + in[2][c];
  }
  return {y};
}

std::vector<Ref> batch_norm_train_reference(const std::vector<Ref>& in, const Variant& v) {
  const double epsilon = number("batch_norm_train", v, "epsilon");
  const double momentum = number("batch_norm_train", v, "momentum");
  const std::int64_t channels = in[1].size();
  const auto n = static_cast<double>(in[0].size() / channels);
  Ref y = Ref::zeros(in[0].shape);
  Ref mean = Ref::zeros({channels}), rstd = mean, running_mean = mean, running_var = mean;
  for (std::int64_t c = 0; c < channels; ++c) {
    const Channel channel = channel_of(in[0], c, channels);
    mean[c] = channel.mean;
    rstd[c] = 1 / std::sqrt(channel.variance + epsilon);
    for (std::int64_t i = c; i < y.size(); i += channels) {
      y[i] = (in[0][i] - mean[c]) * rstd[c] * in[1][c] + in[2][c];
    }
    running_mean[c] = (1 - momentum) * in[3][c] + momentum * channel.mean;
    running_var[c] = (1 - momentum) * in[4][c] + momentum * channel.variance * n / (n - 1);
  }
  return {y, mean, rstd, running_mean, running_var};
}

std::vector<Ref> batch_norm_backward_reference(const std::vector<Ref>& in, const Variant&) {
  const std::int64_t channels = in[2].size();
  const auto n = static_cast<double>(in[0].size() / channels);
  Ref dx = Ref::zeros(in[1].shape);
  Ref dgamma = Ref::zeros({channels}), dbeta = dgamma;
  for (std::int64_t i = 0; i < dx.size(); ++i) {
    const std::int64_t c = i % channels;
    dgamma[c] += in[0][i] * (in[1][i] - in[3][c]) * in[4][c];
    dbeta[c] += in[0][i];
  }
  for (std::int64_t i = 0; i < dx.size(); ++i) {
    const std::int64_t c = i % channels;
    const double normalized = (in[1][i] - in[3][c]) * in[4][c];
    dx[i] = in[2][c] * in[4][c] * (in[0][i] - dbeta[c] / n - normalized * dgamma[c] / n);
  }
  return {dx, dgamma, dbeta};
}

std::vector<CaseInput> batch_norm_inputs(const Shape& shape, Fill fill = {}) {
  const Shape channels = {shape.back()};
  return {f32(shape, std::move(fill)), f32(channels, normal(1, 0.3)), f32(channels), f32(channels),
          f32(channels, uniform(0.5, 2))};
}

// Long sums of both signs cancel, so their error is measured by the number of terms.
constexpr double kLongSums = 2e-5;

std::vector<OpCase> batch_norm_cases() {
  OpCase inference{.op = "batch_norm", .reference = batch_norm_reference, .variants = {}};
  OpCase train{
      .op = "batch_norm_train", .reference = batch_norm_train_reference, .variants = {}, .differentiable = {0, 1, 2}};
  OpCase backward{.op = "batch_norm_backward", .reference = batch_norm_backward_reference, .variants = {}};
  const std::vector<std::pair<std::string, Shape>> shapes = {
      {"one_channel", {3, 1}},       {"small", {2, 3, 3, 5}},  {"33_channels", {3, 5, 5, 33}},
      {"1025_channels", {3, 1025}},  {"1025_rows", {1025, 3}}, {"many_pieces", {4, 50, 50, 2}},
      {"parallel", {8, 14, 14, 16}},
  };
  for (const auto& [name, shape] : shapes) {
    const Shape channels = {shape.back()};
    const double tolerance = shape[0] * shape[1] > 100 ? kLongSums : 2e-6;
    inference.variants.push_back({name, batch_norm_inputs(shape), {}, /*gradient=*/false});
    train.variants.push_back({name, batch_norm_inputs(shape)});
    backward.variants.push_back(
        {name,
         {f32(shape), f32(shape), f32(channels), f32(channels, normal(0, 0.1)), f32(channels, uniform(0.5, 2))},
         {},
         /*gradient=*/false,
         tolerance});
  }
  const Shape shape = {4, 6, 6, 7};
  inference.variants.push_back({"epsilon", batch_norm_inputs(shape), {{"epsilon", 0.1}}, false});
  train.variants.push_back({"epsilon", batch_norm_inputs(shape), {{"epsilon", 0.1}}});
  train.variants.push_back({"momentum", batch_norm_inputs(shape), {{"momentum", 0.75}}});
  train.variants.push_back({"two_rows", batch_norm_inputs({2, 4}), {{"epsilon", 0.01}}});
  train.variants.push_back({"mean_100", batch_norm_inputs(shape, normal(100, 1))});
  // The mean that backward gets is rounded to float32, which at 1e4 is too coarse for the gradient's tolerance.
  train.variants.push_back({"mean_1e4", batch_norm_inputs(shape, normal(1e4, 1)), {}, /*gradient=*/false});
  train.variants.push_back({"mean_1e4_pieces", batch_norm_inputs({10000, 2}, normal(1e4, 1)), {}, false});
  train.variants.push_back({"large", batch_norm_inputs(shape, normal(0, 1e12)), {}, /*gradient=*/false});
  train.variants.push_back({"constant", batch_norm_inputs(shape, repeated({1e4})), {}, /*gradient=*/false});
  train.variants.push_back({"nan_in_a_channel", batch_norm_inputs({3, 3}, repeated({1, kNan, 2, 3, 4, 5})), {}, false});
  return {inference, train, backward};
}

// ---- layer normalization ----

std::vector<Ref> layer_norm_reference(const std::vector<Ref>& in, const Variant& v) {
  const double epsilon = number("layer_norm", v, "epsilon");
  const std::int64_t n = in[1].size();
  const Shape rows(in[0].shape.begin(), in[0].shape.end() - 1);
  Ref y = Ref::zeros(in[0].shape);
  Ref mean = Ref::zeros(rows), rstd = mean;
  for (std::int64_t r = 0; r < mean.size(); ++r) {
    double variance = 0;
    for (std::int64_t i = 0; i < n; ++i) mean[r] += in[0][r * n + i] / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) {
      variance += std::pow(in[0][r * n + i] - mean[r], 2) / static_cast<double>(n);
    }
    rstd[r] = 1 / std::sqrt(variance + epsilon);
    for (std::int64_t i = 0; i < n; ++i) y[r * n + i] = (in[0][r * n + i] - mean[r]) * rstd[r] * in[1][i] + in[2][i];
  }
  return {y, mean, rstd};
}

std::vector<Ref> layer_norm_backward_reference(const std::vector<Ref>& in, const Variant&) {
  const Ref &dy = in[0], &x = in[1], &gamma = in[2], &mean = in[3], &rstd = in[4];
  const std::int64_t n = gamma.size();
  Ref dx = Ref::zeros(x.shape);
  Ref dgamma = Ref::zeros({n}), dbeta = dgamma;
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

std::vector<CaseInput> layer_norm_inputs(const Shape& shape, Fill fill = {}) {
  const Shape channels = {shape.back()};
  return {f32(shape, std::move(fill)), f32(channels, normal(1, 0.3)), f32(channels)};
}

std::vector<OpCase> layer_norm_cases() {
  OpCase forward{.op = "layer_norm", .reference = layer_norm_reference, .variants = {}};
  OpCase backward{.op = "layer_norm_backward", .reference = layer_norm_backward_reference, .variants = {}};
  const std::vector<std::pair<std::string, Shape>> shapes = {
      {"vector", {3}},           {"small", {2, 3, 5}},     {"one_row_of_33", {1, 33}}, {"width_259", {5, 259}},
      {"width_1025", {3, 1025}}, {"1025_rows", {1025, 3}}, {"many_pieces", {600, 65}},
  };
  for (const auto& [name, shape] : shapes) {
    const Shape channels = {shape.back()};
    const Shape rows(shape.begin(), shape.end() - 1);
    forward.variants.push_back({name, layer_norm_inputs(shape)});
    backward.variants.push_back(
        {name,
         {f32(shape), f32(shape), f32(channels), f32(rows, normal(0, 0.1)), f32(rows, uniform(0.5, 2))},
         {},
         /*gradient=*/false,
         shape[0] > 100 ? kLongSums : 2e-6});
  }
  // One element is always its own mean.
  forward.variants.push_back({"one_element", layer_norm_inputs({3, 1})});
  forward.variants.push_back({"epsilon", layer_norm_inputs({4, 9}), {{"epsilon", 0.1}}});
  forward.variants.push_back({"mean_100", layer_norm_inputs({4, 48}, normal(100, 1))});
  // The mean that backward gets is rounded to float32, which at 1e4 is too coarse for the gradient's tolerance.
  forward.variants.push_back({"mean_1e4", layer_norm_inputs({4, 48}, normal(1e4, 1)), {}, /*gradient=*/false});
  forward.variants.push_back({"mean_1e4_wide", layer_norm_inputs({3, 1025}, normal(1e4, 1)), {}, /*gradient=*/false});
  forward.variants.push_back({"large", layer_norm_inputs({4, 48}, normal(0, 1e12)), {}, /*gradient=*/false});
  forward.variants.push_back({"constant", layer_norm_inputs({4, 300}, repeated({1e4})), {}, /*gradient=*/false});
  forward.variants.push_back({"nan_in_a_row", layer_norm_inputs({2, 3}, repeated({1, kNan, 2, 3, 4, 5})), {}, false});
  return {forward, backward};
}

// ---- softmax ----

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
      .variants = {}};
  result.variants = {
      {"one_element", {f32({1})}},
      {"rows_of_3", {f32({5, 3})}},
      {"rows_of_33", {f32({2, 3, 33})}},
      {"row_of_1025", {f32({2, 1025})}},
      {"many_rows", {f32({500, 40})}},
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
                .variants = {}};
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

std::vector<OpCase> normalization_cases() {
  std::vector<OpCase> cases = batch_norm_cases();
  for (OpCase& c : layer_norm_cases()) cases.push_back(std::move(c));
  cases.push_back(softmax_case("softmax", false));
  cases.push_back(softmax_backward_case("softmax_backward", false));
  cases.push_back(softmax_case("log_softmax", true));
  cases.push_back(softmax_backward_case("log_softmax_backward", true));
  return cases;
}

}  // namespace trivet::testing
