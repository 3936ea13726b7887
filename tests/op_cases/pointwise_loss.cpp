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

// Value and derivative of one element: prediction, target, weight of positive targets.
using Element = std::function<double(double x, double t, double w, const Variant& v)>;

double squared(double x, double t, double, const Variant&) { return std::pow(x - t, 2); }
double squared_slope(double x, double t, double, const Variant&) { return 2 * (x - t); }

double absolute(double x, double t, double, const Variant&) { return std::abs(x - t); }
double absolute_slope(double x, double t, double, const Variant&) {
  return std::isnan(x - t) ? kNan : static_cast<double>(x > t) - static_cast<double>(x < t);
}

double huber(double x, double t, double, const Variant& v) {
  const double delta = std::get<double>(attribute("huber_loss", v, "delta"));
  const double d = std::abs(x - t);
  return d > delta ? delta * (d - delta / 2) : d * d / 2;
}
double huber_slope(double x, double t, double, const Variant& v) {
  const double delta = std::get<double>(attribute("huber_loss_backward", v, "delta"));
  return std::abs(x - t) > delta ? std::copysign(delta, x - t) : x - t;
}

double logistic(double x, double t, double w, const Variant&) {
  const auto log_sigmoid = [](double z) { return z < 0 ? z - std::log1p(std::exp(z)) : -std::log1p(std::exp(-z)); };
  return -(w * t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x));
}
double logistic_slope(double x, double t, double w, const Variant&) {
  return (1 - t) / (1 + std::exp(-x)) - w * t / (1 + std::exp(x));
}

// The weight of element i: there is none, one for all, or one for each element of the last axis.
double weight_of(const std::vector<Ref>& in, std::size_t input, std::int64_t i) {
  if (in.size() <= input) return 1;
  return in[input][i % in[input].size()];
}

std::vector<Ref> losses(const std::vector<Ref>& in, const Variant& v, const Element& value) {
  Ref loss = Ref::zeros({in[0].shape[0]});
  if (loss.size() == 0) return {loss};
  const std::int64_t n = in[0].size() / loss.size();
  for (std::int64_t i = 0; i < in[0].size(); ++i) {
    loss[i / n] += value(in[0][i], in[1][i], weight_of(in, 2, i), v) / static_cast<double>(n);
  }
  return {loss};
}

std::vector<Ref> gradients(const std::vector<Ref>& in, const Variant& v, const Element& slope) {
  Ref dx = Ref::zeros(in[0].shape);
  for (std::int64_t i = 0; i < dx.size(); ++i) {
    const std::int64_t n = dx.size() / in[2].size();
    dx[i] = slope(in[0][i], in[1][i], weight_of(in, 3, i), v) * in[2][i / n] / static_cast<double>(n);
  }
  return {dx};
}

struct Loss {
  std::string op;
  Element value;
  Element slope;
  Fill targets = {};
};

struct Setting {
  std::string name;
  Shape shape;
  bool gradient = true;
};

// Differences of large samples take long and find nothing more.
std::vector<Setting> settings() {
  return {
      {"one_number", {1}},
      {"column", {5, 1}},
      {"vector", {33}},
      {"rows_of_10", {7, 10}},
      {"image", {3, 5, 7, 2}},
      {"rows_of_1025", {3, 1025}},
      {"many_rows", {3000, 10}, false},
      {"large_sample", {2, 17000}, false},
      {"last_axis_of_9000", {1, 3, 9000}, false},
      {"chunks", {2, 3000, 7}, false},
  };
}

void add(std::vector<OpCase>& cases, const Loss& loss) {
  OpCase forward{
      .op = loss.op,
      .reference = [value = loss.value](const std::vector<Ref>& in, const Variant& v) { return losses(in, v, value); },
      .variants = {},
      .bf16_inputs = {0}};
  OpCase backward{.op = loss.op + "_backward",
                  .reference = [slope = loss.slope](const std::vector<Ref>& in,
                                                    const Variant& v) { return gradients(in, v, slope); },
                  .variants = {},
                  .bf16_inputs = {0}};
  const auto both = [&](const std::string& name, const Shape& shape, Fill x, Fill t, Attrs attrs, bool gradient) {
    forward.variants.push_back({name, {f32(shape, x), f32(shape, t)}, attrs, gradient});
    backward.variants.push_back({name, {f32(shape, x), f32(shape, t), f32({shape[0]})}, attrs, false});
  };
  for (const Setting& s : settings()) both(s.name, s.shape, {}, loss.targets, {}, s.gradient);
  both("no_samples", {0, 3}, {}, loss.targets, {}, false);
  both("far_apart", {4, 9}, normal(0, 100), loss.targets, {}, true);
  both("nan", {3, 3}, repeated({1, kNan, 2, 3}), loss.targets, {}, false);
  if (loss.op == "huber_loss") both("delta", {4, 9}, normal(0, 2), {}, {{"delta", 0.3}}, true);
  if (loss.op == "l1_loss") both("equal", {2, 3}, repeated({1}), repeated({1, 2}), {}, false);
  if (loss.op != "binary_cross_entropy_with_logits") {
    both("infinite", {2, 3}, repeated({kInfinity, 1, -kInfinity}), loss.targets, {}, false);
    cases.push_back(std::move(forward));
    cases.push_back(std::move(backward));
    return;
  }
  forward.differentiable = {0};
  both("sure_and_right", {3, 4}, repeated({12, -12, 9, -9}), repeated({1, 0}), {}, true);
  for (const Setting& s : settings()) {
    for (const Shape& weight : {Shape{}, Shape{s.shape.back()}}) {
      if (s.shape.size() < 2 && !weight.empty()) continue;
      const std::string name = s.name + (weight.empty() ? "_weighted" : "_weights");
      forward.variants.push_back(
          {name, {f32(s.shape), f32(s.shape, loss.targets), f32(weight, uniform(0.5, 4))}, {}, s.gradient});
      backward.variants.push_back(
          {name,
           {f32(s.shape), f32(s.shape, loss.targets), f32({s.shape[0]}), f32(weight, uniform(0.5, 4))},
           {},
           false});
    }
  }
  cases.push_back(std::move(forward));
  cases.push_back(std::move(backward));
}

}  // namespace

std::vector<OpCase> pointwise_loss_cases() {
  std::vector<OpCase> cases;
  add(cases, {"mean_squared_error", squared, squared_slope});
  add(cases, {"l1_loss", absolute, absolute_slope});
  add(cases, {"huber_loss", huber, huber_slope});
  add(cases, {"binary_cross_entropy_with_logits", logistic, logistic_slope, uniform(0, 1)});
  return cases;
}

}  // namespace trivet::testing
