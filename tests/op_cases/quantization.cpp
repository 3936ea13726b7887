#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

using List = std::vector<std::int64_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput absent() { return {{DType::f32, {}}, {}, true}; }

Fill values(std::vector<double> v) { return {.kind = Fill::Kind::values, .values = std::move(v)}; }

CaseInput number(double v, DType dtype = DType::f32) { return {{dtype, {}}, values({v})}; }

// All values of the type.
CaseInput integers(DType dtype, Shape shape) {
  const double low = dtype == DType::u8 ? 0 : -128;
  return {{dtype, std::move(shape)}, {.kind = Fill::Kind::index, .a = low, .b = low + 256}};
}

// The position of element i along the axis of scale, or 0 for a scale of one number.
std::int64_t channel(const Ref& x, const Ref& scale, std::int64_t axis, std::int64_t i) {
  if (scale.shape.empty()) return 0;
  if (axis < 0) axis += static_cast<std::int64_t>(x.shape.size());
  std::int64_t inner = 1;
  for (std::size_t d = static_cast<std::size_t>(axis) + 1; d < x.shape.size(); ++d) inner *= x.shape[d];
  return i / inner % scale.shape[0];
}

double saturate(double v, bool is_unsigned) {
  const double low = is_unsigned ? 0 : -128;
  return v > low ? std::min(v, low + 255) : low;  // NaN as well
}

bool is_u8(const Variant& variant, std::size_t zero_point, bool otherwise) {
  if (zero_point >= variant.inputs.size() || variant.inputs[zero_point].absent) return otherwise;
  return variant.inputs[zero_point].type.dtype == DType::u8;
}

double zero_of(const std::vector<Ref>& in, std::size_t input, std::int64_t i) {
  return in.size() > input && in[input].size() > 0 ? in[input][i] : 0;
}

std::vector<Ref> quantize_reference(const std::vector<Ref>& in, const Variant& variant) {
  const auto axis = std::get<std::int64_t>(attribute("quantize_linear", variant, "axis"));
  const bool u8 = is_u8(variant, 2, std::get<std::string>(attribute("quantize_linear", variant, "dtype")) == "u8");
  Ref y = in[0];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t c = channel(in[0], in[1], axis, i);
    // The quotient is an f32: ties are those of the rounded one.
    const float quotient = static_cast<float>(y[i]) / static_cast<float>(in[1][c]);
    y[i] = saturate(std::nearbyint(static_cast<double>(quotient)) + zero_of(in, 2, c), u8);
  }
  return {y};
}

std::vector<Ref> dequantize_reference(const std::vector<Ref>& in, const Variant& variant) {
  const auto axis = std::get<std::int64_t>(attribute("dequantize_linear", variant, "axis"));
  Ref y = in[0];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t c = channel(in[0], in[1], axis, i);
    y[i] = (y[i] - zero_of(in, 2, c)) * in[1][c];
  }
  return {y};
}

// Inputs of both products.
enum Input { kX, kXScale, kXZeroPoint, kW, kWScale, kBias, kYScale, kYZeroPoint };

// Integer sums (in `y`) to results.
void finish(const std::string& op, const std::vector<Ref>& in, const Variant& variant, Ref& y) {
  const bool relu = std::get<std::string>(attribute(op, variant, "activation")) == "relu";
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t c = i % y.shape.back();
    double v = y[i] * (in[kXScale][0] * in[kWScale][in[kWScale].shape.empty() ? 0 : c]);
    v += zero_of(in, kBias, c);
    if (relu && v < 0) v = 0;
    if (in.size() > kYScale && in[kYScale].size() > 0) {
      v = saturate(std::nearbyint(v / in[kYScale][0]) + in[kYZeroPoint][0], is_u8(variant, kYZeroPoint, true));
    }
    y[i] = v;
  }
}

std::vector<Ref> linear_reference(const std::vector<Ref>& in, const Variant& variant) {
  const std::int64_t n = in[kW].shape[0];
  const std::int64_t k = in[kW].shape[1];
  Shape shape = in[kX].shape;
  shape.back() = n;
  Ref y = Ref::zeros(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    for (std::int64_t l = 0; l < k; ++l) y[i] += (in[kX][i / n * k + l] - in[kXZeroPoint][0]) * in[kW][i % n * k + l];
  }
  finish("linear_int8", in, variant, y);
  return {y};
}

// Sum of the products for output channel o at (row, column), which are counted from the padded corner.
double pixel(const Ref& x, const Ref& w, double zero, std::int64_t image, std::int64_t o, std::int64_t group,
             const List& dilations, std::int64_t row, std::int64_t column) {
  double sum = 0;
  for (std::int64_t r = 0; r < w.shape[1]; ++r) {
    for (std::int64_t s = 0; s < w.shape[2]; ++s) {
      const std::int64_t h = row + r * dilations[0];
      const std::int64_t v = column + s * dilations[1];
      if (h < 0 || h >= x.shape[1] || v < 0 || v >= x.shape[2]) continue;
      for (std::int64_t c = 0; c < w.shape[3]; ++c) {
        const std::int64_t at = ((image * x.shape[1] + h) * x.shape[2] + v) * x.shape[3] + group * w.shape[3] + c;
        sum += (x[at] - zero) * w[((o * w.shape[1] + r) * w.shape[2] + s) * w.shape[3] + c];
      }
    }
  }
  return sum;
}

std::vector<Ref> conv2d_reference(const std::vector<Ref>& in, const Variant& variant) {
  const auto list = [&](const char* name) { return std::get<List>(attribute("conv2d_int8", variant, name)); };
  const List strides = list("strides"), pads = list("pads"), dilations = list("dilations");
  const auto groups = std::get<std::int64_t>(attribute("conv2d_int8", variant, "groups"));
  const Ref& x = in[kX];
  const Ref& w = in[kW];
  Shape shape = {x.shape[0], 0, 0, w.shape[0]};
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int64_t reach = dilations[i] * (w.shape[i + 1] - 1) + 1;
    shape[i + 1] = (x.shape[i + 1] + pads[i] + pads[i + 2] - reach) / strides[i] + 1;
  }
  Ref y = Ref::zeros(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t o = i % shape[3];
    const std::int64_t column = i / shape[3] % shape[2] * strides[1] - pads[1];
    const std::int64_t row = i / shape[3] / shape[2] % shape[1] * strides[0] - pads[0];
    const std::int64_t image = i / shape[3] / shape[2] / shape[1];
    y[i] = pixel(x, w, in[kXZeroPoint][0], image, o, o / (shape[3] / groups), dilations, row, column);
  }
  finish("conv2d_int8", in, variant, y);
  return {y};
}

std::vector<Variant> quantize_variants() {
  const Fill wide = {.a = 0, .b = 40};
  const Fill scales = {.kind = Fill::Kind::uniform, .a = 0.1, .b = 0.9};
  const Fill zeros = {.kind = Fill::Kind::index, .a = -9, .b = 10};
  const Fill edges = values({0.5, 1.5, 2.5, -0.5, -1.5, -0.0, 127.5, 1e30, -1e30, kInfinity, -kInfinity, NAN, 254.5});
  const auto i8 = [&](Shape shape) { return CaseInput{{DType::i8, std::move(shape)}, zeros}; };
  const Attrs to_i8 = {{"dtype", std::string("i8")}};
  return {
      {"scalar", {f32({}, wide), number(0.3)}},
      {"u8", {f32({33}, wide), number(0.3), number(100, DType::u8)}},
      {"i8", {f32({3, 1025}, wide), number(0.3), number(-7, DType::i8)}},
      {"no_zero_point_i8", {f32({33}, wide), number(0.3)}, to_i8},
      {"absent_zero_point", {f32({33}, wide), number(0.3), absent()}},
      {"channels_last", {f32({5, 3, 33}, wide), f32({33}, scales), i8({33})}},
      {"channels_first", {f32({33, 3, 5}, wide), f32({33}, scales), i8({33})}, {{"axis", std::int64_t{0}}}},
      {"channels_between", {f32({3, 7, 5}, wide), f32({7}, scales)}, {{"axis", std::int64_t{1}}, to_i8[0]}},
      {"one_channel", {f32({5, 1}, wide), f32({1}, scales), i8({1})}},
      {"many", {f32({20'011}, wide), number(0.3), number(3, DType::i8)}},
      {"many_channels", {f32({2, 17'011}, wide), f32({17'011}, scales)}},
      {"ties_and_edges", {f32({26}, edges), number(1)}},
      {"ties_and_edges_i8", {f32({26}, edges), number(1), number(-128, DType::i8)}},
      {"no_elements", {f32({0, 3}), f32({3}, scales)}},
  };
}

std::vector<Variant> dequantize_variants() {
  const Fill scales = {.kind = Fill::Kind::uniform, .a = 0.1, .b = 0.9};
  const Attrs first = {{"axis", std::int64_t{0}}};
  const Fill extreme = values({2147483647, -2147483648.0, 0, 1000});
  const auto i32 = [&](double v) { return number(v, DType::i32); };
  return {
      {"u8", {integers(DType::u8, {33}), number(0.3), number(100, DType::u8)}},
      {"i8", {integers(DType::i8, {3, 1025}), number(0.3)}},
      {"i32", {CaseInput{TensorType{DType::i32, {7}}, extreme}, number(0.01), i32(-1000)}},
      {"channels_last", {integers(DType::u8, {5, 33}), f32({33}, scales), integers(DType::u8, {33})}},
      {"channels_first", {integers(DType::i8, {33, 3, 5}), f32({33}, scales), integers(DType::i8, {33})}, first},
      {"many", {integers(DType::u8, {20'011}), number(0.3), number(3, DType::u8)}},
  };
}

// The inputs besides x, w and bias. f32 results may have any scale. Integer results have scales that are powers of two,
// so that they are exact and ties are ties.
struct Numbers {
  std::string name;
  CaseInput x_zero_point;
  bool channels = true;  // a scale for each
  CaseInput y_scale = absent();
  CaseInput y_zero_point = absent();
};

std::vector<Numbers> numbers() {
  return {{"u8_to_f32", number(128, DType::u8)},
          {"i8_to_f32_one_scale", number(-3, DType::i8), false},
          {"u8_without_zero_point_to_f32", number(0, DType::u8), false},
          {"u8_to_u8", number(7, DType::u8), true, number(16), number(100, DType::u8)},
          {"i8_to_i8", number(0, DType::i8), true, number(32), number(-5, DType::i8)},
          {"u8_to_i8", number(255, DType::u8), true, number(64), number(11, DType::i8)}};
}

std::vector<CaseInput> product_inputs(const Numbers& n, Shape x, Shape w, bool bias) {
  const bool exact = !n.y_scale.absent;
  const Shape channels = {w[0]};
  const Fill scales = exact ? values({0.25, 0.125, 0.5}) : Fill{.kind = Fill::Kind::uniform, .a = 0.001, .b = 0.1};
  std::vector<CaseInput> inputs = {integers(n.x_zero_point.type.dtype, std::move(x)), number(exact ? 0.5 : 0.013),
                                   n.x_zero_point, integers(DType::i8, std::move(w)),
                                   f32(n.channels ? channels : Shape{}, scales)};
  if (!bias && !exact) return inputs;
  inputs.push_back(bias ? f32(channels, exact ? values({-3, 8.5, 100, 0}) : Fill{}) : absent());
  inputs.push_back(n.y_scale);
  inputs.push_back(n.y_zero_point);
  return inputs;
}

const Attrs kRelu = {{"activation", std::string("relu")}};

std::vector<Variant> linear_variants() {
  struct Size {
    std::string name;
    Shape rows;
    std::int64_t k, n;
  };
  std::vector<Variant> variants;
  for (const Size& size : {Size{"vector", {}, 5, 3}, Size{"small", {3}, 4, 5}, Size{"sequence", {2, 3}, 33, 17},
                           Size{"one_row", {1}, 1025, 33}, Size{"large", {65}, 257, 131}, Size{"one", {1}, 1, 1}}) {
    Shape x = size.rows;
    x.push_back(size.k);
    for (const Numbers& n : numbers()) {
      variants.push_back({size.name + "_" + n.name, product_inputs(n, x, {size.n, size.k}, false)});
      variants.push_back({size.name + "_bias_relu_" + n.name, product_inputs(n, x, {size.n, size.k}, true), kRelu});
    }
  }
  // Pairs of the largest products do not fit in 16 bits.
  Variant largest = {"largest", product_inputs(numbers()[2], {3, 513}, {5, 513}, false)};
  largest.inputs[kX].fill = values({255});
  largest.inputs[kW].fill = values({127});
  variants.push_back(largest);
  largest.name = "least";
  largest.inputs[kW].fill = values({-128});
  variants.push_back(largest);
  return variants;
}

std::vector<Variant> conv2d_variants() {
  const auto list = [](const char* name, List v) { return std::pair<std::string, AttrValue>(name, std::move(v)); };
  const auto groups = [](std::int64_t n) { return std::pair<std::string, AttrValue>("groups", n); };
  struct Problem {
    std::string name;
    Shape x, w;
    Attrs attrs = {};
  };
  const std::vector<Problem> problems = {
      {"one_element", {1, 1, 1, 1}, {1, 1, 1, 1}},
      {"small", {2, 5, 4, 3}, {2, 3, 3, 3}},
      {"pads", {2, 5, 4, 2}, {3, 3, 3, 2}, {list("pads", {1, 0, 1, 2})}},
      {"strides", {1, 7, 6, 4}, {3, 3, 3, 4}, {list("strides", {2, 3}), list("pads", {1, 1, 1, 1})}},
      {"dilations", {1, 7, 9, 4}, {2, 3, 3, 4}, {list("dilations", {2, 3}), list("pads", {2, 2, 2, 2})}},
      {"groups", {2, 4, 4, 4}, {6, 3, 3, 2}, {groups(2), list("pads", {1, 1, 1, 1})}},
      {"depthwise", {1, 5, 5, 16}, {16, 3, 3, 1}, {groups(16), list("pads", {1, 1, 1, 1})}},
      {"one_by_one", {3, 3, 3, 33}, {17, 1, 1, 33}},
      {"mnist_1", {7, 28, 28, 1}, {32, 3, 3, 1}, {list("pads", {1, 1, 1, 1})}},
      {"mnist_2", {6, 14, 14, 32}, {64, 3, 3, 32}, {list("pads", {1, 1, 1, 1})}},
      {"odd_channels", {2, 9, 11, 33}, {35, 3, 3, 33}, {list("pads", {1, 1, 1, 1})}}};
  std::vector<Variant> variants;
  for (const Problem& p : problems) {
    bool bias = variants.size() % 12 == 0;  // for every other one, and for the others in the next problem
    for (const Numbers& n : numbers()) {
      bias = !bias;
      Variant v = {p.name + (bias ? "_bias_relu_" : "_") + n.name, product_inputs(n, p.x, p.w, bias), p.attrs};
      if (bias) v.attrs.push_back(kRelu[0]);
      variants.push_back(std::move(v));
    }
  }
  return variants;
}

}  // namespace

std::vector<OpCase> quantization_cases() {
  return {
      {.op = "quantize_linear", .reference = quantize_reference, .variants = quantize_variants(), .bf16_inputs = {0}},
      {.op = "dequantize_linear", .reference = dequantize_reference, .variants = dequantize_variants()},
      {.op = "linear_int8", .reference = linear_reference, .variants = linear_variants()},
      {.op = "conv2d_int8", .reference = conv2d_reference, .variants = conv2d_variants()},
  };
}

}  // namespace trivet::testing
