#include "tests/op_cases/elementwise_helpers.h"

namespace trivet::testing {
namespace {

double wrapped(double x, DType type) {
  const auto whole = [&] { return static_cast<std::int64_t>(x); };
  switch (type) {
    case DType::i8:
      return static_cast<std::int8_t>(whole());
    case DType::u8:
      return static_cast<std::uint8_t>(whole());
    case DType::i32:
      return static_cast<std::int32_t>(whole());
    default:
      return x;
  }
}

std::string size_name(const Shape& shape) {
  return "size_" + std::to_string(element_count(shape)) + "_rank_" + std::to_string(shape.size());
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

}  // namespace

Fill normal(double mean, double deviation) { return {.kind = Fill::Kind::normal, .a = mean, .b = deviation}; }
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
CaseInput f32(Shape shape, Fill fill) { return typed(DType::f32, std::move(shape), std::move(fill)); }

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

double number_attribute(const std::string& op, const Variant& v, const std::string& name) {
  return std::get<double>(attribute(op, v, name));
}

Reference binary_reference(BinaryOf f) {
  return [f](const std::vector<Ref>& in, const Variant& v) {
    const Binary function = f(v);
    Ref y = Ref::zeros(broadcast(in[0].shape, in[1].shape));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const double result =
          function(in[0][broadcast_index(i, y.shape, in[0].shape)], in[1][broadcast_index(i, y.shape, in[1].shape)]);
      y[i] = wrapped(result, v.inputs[0].type.dtype);
    }
    return std::vector<Ref>{y};
  };
}

OpCase unary_case_of(std::string op, UnaryOf f, Fill fill) {
  OpCase c;
  c.op = std::move(op);
  c.bf16_inputs = {0};
  c.reference = [f](const std::vector<Ref>& in, const Variant& v) {
    const Unary function = f(v);
    Ref y = in[0];
    for (double& e : y.data) e = wrapped(function(e), v.inputs[0].type.dtype);
    return std::vector<Ref>{y};
  };
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 33}, Shape{1025}, Shape{2, 0}}) {
    c.variants.push_back({size_name(shape), {f32(shape, fill)}, {}, element_count(shape) > 0});
  }
  c.variants[0].name = "scalar";
  c.variants.push_back({"extreme_values", {f32({57}, listed(extreme_values()))}, {}, false});
  c.variants.push_back({"parallel", {f32({70, 1025}, fill)}, {}, false});
  return c;
}

OpCase unary_case(std::string op, Unary f, Fill fill) {
  return unary_case_of(
      std::move(op), [f](const Variant&) { return f; }, std::move(fill));
}

OpCase binary_case(std::string op, Binary f, const Fill& a, const Fill& b) {
  OpCase c;
  c.op = std::move(op);
  c.reference = binary_reference([f](const Variant&) { return f; });
  c.variants = broadcast_variants(a, b);
  c.variants.push_back(extreme_pairs());
  c.bf16_inputs = {0, 1};
  return c;
}

OpCase backward_case_of(std::string op, BinaryOf f, Fill saved) {
  OpCase c;
  c.op = std::move(op);
  c.bf16_inputs = {0, 1};
  c.reference = binary_reference(std::move(f));
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 33}, Shape{1025}, Shape{70, 1025}}) {
    c.variants.push_back({size_name(shape), {f32(shape), f32(shape, saved)}, {}, false});
  }
  c.variants.push_back(
      {"extreme_values", {f32({57}, listed({1, -2, 0.5, 3})), f32({57}, listed(extreme_values()))}, {}, false});
  return c;
}

OpCase backward_case(std::string op, Binary f, Fill saved) {
  return backward_case_of(
      std::move(op), [f](const Variant&) { return f; }, std::move(saved));
}

void add_with_attributes(OpCase& c, const std::string& name, const Attrs& attrs) {
  const std::size_t count = c.variants.size();
  for (std::size_t i = 0; i < count; ++i) {
    Variant v = c.variants[i];
    v.name = name + "_" + v.name;
    v.attrs = attrs;
    c.variants.push_back(std::move(v));
  }
}

}  // namespace trivet::testing
