#include <cmath>
#include <limits>
#include <numbers>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Fill normal(double mean = 0, double deviation = 1) { return {.kind = Fill::Kind::normal, .a = mean, .b = deviation}; }
Fill uniform(double low, double high) { return {.kind = Fill::Kind::uniform, .a = low, .b = high}; }
Fill index_below(double end) { return {.kind = Fill::Kind::index, .a = 0, .b = end}; }
Fill listed(std::vector<double> values) { return {.kind = Fill::Kind::values, .values = std::move(values)}; }

const std::vector<double>& extreme_values() {
  static const std::vector<double> values = {kInf,  -kInf, kNan, 0,   -0.0, 1e-40, -1e-40, 1e30, -1e30, 88.5,
                                             -88.5, -104,  20,   -20, 1,    -1,    1e-7,   -6.5, 1e4};
  return values;
}

CaseInput typed(DType type, Shape shape, Fill fill) {
  CaseInput input;
  input.type = {type, std::move(shape)};
  input.fill = std::move(fill);
  return input;
}
CaseInput f32(Shape shape, Fill fill = {}) { return typed(DType::f32, std::move(shape), std::move(fill)); }

// The element of `x` that stands at flat position i of a result of shape `out`.
std::int64_t broadcast_index(std::int64_t i, const Shape& out, const Shape& x) {
  std::int64_t index = 0, stride = 1;
  for (std::size_t d = out.size(); d-- > 0;) {
    const std::int64_t position = i % out[d];
    i /= out[d];
    if (d + x.size() < out.size()) continue;
    const std::int64_t size = x[d + x.size() - out.size()];
    index += (size == 1 ? 0 : position) * stride;
    stride *= size;
  }
  return index;
}

Shape broadcast(const Shape& a, const Shape& b) {
  Shape out = a.size() >= b.size() ? a : b;
  const Shape& other = a.size() >= b.size() ? b : a;
  for (std::size_t i = 0; i < other.size(); ++i) {
    std::int64_t& size = out[out.size() - 1 - i];
    if (size == 1) size = other[other.size() - 1 - i];
  }
  return out;
}

// --- unary ---

using Unary = double (*)(double);

OpCase unary_case(std::string op, Unary f, Fill fill = {}) {
  OpCase c;
  c.op = std::move(op);
  c.reference = [f](const std::vector<Ref>& in, const Variant&) {
    Ref y = in[0];
    for (double& v : y.data) v = f(v);
    return std::vector<Ref>{y};
  };
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 33}, Shape{1025}, Shape{2, 0}}) {
    c.variants.push_back({"size_" + std::to_string(element_count(shape)) + "_rank_" + std::to_string(shape.size()),
                          {f32(shape, fill)},
                          {},
                          element_count(shape) > 0});
  }
  c.variants[0].name = "scalar";
  c.variants.push_back({"extreme_values", {f32({57}, listed(extreme_values()))}, {}, false});
  c.variants.push_back({"parallel", {f32({70, 1025}, fill)}, {}, false});
  return c;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }
double gelu(double x) { return std::isinf(x) ? std::max(x, 0.0) : x * normal_cdf(x); }
double silu(double x) { return std::isinf(x) ? std::max(x, 0.0) : x * sigmoid(x); }
double gelu_tanh(double x) {
  if (std::isinf(x)) return std::max(x, 0.0);
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

bool is_tanh(const std::string& op, const Variant& v) {
  return std::get<std::string>(attribute(op, v, "approximate")) == "tanh";
}

OpCase gelu_case() {
  OpCase c = unary_case("gelu", gelu);
  const auto exact = c.reference;
  const auto approximate = unary_case("gelu", gelu_tanh).reference;
  c.reference = [=](const std::vector<Ref>& in, const Variant& v) {
    return is_tanh("gelu", v) ? approximate(in, v) : exact(in, v);
  };
  const Attrs tanh = {{"approximate", std::string("tanh")}};
  c.variants.push_back({"tanh", {f32({3, 33})}, tanh});
  c.variants.push_back({"tanh_wide", {f32({1025}, normal(0, 5))}, tanh});
  c.variants.push_back({"tanh_extreme_values", {f32({57}, listed(extreme_values()))}, tanh, false});
  return c;
}

OpCase clamp_case() {
  OpCase c = unary_case("clamp", [](double x) { return x; });
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const double low = std::get<double>(attribute("clamp", v, "min")),
                 high = std::get<double>(attribute("clamp", v, "max"));
    Ref y = in[0];
    for (double& x : y.data) x = std::isnan(x) ? x : std::min(std::max(x, low), high);
    return std::vector<Ref>{y};
  };
  for (const auto& [name, attrs] : std::vector<std::pair<std::string, Attrs>>{
           {"both", {{"min", -0.5}, {"max", 1.25}}}, {"min_only", {{"min", 0.25}}}, {"max_only", {{"max", 0.0}}}}) {
    c.variants.push_back({name, {f32({3, 33})}, attrs});
    c.variants.push_back({name + "_extreme_values", {f32({57}, listed(extreme_values()))}, attrs, false});
  }
  return c;
}

OpCase affine_case() {
  OpCase c = unary_case("affine", [](double x) { return x; });
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    const double scale = std::get<double>(attribute("affine", v, "scale")),
                 shift = std::get<double>(attribute("affine", v, "shift"));
    Ref y = in[0];
    for (double& x : y.data) x = scale * x + shift;
    return std::vector<Ref>{y};
  };
  c.variants.push_back({"scale_and_shift", {f32({3, 33})}, {{"scale", -1.5}, {"shift", 0.25}}});
  c.variants.push_back({"shift_only", {f32({1025}, normal(1e4))}, {{"shift", -1e4}}});
  c.variants.push_back({"scale_only", {f32({70, 1025})}, {{"scale", 3.0}}, false});
  return c;
}

// --- binary ---

using Binary = double (*)(double, double);

std::function<std::vector<Ref>(const std::vector<Ref>&, const Variant&)> binary_reference(Binary f) {
  return [f](const std::vector<Ref>& in, const Variant& v) {
    Ref y = Ref::zeros(broadcast(in[0].shape, in[1].shape));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = f(in[0][broadcast_index(i, y.shape, in[0].shape)], in[1][broadcast_index(i, y.shape, in[1].shape)]);
      // Integers wrap around.
      if (v.inputs[0].type.dtype == DType::i32) y[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(y[i]));
    }
    return std::vector<Ref>{y};
  };
}

std::vector<Variant> broadcast_variants(const Fill& a, const Fill& b) {
  struct Shapes {
    const char* name;
    Shape a, b;
  };
  const std::vector<Shapes> all = {{"scalars", {}, {}},
                                   {"one", {1}, {1}},
                                   {"same_shape", {3, 33}, {3, 33}},
                                   {"line", {1025}, {1025}},
                                   {"scalar_right", {5, 33}, {}},
                                   {"scalar_left", {1}, {5, 33}},
                                   {"bias", {7, 33}, {33}},
                                   {"bias_left", {10}, {7, 10}},
                                   {"column", {9, 5}, {9, 1}},
                                   {"outer", {9, 1}, {1, 5}},
                                   {"channels", {2, 3, 4, 5}, {3, 1, 1}},
                                   {"middle", {2, 1, 5}, {2, 3, 1}},
                                   {"rank_5", {2, 1, 3, 1, 2}, {1, 3, 1, 4, 1}},
                                   {"ones", {1, 1, 4, 1}, {4, 1}},
                                   {"empty", {0, 3}, {3}}};
  std::vector<Variant> variants;
  for (const Shapes& s : all) {
    variants.push_back({s.name, {f32(s.a, a), f32(s.b, b)}, {}, element_count(s.a) > 0});
  }
  const std::vector<Shapes> large = {{"parallel_same", {70, 1025}, {70, 1025}},
                                     {"parallel_long_row", {2, 40001}, {2, 1}},
                                     {"parallel_bias", {3001, 10}, {10}},
                                     {"parallel_scalar", {1}, {33, 1025}}};
  for (const Shapes& s : large) variants.push_back({s.name, {f32(s.a, a), f32(s.b, b)}, {}, false});
  return variants;
}

Variant extreme_pairs() {
  std::vector<double> left, right;
  for (const double a : extreme_values()) {
    for (const double b : {kInf, -kInf, kNan, 0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, 1e30}) {
      left.push_back(a);
      right.push_back(b);
    }
  }
  const auto n = static_cast<std::int64_t>(left.size());
  return {"extreme_pairs", {f32({n}, listed(left)), f32({n}, listed(right))}, {}, false};
}

OpCase binary_case(std::string op, Binary f, const Fill& a = {}, const Fill& b = {}) {
  OpCase c;
  c.op = std::move(op);
  c.reference = binary_reference(f);
  c.variants = broadcast_variants(a, b);
  c.variants.push_back(extreme_pairs());
  return c;
}

void add_integer_variants(OpCase& c) {
  for (const DType type : {DType::i32, DType::i64}) {
    const std::string name = dtype_name(type);
    const Fill values = {.kind = Fill::Kind::index, .a = -9, .b = 10};
    c.variants.push_back({name, {typed(type, {3, 33}, values), typed(type, {3, 33}, values)}, {}, false});
    c.variants.push_back({name + "_bias", {typed(type, {3, 33}, values), typed(type, {33}, values)}, {}, false});
  }
}

OpCase arithmetic_case(std::string op, Binary f) {
  OpCase c = binary_case(std::move(op), f);
  add_integer_variants(c);
  const Fill large = listed({2147483647, -2147483648.0, 2147483640, 5});
  c.variants.push_back(
      {"i32_wraps", {typed(DType::i32, {7}, large), typed(DType::i32, {7}, listed({3, -3, 100003}))}, {}, false});
  return c;
}

OpCase compare_case(std::string op, Binary f) {
  // Few distinct values, so that many pairs are equal.
  OpCase c = binary_case(std::move(op), f, index_below(3), index_below(3));
  for (Variant& v : c.variants) v.gradient = false;
  c.variants.push_back({"normal", {f32({3, 33}), f32({3, 33})}, {}, false});
  add_integer_variants(c);
  return c;
}

OpCase pow_case() {
  OpCase c = binary_case(
      "pow", [](double a, double b) { return std::pow(a, b); }, uniform(0.3, 3), uniform(-2, 3));
  c.variants.push_back({"large_results", {f32({1025}, uniform(0.01, 50)), f32({1025}, normal(0, 8))}, {}, false});
  c.variants.push_back({"negative_to_integers",
                        {f32({99}, uniform(-3, 0)), f32({99}, {.kind = Fill::Kind::index, .a = -6, .b = 7})},
                        {},
                        false});
  return c;
}

double maximum(double a, double b) { return std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b); }
double minimum(double a, double b) { return std::isnan(a) || std::isnan(b) ? kNan : std::min(a, b); }

// --- backward ops ---

OpCase backward_case(std::string op, Binary f, Fill saved = {}) {
  OpCase c;
  c.op = std::move(op);
  c.reference = binary_reference(f);
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 33}, Shape{1025}, Shape{70, 1025}}) {
    c.variants.push_back({"size_" + std::to_string(element_count(shape)) + "_rank_" + std::to_string(shape.size()),
                          {f32(shape), f32(shape, saved)},
                          {},
                          false});
  }
  c.variants.push_back(
      {"extreme_values", {f32({57}, listed({1, -2, 0.5, 3})), f32({57}, listed(extreme_values()))}, {}, false});
  return c;
}

double gelu_slope(double x) { return std::isinf(x) ? (x > 0 ? 1 : 0) : normal_cdf(x) + x * normal_density(x); }
double gelu_tanh_slope(double x) {
  if (std::isinf(x) || std::abs(x) > 1e10) return x > 0 ? 1 : 0;
  const double k = std::sqrt(2 / std::numbers::pi), t = std::tanh(k * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}
double silu_slope(double x) {
  if (std::isinf(x) || std::abs(x) > 700) return x > 0 ? 1 : 0;
  return sigmoid(x) + x * sigmoid(x) * sigmoid(-x);
}

OpCase gelu_backward_case() {
  OpCase c = backward_case("gelu_backward", [](double dy, double x) { return dy * gelu_slope(x); });
  const auto exact = c.reference;
  const auto approximate = binary_reference([](double dy, double x) { return dy * gelu_tanh_slope(x); });
  c.reference = [=](const std::vector<Ref>& in, const Variant& v) {
    return is_tanh("gelu_backward", v) ? approximate(in, v) : exact(in, v);
  };
  const auto count = c.variants.size();
  for (std::size_t i = 0; i < count; ++i) {
    Variant v = c.variants[i];
    v.name = "tanh_" + v.name;
    v.attrs = {{"approximate", std::string("tanh")}};
    c.variants.push_back(std::move(v));
  }
  return c;
}

// --- where, cast ---

OpCase where_case() {
  OpCase c;
  c.op = "where";
  c.reference = [](const std::vector<Ref>& in, const Variant&) {
    Ref y = Ref::zeros(broadcast(in[0].shape, broadcast(in[1].shape, in[2].shape)));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const Ref& chosen = in[0][broadcast_index(i, y.shape, in[0].shape)] != 0 ? in[1] : in[2];
      y[i] = chosen[broadcast_index(i, y.shape, chosen.shape)];
    }
    return std::vector<Ref>{y};
  };
  const auto cond = [](Shape shape) { return typed(DType::boolean, std::move(shape), index_below(2)); };
  // Whether each input moves along a row: all seven combinations.
  const std::vector<Shape> shapes = {{5, 1}, {5, 33}};
  for (std::size_t moves = 1; moves < 8; ++moves) {
    c.variants.push_back({"moves_" + std::to_string(moves),
                          {cond(shapes[moves / 4]), f32(shapes[moves / 2 % 2]), f32(shapes[moves % 2])}});
  }
  c.variants.push_back({"scalars", {cond({}), f32({}), f32({})}});
  c.variants.push_back({"mixed_ranks", {cond({4, 1}), f32({2, 1, 3}), f32({})}});
  c.variants.push_back({"not_chosen_nan", {cond({33}), f32({33}, listed({kNan, 1, kInf})), f32({33})}, {}, false});
  c.variants.push_back({"parallel", {cond({70, 1025}), f32({70, 1025}), f32({1025})}, {}, false});
  for (const DType type :
       {DType::f64, DType::i32, DType::i64, DType::u8, DType::boolean, DType::bf16, DType::f16, DType::i8}) {
    c.variants.push_back({dtype_name(type),
                          {cond({3, 33}), typed(type, {3, 33}, index_below(100)), typed(type, {33}, index_below(100))},
                          {},
                          false});
  }
  return c;
}

double cast_value(double x, DType to) {
  const auto whole = [&](double low, double high) {
    return std::isnan(x) ? 0.0 : std::min(std::max(std::trunc(x), low), high);
  };
  switch (to) {
    case DType::f32:
    case DType::f64:
    case DType::bf16:
    case DType::f16:
      return x;
    case DType::i8:
      return whole(-128, 127);
    case DType::i32:
      return whole(-0x1p31, 0x1p31 - 1);
    case DType::i64:
      return whole(-0x1p63, 0x1p63);
    case DType::u8:
      return whole(0, 255);
    case DType::boolean:
      return x != 0 ? 1 : 0;
  }
  return kNan;
}

OpCase cast_case() {
  OpCase c;
  c.op = "cast";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Ref y = in[0];
    for (double& x : y.data) x = cast_value(x, dtype_from_name(std::get<std::string>(attribute("cast", v, "to"))));
    return std::vector<Ref>{y};
  };
  const std::vector<DType> types = {DType::f32,     DType::f64,  DType::i32, DType::i64, DType::u8,
                                    DType::boolean, DType::bf16, DType::f16, DType::i8};
  const Fill floats = listed({0,     -0.0,  1,    -1,         2.5,          -2.5,          0.99,    -0.99,
                              254.7, 255.5, 256,  2147483520, 2147483648.0, -2147483648.0, 3e9,     -3e9,
                              1e19,  -1e19, kNan, kInf,       -kInf,        1e-40,         16777217});
  const Fill integers = listed(
      {0, 1, -1, 2, 127, 128, 255, 256, -300, 2147483647, 2147483648.0, -2147483648.0, 4e9, -4e9, 0x1p53, -0x1p53});
  for (const DType from : types) {
    for (const DType to : types) {
      const std::string name = std::string(dtype_name(from)) + "_to_" + dtype_name(to);
      const Attrs attrs = {{"to", std::string(dtype_name(to))}};
      c.variants.push_back({name, {typed(from, {69}, is_float(from) ? floats : integers)}, attrs, false});
      // Differences are taken of float64 values, which steps of 16 bits cannot follow.
      const bool wide = dtype_size(from) > 2 && dtype_size(to) > 2;
      if (is_float(from) && is_float(to))
        c.variants.push_back({name + "_normal", {typed(from, {3, 33}, normal())}, attrs, wide});
    }
  }
  c.variants.push_back({"parallel", {f32({70, 1025}, normal(0, 100))}, {{"to", std::string("i32")}}, false});
  return c;
}

std::vector<OpCase> unary_cases() {
  const Fill positive = uniform(0.3, 3);
  const Fill away_from_zero = listed({0.5, -0.7, 1.3, -2.1, 0.9, 3.3, -0.4});
  return {unary_case("neg", [](double x) { return -x; }),
          unary_case(
              "abs", [](double x) { return std::abs(x); }, away_from_zero),
          unary_case("exp", [](double x) { return std::exp(x); }),
          unary_case(
              "log", [](double x) { return std::log(x); }, positive),
          unary_case(
              "sqrt", [](double x) { return std::sqrt(x); }, positive),
          unary_case(
              "rsqrt", [](double x) { return 1 / std::sqrt(x); }, positive),
          unary_case(
              "reciprocal", [](double x) { return 1 / x; }, positive),
          unary_case("square", [](double x) { return x * x; }),
          unary_case(
              "sign", [](double x) { return x > 0   ? 1
                                            : x < 0 ? -1
                                                    : x; }, away_from_zero),
          unary_case("tanh", [](double x) { return std::tanh(x); }),
          unary_case("sigmoid", sigmoid),
          unary_case(
              "relu", [](double x) { return x <= 0 ? 0 : x; }, away_from_zero),
          unary_case("silu", silu),
          gelu_case(),
          clamp_case(),
          affine_case()};
}

}  // namespace

std::vector<OpCase> elementwise_cases() {
  std::vector<OpCase> cases = unary_cases();
  for (OpCase& c : std::vector<OpCase>{
           arithmetic_case("add", [](double a, double b) { return a + b; }),
           arithmetic_case("sub", [](double a, double b) { return a - b; }),
           arithmetic_case("mul", [](double a, double b) { return a * b; }),
           binary_case(
               "div", [](double a, double b) { return a / b; }, {}, uniform(0.3, 3)),
           binary_case("maximum", maximum),
           binary_case("minimum", minimum),
           pow_case(),
           compare_case("equal", [](double a, double b) { return a == b ? 1.0 : 0.0; }),
           compare_case("less", [](double a, double b) { return a < b ? 1.0 : 0.0; }),
           compare_case("greater", [](double a, double b) { return a > b ? 1.0 : 0.0; }),
           backward_case("relu_backward", [](double dy, double y) { return y <= 0 ? 0 : dy; }),
           backward_case(
               "tanh_backward", [](double dy, double y) { return dy * (1 - y * y); }, uniform(-1, 1)),
           backward_case(
               "sigmoid_backward", [](double dy, double y) { return dy * (y * (1 - y)); }, uniform(0, 1)),
           backward_case("silu_backward", [](double dy, double x) { return dy * silu_slope(x); }),
           gelu_backward_case(),
           where_case(),
           cast_case(),
       }) {
    cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace trivet::testing
