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

double number(const std::string& op, const Variant& v, const std::string& name) {
  return std::get<double>(attribute(op, v, name));
}

// Long sums of both signs cancel, so their error is measured by the number of terms.
constexpr double kLongSums = 2e-5;

bool is_relu(const std::string& op, const Variant& v) {
  return std::get<std::string>(attribute(op, v, "activation")) == "relu";
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

// Adds the residual, input 5, and applies the activation.
void finish(const std::string& op, const std::vector<Ref>& in, const Variant& v, Ref& y) {
  const bool residual = in.size() > 5 && in[5].size() > 0;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    if (residual) y[i] += in[5][i];
    if (is_relu(op, v) && y[i] <= 0) y[i] = 0;
  }
}

std::vector<Ref> batch_norm_reference(const std::vector<Ref>& in, const Variant& v) {
  Ref y = Ref::zeros(in[0].shape);
  const double epsilon = number("batch_norm", v, "epsilon");
  const std::int64_t channels = in[1].size();
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t c = i % channels;
    y[i] = (in[0][i] - in[3][c]) / std::sqrt(in[4][c] + epsilon) * in[1][c] + in[2][c];
  }
  finish("batch_norm", in, v, y);
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
  finish("batch_norm_train", in, v, y);
  return {y, mean, rstd, running_mean, running_var};
}

std::vector<Ref> batch_norm_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const std::int64_t channels = in[2].size();
  const auto n = static_cast<double>(in[0].size() / channels);
  Ref dx = Ref::zeros(in[1].shape), dy = in[0];
  Ref dgamma = Ref::zeros({channels}), dbeta = dgamma;
  for (std::int64_t i = 0; i < dx.size(); ++i) {
    const std::int64_t c = i % channels;
    if (is_relu("batch_norm_backward", v) && in[5][i] <= 0) dy[i] = 0;
    dgamma[c] += dy[i] * (in[1][i] - in[3][c]) * in[4][c];
    dbeta[c] += dy[i];
  }
  for (std::int64_t i = 0; i < dx.size(); ++i) {
    const std::int64_t c = i % channels;
    const double normalized = (in[1][i] - in[3][c]) * in[4][c];
    dx[i] = in[2][c] * in[4][c] * (dy[i] - dbeta[c] / n - normalized * dgamma[c] / n);
  }
  std::vector<Ref> out = {dx, dgamma, dbeta};
  if (std::get<bool>(attribute("batch_norm_backward", v, "residual"))) out.push_back(dy);
  return out;
}

std::int64_t rows_of(const Shape& shape) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

std::vector<CaseInput> batch_norm_inputs(const Shape& shape, Fill fill = {}) {
  const Shape channels = {shape.back()};
  return {f32(shape, std::move(fill)), f32(channels, normal(1, 0.3)), f32(channels), f32(channels),
          f32(channels, uniform(0.5, 2))};
}

std::vector<CaseInput> with(std::vector<CaseInput> inputs, CaseInput last) {
  inputs.push_back(std::move(last));
  return inputs;
}

const std::vector<std::pair<std::string, Shape>>& batch_shapes() {
  static const std::vector<std::pair<std::string, Shape>> all = {
      {"one_channel", {3, 1}},       {"small", {2, 3, 3, 5}},       {"33_channels", {3, 5, 5, 33}},
      {"1025_channels", {3, 1025}},  {"1025_rows", {1025, 3}},      {"many_pieces", {4, 50, 50, 2}},
      {"parallel", {8, 14, 14, 16}}, {"10_channels", {3000, 10}},   {"64_channels", {3, 11, 13, 64}},
      {"65_channels", {300, 65}},    {"300_channels", {6, 5, 300}},
  };
  return all;
}

std::vector<OpCase> batch_norm_cases() {
  OpCase inference{.op = "batch_norm", .reference = batch_norm_reference, .variants = {}, .bf16_inputs = {0, 5}};
  OpCase train{.op = "batch_norm_train",
               .reference = batch_norm_train_reference,
               .variants = {},
               .differentiable = {0, 1, 2, 5},
               .bf16_inputs = {0, 5}};
  const Attrs relu = {{"activation", std::string("relu")}};
  // Far from 0, where relu has no derivative: a difference in gamma moves all rows of its channel.
  const Fill far = repeated({20, -25, 21, 22, -20, -22, 23});
  for (const auto& [name, shape] : batch_shapes()) {
    const double tolerance = rows_of(shape) > 100 ? kLongSums : 2e-6;
    inference.variants.push_back({name, batch_norm_inputs(shape), {}, /*gradient=*/false});
    inference.variants.push_back({name + "_residual_relu", with(batch_norm_inputs(shape), f32(shape)), relu, false});
    // Differences of large batches take long and find nothing more.
    train.variants.push_back({name, batch_norm_inputs(shape), {}, rows_of(shape) * shape.back() < 20000, tolerance});
    train.variants.push_back({name + "_residual_relu", with(batch_norm_inputs(shape), f32(shape)), relu, false});
  }
  const Shape shape = {4, 6, 6, 7};
  inference.variants.push_back({"epsilon", batch_norm_inputs(shape), {{"epsilon", 0.1}}, false});
  for (OpCase* c : {&inference, &train}) {
    const bool gradient = c == &train;
    std::vector<CaseInput> shifted = batch_norm_inputs(shape);
    shifted[2].fill = far;
    c->variants.push_back({"relu", shifted, relu, gradient});
    c->variants.push_back({"residual", with(batch_norm_inputs(shape), f32(shape)), {}, gradient});
    c->variants.push_back({"residual_relu", with(batch_norm_inputs(shape), f32(shape, far)), relu, gradient});
    c->variants.push_back(
        {"absent_residual", with(batch_norm_inputs(shape), {.type = {}, .fill = {}, .absent = true}), {}, gradient});
    c->variants.push_back({"relu_of_nan", batch_norm_inputs(shape, repeated({1, kNan, 2})), relu, false});
  }
  train.variants.push_back({"epsilon", batch_norm_inputs(shape), {{"epsilon", 0.1}}});
  train.variants.push_back({"momentum", batch_norm_inputs(shape), {{"momentum", 0.75}}});
  train.variants.push_back({"two_rows", batch_norm_inputs({2, 4}), {{"epsilon", 0.01}}});
  train.variants.push_back({"mean_100", batch_norm_inputs(shape, normal(100, 1))});
  // The mean that backward gets is rounded to float32, which at 1e4 is too coarse for the gradient's tolerance.
  train.variants.push_back({"mean_1e4", batch_norm_inputs(shape, normal(1e4, 1)), {}, /*gradient=*/false});
  train.variants.push_back({"mean_1e4_pieces", batch_norm_inputs({10000, 2}, normal(1e4, 1)), {}, false});
  // Means of numbers of both signs cancel.
  train.variants.push_back({"large", batch_norm_inputs(shape, normal(0, 1e12)), {}, /*gradient=*/false, kLongSums});
  train.variants.push_back({"constant", batch_norm_inputs(shape, repeated({1e4})), {}, /*gradient=*/false});
  train.variants.push_back({"nan_in_a_channel", batch_norm_inputs({3, 3}, repeated({1, kNan, 2, 3, 4, 5})), {}, false});
  // Each piece begins with the one value that is far from all others.
  std::vector<double> outlier(2048, 0.5);
  for (std::size_t i = 0; i < outlier.size(); i += 2) outlier[i] = -0.5;
  outlier[0] = 1000;
  train.variants.push_back({"outlier_first", batch_norm_inputs({16384, 1}, repeated(outlier)), {}, false, kLongSums});
  return {inference, train};
}

OpCase batch_norm_backward_case() {
  OpCase result{.op = "batch_norm_backward",
                .reference = batch_norm_backward_reference,
                .variants = {},
                .bf16_inputs = {0, 1, 5}};
  for (const auto& [name, shape] : batch_shapes()) {
    const Shape channels = {shape.back()};
    const double tolerance = rows_of(shape) > 100 ? kLongSums : 2e-6;
    const std::vector<CaseInput> inputs = {f32(shape), f32(shape), f32(channels), f32(channels, normal(0, 0.1)),
                                           f32(channels, uniform(0.5, 2))};
    result.variants.push_back({name, inputs, {}, /*gradient=*/false, tolerance});
    Attrs attrs = {{"activation", std::string("relu")}};
    result.variants.push_back({name + "_relu", with(inputs, f32(shape)), attrs, /*gradient=*/false, tolerance});
    attrs.emplace_back("residual", true);
    result.variants.push_back(
        {name + "_relu_residual", with(inputs, f32(shape)), attrs, /*gradient=*/false, tolerance});
  }
  return result;
}

// ---- group and instance normalization ----

// Index of the group, counted through all samples, of each element.
std::vector<std::size_t> groups_of(const Shape& shape, std::int64_t groups) {
  const std::int64_t channels = shape.back();
  std::int64_t size = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) size *= shape[i];
  std::vector<std::size_t> result;
  for (std::int64_t i = 0; i < size * shape[0]; ++i) {
    result.push_back(static_cast<std::size_t>(i / size * groups + i % channels / (channels / groups)));
  }
  return result;
}

std::vector<Ref> grouped_reference(const std::vector<Ref>& in, std::int64_t groups, double epsilon) {
  const Ref& x = in[0];
  const std::int64_t channels = in[1].size();
  const std::vector<std::size_t> group = groups_of(x.shape, groups);
  Ref y = Ref::zeros(x.shape);
  Ref mean = Ref::zeros({x.shape[0], groups}), rstd = mean;
  const auto n = static_cast<double>(x.size() / mean.size());
  std::vector<double> variance(mean.data.size(), 0.0);
  for (std::size_t i = 0; i < group.size(); ++i) mean.data[group[i]] += x.data[i] / n;
  for (std::size_t i = 0; i < group.size(); ++i) variance[group[i]] += std::pow(x.data[i] - mean.data[group[i]], 2) / n;
  for (std::size_t g = 0; g < variance.size(); ++g) rstd.data[g] = 1 / std::sqrt(variance[g] + epsilon);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::size_t g = group[static_cast<std::size_t>(i)];
    y[i] = (x[i] - mean.data[g]) * rstd.data[g] * in[1][i % channels] + in[2][i % channels];
  }
  return {y, mean, rstd};
}

std::vector<Ref> group_norm_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const auto groups = std::get<std::int64_t>(attribute("group_norm_backward", v, "num_groups"));
  const Ref &dy = in[0], &x = in[1], &gamma = in[2], &mean = in[3], &rstd = in[4];
  const std::vector<std::size_t> group = groups_of(x.shape, groups);
  const std::int64_t channels = gamma.size();
  const auto n = static_cast<double>(x.size() / mean.size());
  Ref dx = Ref::zeros(x.shape), dgamma = Ref::zeros({channels}), dbeta = dgamma;
  std::vector<double> sum(mean.data.size(), 0.0), product = sum;
  const auto normalized = [&](std::int64_t i) {
    const std::size_t g = group[static_cast<std::size_t>(i)];
    return (x[i] - mean.data[g]) * rstd.data[g];
  };
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::size_t g = group[static_cast<std::size_t>(i)];
    sum[g] += dy[i] * gamma[i % channels] / n;
    product[g] += dy[i] * gamma[i % channels] * normalized(i) / n;
    dgamma[i % channels] += dy[i] * normalized(i);
    dbeta[i % channels] += dy[i];
  }
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::size_t g = group[static_cast<std::size_t>(i)];
    dx[i] = rstd.data[g] * (dy[i] * gamma[i % channels] - sum[g] - normalized(i) * product[g]);
  }
  return {dx, dgamma, dbeta};
}

std::vector<CaseInput> group_inputs(const Shape& shape, Fill fill = {}) {
  return {f32(shape, std::move(fill)), f32({shape.back()}, normal(1, 0.3)), f32({shape.back()})};
}

struct Grouping {
  std::string name;
  Shape shape;
  std::int64_t groups;
};

std::vector<OpCase> group_norm_cases() {
  OpCase forward{.op = "group_norm",
                 .reference =
                     [](const std::vector<Ref>& in, const Variant& v) {
                       return grouped_reference(in, std::get<std::int64_t>(attribute("group_norm", v, "num_groups")),
                                                number("group_norm", v, "epsilon"));
                     },
                 .variants = {},
                 .bf16_inputs = {0}};
  OpCase backward{
      .op = "group_norm_backward", .reference = group_norm_backward_reference, .variants = {}, .bf16_inputs = {0, 1}};
  const std::vector<Grouping> groupings = {
      {"one_group", {2, 3, 5}, 1},      {"two_groups", {2, 3, 3, 6}, 2},      {"of_one_channel", {3, 4, 4, 3}, 3},
      {"without_space", {5, 33}, 11},   {"130_channels", {2, 5, 130}, 5},     {"three_axes", {2, 3, 2, 5, 4}, 2},
      {"parallel", {5, 14, 14, 32}, 8}, {"many_pieces", {2, 100, 100, 2}, 2},
  };
  for (const auto& [name, shape, groups] : groupings) {
    const Shape rows = {shape[0], groups};
    const double tolerance = shape[1] > 10 ? kLongSums : 2e-6;
    forward.variants.push_back({name, group_inputs(shape), {{"num_groups", groups}}, true, tolerance});
    backward.variants.push_back(
        {name,
         {f32(shape), f32(shape), f32({shape.back()}), f32(rows, normal(0, 0.1)), f32(rows, uniform(0.5, 2))},
         {{"num_groups", groups}},
         /*gradient=*/false,
         tolerance});
  }
  const Attrs two = {{"num_groups", std::int64_t{2}}};
  forward.variants.push_back({"epsilon", group_inputs({2, 3, 4}), {{"num_groups", std::int64_t{2}}, {"epsilon", 0.1}}});
  forward.variants.push_back({"mean_1e4", group_inputs({2, 5, 5, 6}, normal(1e4, 1)), two, /*gradient=*/false});
  forward.variants.push_back({"large", group_inputs({2, 5, 5, 6}, normal(0, 1e12)), two, /*gradient=*/false});
  forward.variants.push_back({"constant", group_inputs({2, 5, 6}, repeated({1e4})), two, /*gradient=*/false});
  forward.variants.push_back(
      {"nan_in_a_group", group_inputs({2, 2, 4}, repeated({1, kNan, 2, 3, 4, 5, 6, 7, 1, 2, 9, 4})), two, false});
  return {forward, backward};
}

OpCase instance_norm_case() {
  OpCase result{.op = "instance_norm",
                .reference =
                    [](const std::vector<Ref>& in, const Variant& v) {
                      return grouped_reference(in, in[1].size(), number("instance_norm", v, "epsilon"));
                    },
                .variants = {},
                .bf16_inputs = {0}};
  for (const auto& [name, shape] : std::vector<std::pair<std::string, Shape>>{
           {"small", {2, 3, 5}}, {"33_channels", {3, 4, 5, 33}}, {"parallel", {4, 20, 20, 16}}}) {
    result.variants.push_back({name, group_inputs(shape)});
  }
  result.variants.push_back({"epsilon", group_inputs({2, 5, 3}), {{"epsilon", 0.1}}});
  result.variants.push_back({"mean_1e4", group_inputs({2, 5, 5, 6}, normal(1e4, 1)), {}, /*gradient=*/false});
  return result;
}

}  // namespace

std::vector<OpCase> normalization_cases() {
  std::vector<OpCase> cases = batch_norm_cases();
  cases.push_back(batch_norm_backward_case());
  for (OpCase& c : group_norm_cases()) cases.push_back(std::move(c));
  cases.push_back(instance_norm_case());
  return cases;
}

}  // namespace trivet::testing
