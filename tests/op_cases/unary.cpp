#include <cmath>
#include <numbers>

#include "tests/op_cases/elementwise_helpers.h"

namespace trivet::testing {
namespace {

// --- with attributes ---

OpCase clamp_case() {
  OpCase c = unary_case_of("clamp", [](const Variant& v) -> Unary {
    const double low = number_attribute("clamp", v, "min"), high = number_attribute("clamp", v, "max");
    return [=](double x) { return std::isnan(x) ? x : std::min(std::max(x, low), high); };
  });
  for (const auto& [name, attrs] : std::vector<std::pair<std::string, Attrs>>{
           {"both", {{"min", -0.5}, {"max", 1.25}}}, {"min_only", {{"min", 0.25}}}, {"max_only", {{"max", 0.0}}}}) {
    c.variants.push_back({name, {f32({3, 33})}, attrs});
    c.variants.push_back({name + "_extreme_values", {f32({57}, listed(extreme_values()))}, attrs, false});
  }
  return c;
}

OpCase affine_case() {
  OpCase c = unary_case_of("affine", [](const Variant& v) -> Unary {
    const double scale = number_attribute("affine", v, "scale"), shift = number_attribute("affine", v, "shift");
    return [=](double x) { return scale * x + shift; };
  });
  c.variants.push_back({"scale_and_shift", {f32({3, 33})}, {{"scale", -1.5}, {"shift", 0.25}}});
  c.variants.push_back({"shift_only", {f32({1025}, normal(1e4))}, {{"shift", -1e4}}});
  c.variants.push_back({"scale_only", {f32({70, 1025})}, {{"scale", 3.0}}, false});
  return c;
}

// --- integers ---

OpCase integer_case(std::string op, Unary f, const std::vector<DType>& types, Fill fill = {}) {
  OpCase c = unary_case(std::move(op), std::move(f), std::move(fill));
  const Fill values = listed({0, 1, -1, 7, -9, 127, -128, 255, 100, -100, 2147483647, -2147483648.0, 0x1p40, -0x1p40});
  for (const DType type : types) {
    c.variants.push_back({dtype_name(type), {typed(type, {3, 33}, values)}, {}, false});
    c.variants.push_back({std::string(dtype_name(type)) + "_parallel", {typed(type, {70, 1025}, values)}, {}, false});
  }
  return c;
}

double sign(double x) {
  if (x > 0) return 1;
  return x < 0 ? -1 : x;
}

// --- rounding ---

OpCase rounding_case(std::string op, Unary f) {
  OpCase c = unary_case(std::move(op), std::move(f), listed({0.3, -0.7, 1.6, -2.4, 3.3}));
  const Fill ties =
      listed({0.5,       -0.5,       1.5,     -1.5,     2.5, -2.5,  3.5,        0.49999997,  -0.49999997, 4194303.5,
              4194304.5, -8388607.5, 8388608, 16777215, 3e9, -1e20, 0.99999994, -0.99999994, 7,           -7});
  c.variants.push_back({"ties", {f32({60}, ties)}, {}, false});
  c.variants.push_back({"thousands", {f32({1025}, normal(0, 1000))}, {}, false});
  return c;
}

// --- trigonometry ---

// Up to 2^20 arguments are reduced in one way, beyond in another.
OpCase periodic_case(std::string op, Unary f, Fill fill = normal(0, 2)) {
  OpCase c = unary_case(std::move(op), std::move(f), std::move(fill));
  const auto add = [&](const std::string& name, Fill values) {
    c.variants.push_back({name, {f32({1025}, std::move(values))}, {}, false});
  };
  add("to_1e5", uniform(-1e5, 1e5));
  add("to_2e6", uniform(-2e6, 2e6));
  add("to_1e38", uniform(-1e38, 1e38));
  // Every binary exponent of a mantissa, small and huge among each other.
  std::vector<double> powers;
  for (int e = -30; e < 128; ++e) powers.push_back(std::ldexp(e % 2 == 0 ? 1.0 : -1.7320508, e));
  add("powers", listed(powers));
  // The float32 nearest to a multiple of pi / 2, relative to its size, and its neighbours' halves and doubles.
  add("near_multiples", listed({std::ldexp(16367173.0, 72), std::ldexp(16367173.0, 71), std::ldexp(16367173.0, 73),
                                11 * std::numbers::pi, 355, 710, 52174, 5e5 * std::numbers::pi, 1048576, 1048577}));
  return c;
}

// --- tests ---

OpCase test_case(std::string op, UnaryOf f) {
  OpCase c = unary_case_of(std::move(op), std::move(f));
  for (Variant& v : c.variants) v.gradient = false;
  c.variants.push_back({"special", {f32({3, 33}, listed({kNan, 1, kInf, -kInf, 0, 3e38, -1e-40}))}, {}, false});
  return c;
}

OpCase is_inf_case() {
  OpCase c = test_case("is_inf", [](const Variant& v) -> Unary {
    const bool positive = std::get<bool>(attribute("is_inf", v, "detect_positive"));
    const bool negative = std::get<bool>(attribute("is_inf", v, "detect_negative"));
    return [=](double x) { return std::isinf(x) && (x > 0 ? positive : negative); };
  });
  const Variant special = c.variants.back();
  for (const bool positive : {false, true}) {
    Variant v = special;
    v.name = positive ? "positive_only" : "negative_only";
    v.attrs = {{"detect_positive", positive}, {"detect_negative", !positive}};
    c.variants.push_back(std::move(v));
  }
  Variant neither = special;
  neither.name = "neither";
  neither.attrs = {{"detect_positive", false}, {"detect_negative", false}};
  c.variants.push_back(std::move(neither));
  return c;
}

OpCase logical_not_case() {
  OpCase c = unary_case("logical_not", [](double x) { return 1 - x; });
  c.bf16_inputs = {};
  c.variants.clear();
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 33}, Shape{2, 0}, Shape{70, 1025}}) {
    c.variants.push_back(
        {"size_" + std::to_string(element_count(shape)), {typed(DType::boolean, shape, index_below(2))}, {}, false});
  }
  return c;
}

// --- cast ---

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
    const DType to = dtype_from_name(std::get<std::string>(attribute("cast", v, "to")));
    for (double& x : y.data) x = cast_value(x, to);
    return std::vector<Ref>{y};
  };
  const std::vector<DType> types = {DType::f32,     DType::f64,  DType::i32, DType::i64, DType::u8,
                                    DType::boolean, DType::bf16, DType::f16, DType::i8};
  const Fill floats = listed({0,      -0.0, 1,     -1,    2.5,   -2.5,  0.99,       -0.99,        127.9,         128,
                              -128.9, -129, -130,  254.7, 255.5, 256,   2147483520, 2147483648.0, -2147483648.0, 3e9,
                              -3e9,   1e19, -1e19, kNan,  kInf,  -kInf, 1e-40,      16777217});
  const Fill integers = listed({0, 1, -1, 2, 127, 128, -128, -129, 255, 256, -300, 2147483647, 2147483648.0,
                                -2147483648.0, 4e9, -4e9, 0x1p53, -0x1p53});
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

}  // namespace

std::vector<OpCase> unary_cases() {
  const Fill positive = uniform(0.3, 3);
  const Fill inside_1 = uniform(-0.95, 0.95);
  const Fill away_from_zero = listed({0.5, -0.7, 1.3, -2.1, 0.9, 3.3, -0.4});
  const std::vector<DType> with_sign = {DType::i32, DType::i64, DType::i8};
  const std::vector<DType> integers = {DType::i32, DType::i64, DType::i8, DType::u8};
  return {
      integer_case(
          "neg", [](double x) { return -x; }, with_sign),
      integer_case(
          "abs", [](double x) { return std::abs(x); }, integers, away_from_zero),
      integer_case("sign", sign, integers, away_from_zero),
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
      clamp_case(),
      affine_case(),
      rounding_case("floor", [](double x) { return std::floor(x); }),
      rounding_case("ceil", [](double x) { return std::ceil(x); }),
      rounding_case("round", [](double x) { return std::nearbyint(x); }),
      unary_case("erf", [](double x) { return std::erf(x); }),
      periodic_case("sin", [](double x) { return std::sin(x); }),
      periodic_case("cos", [](double x) { return std::cos(x); }),
      periodic_case(
          "tan", [](double x) { return std::tan(x); }, uniform(-1.2, 1.2)),
      unary_case(
          "asin", [](double x) { return std::asin(x); }, inside_1),
      unary_case(
          "acos", [](double x) { return std::acos(x); }, inside_1),
      unary_case(
          "atan", [](double x) { return std::atan(x); }, normal(0, 3)),
      unary_case("sinh", [](double x) { return std::sinh(x); }),
      unary_case("cosh", [](double x) { return std::cosh(x); }),
      unary_case(
          "asinh", [](double x) { return std::asinh(x); }, normal(0, 3)),
      unary_case(
          "acosh", [](double x) { return std::acosh(x); }, uniform(1.1, 9)),
      unary_case(
          "atanh", [](double x) { return std::atanh(x); }, inside_1),
      test_case("is_nan", [](const Variant&) -> Unary { return [](double x) { return std::isnan(x); }; }),
      is_inf_case(),
      logical_not_case(),
      cast_case(),
  };
}

}  // namespace trivet::testing
