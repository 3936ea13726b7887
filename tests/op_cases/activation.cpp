#include <cmath>
#include <numbers>

#include "tests/op_cases/elementwise_helpers.h"

namespace trivet::testing {
namespace {

const Fill& away_from_zero() {
  static const Fill fill = listed({0.5, -0.7, 1.3, -2.1, 0.9, 3.3, -0.4});
  return fill;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }

// What x times a function that rises from 0 to 1 has at the infinities.
Unary with_limits(Unary f) {
  return [f](double x) { return std::isinf(x) ? std::max(x, 0.0) : f(x); };
}
// The same for its derivative.
Binary times_slope(Unary slope) {
  return [slope](double dy, double x) {
    if (std::abs(x) > 700) return x > 0 ? dy : 0.0;
    return dy * slope(x);
  };
}

// --- without attributes ---

double silu_slope(double x) { return sigmoid(x) + x * sigmoid(x) * sigmoid(-x); }

double mish(double x) { return x * std::tanh(softplus(x)); }
double mish_slope(double x) {
  const double t = std::tanh(softplus(x));
  return t + x * sigmoid(x) * (1 - t * t);
}

double hard_swish(double x) { return x * std::max(0.0, std::min(1.0, x / 6 + 0.5)); }
double hard_swish_backward(double dy, double x) {
  if (x <= -3) return 0;
  return x >= 3 ? dy : dy * (x / 3 + 0.5);
}

double softsign(double x) { return std::isinf(x) ? std::copysign(1, x) : x / (1 + std::abs(x)); }

// --- gelu ---

bool is_tanh(const std::string& op, const Variant& v) {
  return std::get<std::string>(attribute(op, v, "approximate")) == "tanh";
}
double gelu(double x) { return x * normal_cdf(x); }
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) { return normal_cdf(x) + x * normal_density(x); }
double gelu_tanh_slope(double x) {
  const double k = std::sqrt(2 / std::numbers::pi), t = std::tanh(k * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}

OpCase gelu_case() {
  OpCase c = unary_case_of("gelu", [](const Variant& v) { return with_limits(is_tanh("gelu", v) ? gelu_tanh : gelu); });
  const Attrs tanh = {{"approximate", std::string("tanh")}};
  c.variants.push_back({"tanh", {f32({3, 33})}, tanh});
  c.variants.push_back({"tanh_wide", {f32({1025}, normal(0, 5))}, tanh});
  c.variants.push_back({"tanh_extreme_values", {f32({57}, listed(extreme_values()))}, tanh, false});
  return c;
}

OpCase gelu_backward_case() {
  OpCase c = backward_case_of("gelu_backward", [](const Variant& v) {
    return times_slope(is_tanh("gelu_backward", v) ? gelu_tanh_slope : gelu_slope);
  });
  add_with_attributes(c, "tanh", {{"approximate", std::string("tanh")}});
  return c;
}

// --- with attributes ---

// A case whose function has one attribute, alpha: at its default and at `other`.
OpCase alpha_case(const std::string& op, std::function<double(double x, double alpha)> f, double other,
                  Fill fill = {}) {
  OpCase c = unary_case_of(
      op,
      [=](const Variant& v) -> Unary {
        const double alpha = number_attribute(op, v, "alpha");
        return [=](double x) { return f(x, alpha); };
      },
      std::move(fill));
  add_with_attributes(c, "alpha", {{"alpha", other}});
  return c;
}
OpCase alpha_backward_case(const std::string& op, std::function<double(double dy, double x, double alpha)> f,
                           double other) {
  OpCase c = backward_case_of(op, [=](const Variant& v) -> Binary {
    const double alpha = number_attribute(op, v, "alpha");
    return [=](double dy, double x) { return f(dy, x, alpha); };
  });
  add_with_attributes(c, "alpha", {{"alpha", other}});
  return c;
}

double elu(double x, double alpha) { return x > 0 ? x : alpha * std::expm1(x); }

OpCase hard_sigmoid_case() {
  OpCase c = unary_case_of(
      "hard_sigmoid",
      [](const Variant& v) -> Unary {
        const double alpha = number_attribute("hard_sigmoid", v, "alpha");
        const double beta = number_attribute("hard_sigmoid", v, "beta");
        return [=](double x) { return std::isnan(x) ? x : std::max(0.0, std::min(1.0, alpha * x + beta)); };
      },
      normal(0, 3));
  add_with_attributes(c, "steep", {{"alpha", 0.7}, {"beta", 0.25}});
  return c;
}

OpCase selu_case() {
  OpCase c = unary_case_of("selu", [](const Variant& v) -> Unary {
    const double alpha = number_attribute("selu", v, "alpha"), gamma = number_attribute("selu", v, "gamma");
    return [=](double x) { return gamma * elu(x, alpha); };
  });
  add_with_attributes(c, "steep", {{"alpha", 0.5}, {"gamma", 2.5}});
  return c;
}

OpCase prelu_case() {
  const auto f = [](double x, double slope) { return x < 0 ? slope * x : x; };
  OpCase c = binary_case("prelu", f);
  // The slope broadcasts to x, never the other way round.
  std::erase_if(c.variants, [](const Variant& v) {
    return broadcast(v.inputs[0].type.shape, v.inputs[1].type.shape) != v.inputs[0].type.shape;
  });
  c.variants.push_back({"slope_for_each_channel", {f32({2, 5, 4, 3}), f32({3}, listed({0.25, -0.5, 0}))}});
  return c;
}

std::vector<OpCase> backward_cases() {
  return {
      backward_case("relu_backward", [](double dy, double y) { return y <= 0 ? 0 : dy; }),
      backward_case(
          "tanh_backward", [](double dy, double y) { return dy * (1 - y * y); }, uniform(-1, 1)),
      backward_case(
          "sigmoid_backward", [](double dy, double y) { return dy * (y * (1 - y)); }, uniform(0, 1)),
      backward_case("silu_backward", times_slope(silu_slope)),
      gelu_backward_case(),
      backward_case("softplus_backward", [](double dy, double x) { return dy * sigmoid(x); }),
      alpha_backward_case(
          "leaky_relu_backward", [](double dy, double x, double alpha) { return x < 0 ? alpha * dy : dy; }, -0.3),
      alpha_backward_case(
          "elu_backward", [](double dy, double x, double alpha) { return x > 0 ? dy : dy * alpha * std::exp(x); }, 1.7),
      backward_case("mish_backward", times_slope(mish_slope)),
      backward_case("hard_swish_backward", hard_swish_backward, normal(0, 3)),
  };
}

}  // namespace

std::vector<OpCase> activation_cases() {
  std::vector<OpCase> cases = {
      unary_case(
          "relu", [](double x) { return x <= 0 ? 0 : x; }, away_from_zero()),
      unary_case("tanh", [](double x) { return std::tanh(x); }),
      unary_case("sigmoid", sigmoid),
      unary_case("silu", with_limits([](double x) { return x * sigmoid(x); })),
      gelu_case(),
      hard_sigmoid_case(),
      unary_case("softplus", softplus),
      unary_case("softsign", softsign, away_from_zero()),
      alpha_case(
          "leaky_relu", [](double x, double alpha) { return x < 0 ? alpha * x : x; }, -0.3, away_from_zero()),
      alpha_case("elu", elu, 1.7, away_from_zero()),
      selu_case(),
      alpha_case(
          "celu", [](double x, double alpha) { return x > 0 ? x : alpha * std::expm1(x / alpha); }, 0.6),
      prelu_case(),
      unary_case("mish", with_limits(mish)),
      unary_case("hard_swish", with_limits(hard_swish), normal(0, 3)),
      alpha_case(
          "thresholded_relu", [](double x, double alpha) { return x <= alpha ? 0 : x; }, -0.6),
  };
  for (OpCase& c : backward_cases()) cases.push_back(std::move(c));
  return cases;
}

}  // namespace trivet::testing
