#include <array>
#include <functional>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

using List = std::vector<std::int64_t>;

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }

// Every convolution as one over three axes: missing ones in front have size 1.
struct Window {
  List strides, pads, dilations;
  std::int64_t groups;
};

Shape five(const Shape& shape) {
  Shape result(5, 1);
  result[0] = shape.front();
  for (std::size_t i = 1; i < shape.size(); ++i) result[5 - shape.size() + i] = shape[i];
  return result;
}

Window window_of(const std::string& op, const Variant& variant, std::size_t rank) {
  const auto list = [&](const char* name) { return std::get<List>(attribute(op, variant, name)); };
  const auto widened = [rank](List values, std::int64_t filler) {
    if (values.empty()) values.assign(rank - 2, filler);
    values.insert(values.begin(), 5 - rank, filler);
    return values;
  };
  List pads = list("pads");
  const auto half = pads.begin() + static_cast<std::ptrdiff_t>(pads.size() / 2);
  List before = widened(List(pads.begin(), half), 0);
  const List after = widened(List(half, pads.end()), 0);
  before.insert(before.end(), after.begin(), after.end());
  return {widened(list("strides"), 1), before, widened(list("dilations"), 1),
          std::get<std::int64_t>(attribute(op, variant, "groups"))};
}

std::int64_t offset(const Shape& shape, const std::array<std::int64_t, 5>& index) {
  std::int64_t result = 0;
  for (std::size_t i = 0; i < 5; ++i) result = result * shape[i] + index[i];
  return result;
}

Shape output_shape(const Window& window, const Shape& x_shape, const Shape& w_shape) {
  const Shape x = five(x_shape);
  const Shape w = five(w_shape);
  Shape y = x_shape;
  y.back() = w[0];
  for (std::size_t i = 0; i < 3; ++i) {
    const std::int64_t reach = window.dilations[i] * (w[i + 1] - 1) + 1;
    const std::int64_t size = (x[i + 1] + window.pads[i] + window.pads[i + 3] - reach) / window.strides[i] + 1;
    if (i + 1 >= 6 - x_shape.size()) y[i + x_shape.size() - 4] = size;
  }
  return y;
}

// Calls f(index into x, index into w, index into y) for every product of the convolution's definition.
void for_each_product(const Window& window, const Shape& x_shape, const Shape& w_shape, const Shape& y_shape,
                      const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& f) {
  const Shape x = five(x_shape);
  const Shape w = five(w_shape);
  const Shape y = five(y_shape);
  const std::int64_t outputs_of_group = w[0] / window.groups;
  const auto position = [&](std::size_t axis, std::int64_t out, std::int64_t tap) {
    return out * window.strides[axis] + tap * window.dilations[axis] - window.pads[axis];
  };
  const auto taps = [&](const std::array<std::int64_t, 5>& at) {
    for (std::int64_t q = 0; q < w[1]; ++q) {
      const std::int64_t plane = position(0, at[1], q);
      if (plane < 0 || plane >= x[1]) continue;
      for (std::int64_t r = 0; r < w[2]; ++r) {
        const std::int64_t row = position(1, at[2], r);
        if (row < 0 || row >= x[2]) continue;
        for (std::int64_t s = 0; s < w[3]; ++s) {
          const std::int64_t column = position(2, at[3], s);
          if (column < 0 || column >= x[3]) continue;
          for (std::int64_t c = 0; c < w[4]; ++c) {
            f(offset(x, {at[0], plane, row, column, at[4] / outputs_of_group * w[4] + c}),
              offset(w, {at[4], q, r, s, c}), offset(y, at));
          }
        }
      }
    }
  };
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t h = 0; h < y[1]; ++h) {
      for (std::int64_t i = 0; i < y[2]; ++i) {
        for (std::int64_t j = 0; j < y[3]; ++j) {
          for (std::int64_t o = 0; o < y[4]; ++o) taps({n, h, i, j, o});
        }
      }
    }
  }
}

void add_bias(Ref& y, const std::vector<Ref>& in) {
  if (in.size() < 3 || in[2].size() == 0) return;
  for (std::int64_t i = 0; i < y.size(); ++i) y[i] += in[2][i % y.shape.back()];
}

std::vector<Ref> forward_reference(const std::string& op, const std::vector<Ref>& in, const Variant& variant) {
  const Ref& x = in[0];
  const Ref& w = in[1];
  const Window window = window_of(op, variant, x.shape.size());
  Ref y = Ref::zeros(output_shape(window, x.shape, w.shape));
  for_each_product(window, x.shape, w.shape, y.shape,
                   [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) { y[yi] += x[xi] * w[wi]; });
  add_bias(y, in);
  const bool relu = std::get<std::string>(attribute(op, variant, "activation")) == "relu";
  for (std::int64_t i = 0; i < y.size(); ++i) {
    if (relu && y[i] < 0) y[i] = 0;
  }
  return {y};
}

std::vector<Ref> backward_data_reference(const std::string& op, const std::vector<Ref>& in, const Variant& variant) {
  const Ref& dy = in[0];
  const Ref& w = in[1];
  Ref dx = Ref::zeros(std::get<List>(attribute(op, variant, "input_shape")));
  for_each_product(window_of(op, variant, dy.shape.size()), dx.shape, w.shape, dy.shape,
                   [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) { dx[xi] += dy[yi] * w[wi]; });
  return {dx};
}

std::vector<Ref> backward_weights_reference(const std::string& op, const std::vector<Ref>& in, const Variant& variant) {
  const Ref& x = in[0];
  const Ref& dy = in[1];
  Ref dw = Ref::zeros(std::get<List>(attribute(op, variant, "kernel_shape")));
  for_each_product(window_of(op, variant, x.shape.size()), x.shape, dw.shape, dy.shape,
                   [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) { dw[wi] += dy[yi] * x[xi]; });
  if (!std::get<bool>(attribute(op, variant, "bias"))) return {dw};
  Ref db = Ref::zeros({dy.shape.back()});
  for (std::int64_t i = 0; i < dy.size(); ++i) db[i % dy.shape.back()] += dy[i];
  return {dw, db};
}

// y[stride * i + dilation * tap - pad] += x[i] w[tap]: each input element is spread over the output.
std::vector<Ref> transpose_reference(const std::vector<Ref>& in, const Variant& variant) {
  const Ref& x = in[0];
  const Ref& w = in[1];
  const std::size_t rank = x.shape.size();
  const Window window = window_of("conv_transpose", variant, rank);
  const List extra = std::get<List>(attribute("conv_transpose", variant, "output_padding"));
  Shape shape = x.shape;
  shape.back() = w.shape.back() * window.groups;
  for (std::size_t i = 0; i + 2 < rank; ++i) {
    const std::size_t axis = i + 5 - rank;
    shape[i + 1] = (x.shape[i + 1] - 1) * window.strides[axis] + (w.shape[i + 1] - 1) * window.dilations[axis] + 1 -
                   window.pads[axis] - window.pads[axis + 3] + (extra.empty() ? 0 : extra[i]);
  }
  Ref y = Ref::zeros(shape);
  for_each_product(window, y.shape, w.shape, x.shape,
                   [&](std::int64_t yi, std::int64_t wi, std::int64_t xi) { y[yi] += x[xi] * w[wi]; });
  add_bias(y, in);
  return {y};
}

// One convolution, from which the variants of all three ops are made.
struct Problem {
  std::string name;
  Shape x, w;
  Attrs attrs = {};
  bool small = true;  // small enough for central differences
};

std::vector<Problem> problems() {
  const auto list = [](const char* name, List values) { return std::pair<std::string, AttrValue>(name, values); };
  const auto pads = [&](std::int64_t n) { return list("pads", {n, n, n, n}); };
  const auto groups = [](std::int64_t n) { return std::pair<std::string, AttrValue>("groups", n); };
  return {
      {"one_element", {1, 1, 1, 1}, {1, 1, 1, 1}},
      {"three_by_three", {2, 5, 4, 3}, {2, 3, 3, 3}},
      {"same_pads", {2, 5, 4, 2}, {3, 3, 3, 2}, {pads(1)}},
      {"asymmetric_pads", {1, 4, 5, 2}, {2, 3, 2, 2}, {list("pads", {2, 0, 1, 3})}},
      {"pads_beyond_the_kernel", {1, 3, 3, 2}, {2, 2, 2, 2}, {pads(3)}},
      {"strides", {1, 7, 6, 2}, {3, 3, 3, 2}, {list("strides", {2, 3}), pads(1)}},
      {"strides_leave_a_rest", {1, 6, 8, 1}, {2, 3, 3, 1}, {list("strides", {2, 4})}},
      {"strides_beyond_the_kernel", {1, 7, 7, 2}, {2, 2, 1, 2}, {list("strides", {3, 3})}},
      {"dilations", {1, 7, 9, 2}, {2, 3, 3, 2}, {list("dilations", {2, 3}), pads(2)}},
      {"strides_and_dilations", {1, 9, 9, 2}, {2, 3, 2, 2}, {list("strides", {2, 2}), list("dilations", {2, 2})}},
      {"groups", {2, 4, 4, 4}, {6, 3, 3, 2}, {groups(2), pads(1)}},
      {"depthwise", {1, 5, 5, 3}, {3, 3, 3, 1}, {groups(3), pads(1)}},
      {"depthwise_two_each", {1, 4, 4, 3}, {6, 3, 3, 1}, {groups(3)}},
      {"one_by_one", {2, 3, 3, 5}, {4, 1, 1, 5}},
      {"one_by_one_strides", {1, 5, 5, 3}, {4, 1, 1, 3}, {list("strides", {2, 2})}},
      {"kernel_of_the_input", {2, 4, 3, 2}, {3, 4, 3, 2}},
      {"row_kernel", {1, 1, 33, 2}, {2, 1, 5, 2}, {list("pads", {0, 2, 0, 2})}},
      {"mnist_1", {3, 28, 28, 1}, {32, 3, 3, 1}, {pads(1)}, false},
      {"mnist_2", {2, 14, 14, 32}, {64, 3, 3, 32}, {pads(1)}, false},
      {"colour", {2, 17, 19, 3}, {16, 3, 3, 3}, {pads(1)}, false},
      {"sixteen", {2, 16, 16, 16}, {16, 3, 3, 16}, {pads(1)}, false},
      {"sixteen_strides", {1, 17, 17, 16}, {32, 3, 3, 16}, {list("strides", {2, 2}), pads(1)}, false},
      {"many_images", {17, 16, 16, 16}, {36, 3, 3, 16}, {pads(1)}, false},
      {"odd_channels", {2, 9, 11, 33}, {35, 3, 3, 33}, {pads(1)}, false},
      {"one_by_one_64", {2, 8, 8, 64}, {32, 1, 1, 64}, {}, false},
      {"seven_by_seven_strides", {1, 33, 33, 3}, {17, 7, 7, 3}, {list("strides", {2, 2}), pads(3)}, false},
      {"depthwise_32", {2, 9, 9, 32}, {32, 3, 3, 1}, {groups(32), pads(1)}, false},
      {"groups_of_16", {1, 9, 9, 32}, {64, 3, 3, 16}, {groups(2), pads(1)}, false},
      {"groups_of_5", {1, 9, 9, 15}, {21, 3, 3, 5}, {groups(3), pads(1)}, false},
      {"dilated_16", {1, 19, 19, 16}, {16, 3, 3, 16}, {list("dilations", {2, 2}), pads(2)}, false},
  };
}

// Sequences and volumes.
std::vector<Problem> other_problems() {
  const auto list = [](const char* name, List values) { return std::pair<std::string, AttrValue>(name, values); };
  const auto groups = [](std::int64_t n) { return std::pair<std::string, AttrValue>("groups", n); };
  return {
      {"sequence_of_one", {1, 1, 1}, {1, 1, 1}},
      {"sequence", {2, 9, 3}, {4, 3, 3}},
      {"sequence_pads", {2, 8, 2}, {3, 3, 2}, {list("pads", {2, 1})}},
      {"sequence_strides", {1, 11, 2}, {3, 3, 2}, {list("strides", {2}), list("pads", {1, 1})}},
      {"sequence_dilations", {1, 13, 2}, {2, 3, 2}, {list("dilations", {3}), list("pads", {3, 0})}},
      {"sequence_groups", {2, 7, 4}, {6, 3, 2}, {groups(2)}},
      {"sequence_depthwise", {1, 9, 3}, {3, 5, 1}, {groups(3), list("pads", {2, 2})}},
      {"sequence_strides_leave_a_rest", {1, 9, 2}, {2, 2, 2}, {list("strides", {4})}},
      {"volume", {2, 4, 5, 3, 2}, {3, 2, 3, 2, 2}},
      {"volume_pads", {1, 3, 4, 4, 2}, {2, 3, 3, 3, 2}, {list("pads", {1, 1, 1, 0, 1, 2})}},
      {"volume_strides",
       {1, 5, 6, 5, 2},
       {2, 3, 3, 3, 2},
       {list("strides", {2, 1, 3}), list("pads", {1, 1, 1, 1, 1, 1})}},
      {"volume_dilations", {1, 5, 5, 4, 1}, {2, 2, 2, 2, 1}, {list("dilations", {2, 3, 1})}},
      {"volume_groups", {1, 3, 3, 3, 4}, {4, 2, 2, 2, 2}, {groups(2)}},
      {"long_sequence", {3, 1025, 16}, {33, 5, 16}, {list("pads", {2, 2})}, false},
      {"volume_16", {2, 5, 9, 11, 16}, {33, 3, 3, 3, 16}, {list("pads", {1, 1, 1, 1, 1, 1})}, false},
  };
}

Shape output_shape(const Problem& p) {
  const std::string op = p.x.size() == 4 ? "conv2d" : "conv";
  return output_shape(window_of(op, {p.name, {}, p.attrs}, p.x.size()), p.x, p.w);
}

// Sums of up to 2,352 products of normal draws in float32.
double tolerance(const Problem& p) { return p.small ? 2e-6 : 1e-4; }

// Small integers: exact in bf16, so that rounded weights are what the reference sees.
CaseInput whole(DType dtype, Shape shape) {
  return {{dtype, std::move(shape)}, {.kind = Fill::Kind::index, .a = -3, .b = 4}};
}

std::vector<Variant> forward_variants(const std::vector<Problem>& from) {
  std::vector<Variant> variants;
  for (const Problem& p : from) {
    variants.push_back({p.name, {f32(p.x), f32(p.w)}, p.attrs, p.small, tolerance(p)});
    Variant biased = {p.name + "_bias_relu", {f32(p.x), f32(p.w), f32({p.w[0]})}, p.attrs, p.small, tolerance(p)};
    biased.attrs.emplace_back("activation", std::string("relu"));
    variants.push_back(std::move(biased));
    if (p.small) continue;
    variants.push_back({p.name + "_f32_weights",
                        {whole(DType::bf16, p.x), whole(DType::f32, p.w), f32({p.w[0]})},
                        p.attrs,
                        false,
                        tolerance(p)});
  }
  return variants;
}

std::vector<Variant> image_variants() {
  std::vector<Variant> variants = forward_variants(problems());
  const Fill one_nan = {.kind = Fill::Kind::values,
                        .values = {1, -2, std::numeric_limits<double>::quiet_NaN(), 0.5, 3, -1, 0, 2, 1, 1, -3}};
  const Attrs relu = {{"activation", std::string("relu")}};
  CaseInput no_bias = f32({2});
  no_bias.absent = true;
  variants.push_back({"absent_bias", {f32({1, 3, 3, 2}), f32({2, 2, 2, 2}), no_bias}});
  variants.push_back({"bias_only", {f32({1, 3, 3, 2}), f32({2, 2, 2, 2}), f32({2})}});
  variants.push_back({"relu_keeps_nan", {f32({1, 5, 5, 1}, one_nan), f32({4, 1, 1, 1}), f32({4})}, relu, false});
  variants.push_back({"mean_1e4", {f32({1, 5, 5, 3}, {.a = 1e4, .b = 1}), f32({4, 3, 3, 3})}, {}, false, 1e-2});
  return variants;
}

std::vector<Variant> backward_data_variants(const std::vector<Problem>& from) {
  std::vector<Variant> variants;
  for (const Problem& p : from) {
    Variant v = {p.name, {f32(output_shape(p)), f32(p.w)}, p.attrs, false, tolerance(p)};
    v.attrs.emplace_back("input_shape", p.x);
    variants.push_back(v);
    if (p.small) continue;
    v.name += "_f32_weights";
    v.inputs = {whole(DType::bf16, output_shape(p)), whole(DType::f32, p.w)};
    variants.push_back(std::move(v));
  }
  return variants;
}

std::vector<Variant> backward_weights_variants(const std::vector<Problem>& from) {
  std::vector<Variant> variants;
  for (const Problem& p : from) {
    // Sums over all pixels of all images.
    Variant v = {p.name, {f32(p.x), f32(output_shape(p))}, p.attrs, false, p.small ? 2e-6 : 4e-4};
    v.attrs.emplace_back("kernel_shape", p.w);
    variants.push_back(v);
    const bool f32_result = variants.size() % 4 == 1;  // every other problem
    v.name += f32_result ? "_and_bias_f32" : "_and_bias";
    v.attrs.emplace_back("bias", true);
    v.attrs.emplace_back("dtype", std::string(f32_result ? "f32" : "same"));
    variants.push_back(std::move(v));
  }
  return variants;
}

std::vector<Variant> transpose_variants() {
  std::vector<Variant> variants;
  std::vector<Problem> from = problems();
  for (Problem& p : other_problems()) from.push_back(std::move(p));
  for (const Problem& p : from) {
    const bool bias = variants.size() % 2 == 1;
    std::vector<CaseInput> inputs = {f32(output_shape(p)), f32(p.w)};
    if (bias) inputs.push_back(f32({p.x.back()}));
    variants.push_back({p.name + (bias ? "_bias" : ""), std::move(inputs), p.attrs, p.small, tolerance(p)});
  }
  const auto list = [](const char* name, List values) { return std::pair<std::string, AttrValue>(name, values); };
  const Attrs padded = {list("strides", {3, 2}), list("pads", {1, 0, 2, 1}), list("output_padding", {2, 1})};
  variants.push_back({"output_padding", {f32({2, 3, 4, 2}), f32({2, 3, 3, 3}), f32({3})}, padded});
  variants.push_back({"sequence_output_padding",
                      {f32({2, 5, 4}), f32({4, 3, 1}), f32({2})},
                      {list("strides", {2}), list("output_padding", {1}), {"groups", std::int64_t{2}}}});
  variants.push_back({"volume_output_padding",
                      {f32({1, 2, 2, 3, 2}), f32({2, 2, 3, 2, 3})},
                      {list("strides", {2, 2, 2}), list("output_padding", {1, 0, 1}), list("dilations", {1, 2, 1})}});
  variants.push_back({"f32_weights",
                      {whole(DType::bf16, {2, 7, 7, 33}), whole(DType::f32, {33, 3, 3, 17}), whole(DType::f32, {17})},
                      {list("strides", {2, 2})},
                      false});
  return variants;
}

}  // namespace

std::vector<OpCase> convolution_cases() {
  std::vector<OpCase> cases;
  for (const std::string op : {"conv2d", "conv"}) {
    const std::vector<Problem> from = op == "conv2d" ? problems() : other_problems();
    const auto bound = [](auto reference, const std::string& name) {
      return [=](const std::vector<Ref>& in, const Variant& variant) { return reference(name, in, variant); };
    };
    const std::string data = op + "_backward_data";
    const std::string weights = op + "_backward_weights";
    cases.push_back({.op = op,
                     .reference = bound(forward_reference, op),
                     .variants = op == "conv2d" ? image_variants() : forward_variants(from),
                     .bf16_inputs = {0, 1, 2}});
    cases.push_back({.op = data,
                     .reference = bound(backward_data_reference, data),
                     .variants = backward_data_variants(from),
                     .bf16_inputs = {0, 1}});
    cases.push_back({.op = weights,
                     .reference = bound(backward_weights_reference, weights),
                     .variants = backward_weights_variants(from),
                     .bf16_inputs = {0, 1}});
  }
  cases.push_back({.op = "conv_transpose",
                   .reference = transpose_reference,
                   .variants = transpose_variants(),
                   .bf16_inputs = {0, 1, 2}});
  return cases;
}

}  // namespace trivet::testing
