#include <cmath>

#include "tests/op_cases/elementwise_helpers.h"

namespace trivet::testing {
namespace {

constexpr DType kIntegerTypes[] = {DType::i32, DType::i64, DType::i8, DType::u8};

// Small numbers of every sign, and the ends of the types' ranges: the driver limits values to the type.
void add_integer_variants(OpCase& c) {
  const Fill small = {.kind = Fill::Kind::index, .a = -9, .b = 10};
  const Fill ends_a = listed({2147483647, -2147483648.0, 2147483640, 127, -128, 255, 100, 5, 0, -7});
  const Fill ends_b = listed({3, -3, 100003, 0, -1, 1, 7, -128, 255, 2, 17});
  for (const DType type : kIntegerTypes) {
    const std::string name = dtype_name(type);
    c.variants.push_back({name, {typed(type, {3, 33}, small), typed(type, {3, 33}, small)}, {}, false});
    c.variants.push_back({name + "_bias", {typed(type, {3, 33}, small), typed(type, {33}, small)}, {}, false});
    c.variants.push_back({name + "_ends", {typed(type, {110}, ends_a), typed(type, {110}, ends_b)}, {}, false});
    c.variants.push_back({name + "_parallel", {typed(type, {70, 1025}, small), typed(type, {1}, small)}, {}, false});
  }
}

// `integer`: what the op means for integers before their results wrap around.
OpCase arithmetic_case(std::string op, Binary f, Binary integer, const Fill& a = {}, const Fill& b = {}) {
  OpCase c = binary_case(std::move(op), f, a, b);
  c.reference = binary_reference([=](const Variant& v) { return is_float(v.inputs[0].type.dtype) ? f : integer; });
  add_integer_variants(c);
  return c;
}

double quotient(double a, double b) { return b == 0 ? 0 : std::trunc(a / b); }
double maximum(double a, double b) { return std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b); }
double minimum(double a, double b) { return std::isnan(a) || std::isnan(b) ? kNan : std::min(a, b); }

OpCase mod_case() {
  // Away from the steps.
  OpCase c = binary_case("mod", {}, listed({5.3, -4.1, 7.9, -2.5, 3.9}), listed({1.1, 2.3, -0.9, 1.7}));
  const Fill wide = listed({1e30, -7e20, 16777215, 12345.678, -3e5});
  c.variants.push_back({"large_quotients", {f32({99}, wide), f32({99}, uniform(0.01, 5))}, {}, false});
  for (Variant& v : c.variants) v.attrs = {{"fmod", true}};
  OpCase integers;
  add_integer_variants(integers);
  for (Variant& v : integers.variants) {
    c.variants.push_back(v);
    v.name += "_fmod";
    v.attrs = {{"fmod", true}};
    c.variants.push_back(v);
  }
  c.reference = binary_reference([](const Variant& v) -> Binary {
    const bool integer = !is_float(v.inputs[0].type.dtype);
    const bool fmod = std::get<bool>(attribute("mod", v, "fmod"));
    return [=](double a, double b) {
      if (integer && b == 0) return 0.0;
      return fmod ? std::fmod(a, b) : a - b * std::floor(a / b);
    };
  });
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

// --- comparisons and logic ---

OpCase compare_case(std::string op, Binary f) {
  // Few distinct values, so that many pairs are equal.
  OpCase c = binary_case(std::move(op), f, index_below(3), index_below(3));
  c.reference = [f](const std::vector<Ref>& in, const Variant&) {
    Ref y = Ref::zeros(broadcast(in[0].shape, in[1].shape));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = f(in[0][broadcast_index(i, y.shape, in[0].shape)], in[1][broadcast_index(i, y.shape, in[1].shape)]);
    }
    return std::vector<Ref>{y};
  };
  for (Variant& v : c.variants) v.gradient = false;
  c.variants.push_back({"normal", {f32({3, 33}), f32({3, 33})}, {}, false});
  add_integer_variants(c);
  return c;
}

Variant bool_variant(const std::string& name, const Shape& a, const Shape& b) {
  return {name, {typed(DType::boolean, a, index_below(2)), typed(DType::boolean, b, index_below(2))}, {}, false};
}

OpCase equality_case(std::string op, Binary f) {
  OpCase c = compare_case(std::move(op), std::move(f));
  c.variants.push_back(bool_variant("bool", {5, 33}, {33}));
  return c;
}

OpCase logical_case(std::string op, Binary f) {
  OpCase c = compare_case(std::move(op), std::move(f));
  c.bf16_inputs = {};
  c.variants = {bool_variant("scalars", {}, {}),
                bool_variant("one", {1}, {1}),
                bool_variant("same_shape", {3, 33}, {3, 33}),
                bool_variant("bias", {7, 1025}, {1025}),
                bool_variant("outer", {9, 1}, {1, 5}),
                bool_variant("empty", {0, 3}, {3}),
                bool_variant("parallel", {70, 1025}, {70, 1025})};
  return c;
}

// --- where ---

OpCase where_case() {
  OpCase c;
  c.op = "where";
  c.bf16_inputs = {1, 2};
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

}  // namespace

std::vector<OpCase> elementwise_cases() {
  const auto add = [](double a, double b) { return a + b; };
  const auto sub = [](double a, double b) { return a - b; };
  const auto mul = [](double a, double b) { return a * b; };
  const auto div = [](double a, double b) { return a / b; };
  return {
      arithmetic_case("add", add, add),
      arithmetic_case("sub", sub, sub),
      arithmetic_case("mul", mul, mul),
      arithmetic_case("div", div, quotient, {}, uniform(0.3, 3)),
      mod_case(),
      arithmetic_case("maximum", maximum, maximum),
      arithmetic_case("minimum", minimum, minimum),
      pow_case(),
      equality_case("equal", [](double a, double b) { return a == b; }),
      equality_case("not_equal", [](double a, double b) { return a != b; }),
      compare_case("less", [](double a, double b) { return a < b; }),
      compare_case("less_equal", [](double a, double b) { return a <= b; }),
      compare_case("greater", [](double a, double b) { return a > b; }),
      compare_case("greater_equal", [](double a, double b) { return a >= b; }),
      logical_case("logical_and", [](double a, double b) { return a * b; }),
      logical_case("logical_or", [](double a, double b) { return std::max(a, b); }),
      logical_case("logical_xor", [](double a, double b) { return a != b; }),
      where_case(),
  };
}

}  // namespace trivet::testing
