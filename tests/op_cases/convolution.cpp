#include <functional>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

using List = std::vector<std::int64_t>;

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }

struct Window {
  List strides, pads, dilations;
  std::int64_t groups;
};

Window window_of(const std::string& op, const Variant& variant) {
  return {std::get<List>(attribute(op, variant, "strides")), std::get<List>(attribute(op, variant, "pads")),
          std::get<List>(attribute(op, variant, "dilations")),
          std::get<std::int64_t>(attribute(op, variant, "groups"))};
}

std::int64_t offset(const Shape& shape, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  return ((a * shape[1] + b) * shape[2] + c) * shape[3] + d;
}

Shape output_shape(const Window& window, const Shape& x, const Shape& w) {
  Shape y = {x[0], 0, 0, w[0]};
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int64_t reach = window.dilations[i] * (w[i + 1] - 1) + 1;
    y[i + 1] = (x[i + 1] + window.pads[i] + window.pads[i + 2] - reach) / window.strides[i] + 1;
  }
  return y;
}

// Calls f(index into x, index into w, index into y) for every product of the convolution's definition.
void for_each_product(const Window& window, const Shape& x, const Shape& w, const Shape& y,
                      const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& f) {
  const std::int64_t outputs_of_group = w[0] / window.groups;
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t i = 0; i < y[1]; ++i) {
      for (std::int64_t j = 0; j < y[2]; ++j) {
        for (std::int64_t o = 0; o < y[3]; ++o) {
          for (std::int64_t r = 0; r < w[1]; ++r) {
            const std::int64_t row = i * window.strides[0] + r * window.dilations[0] - window.pads[0];
            if (row < 0 || row >= x[1]) continue;
            for (std::int64_t s = 0; s < w[2]; ++s) {
              const std::int64_t column = j * window.strides[1] + s * window.dilations[1] - window.pads[1];
              if (column < 0 || column >= x[2]) continue;
              for (std::int64_t c = 0; c < w[3]; ++c) {
                f(offset(x, n, row, column, o / outputs_of_group * w[3] + c), offset(w, o, r, s, c),
                  offset(y, n, i, j, o));
              }
            }
          }
        }
      }
    }
  }
}

std::vector<Ref> conv2d_reference(const std::vector<Ref>& in, const Variant& variant) {
  const Window window = window_of("conv2d", variant);
  const bool relu = std::get<std::string>(attribute("conv2d", variant, "activation")) == "relu";
  const Ref& x = in[0];
  const Ref& w = in[1];
  Ref y = Ref::zeros(output_shape(window, x.shape, w.shape));
  for_each_product(window, x.shape, w.shape, y.shape,
                   [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) { y[yi] += x[xi] * w[wi]; });
  for (std::int64_t i = 0; i < y.size(); ++i) {
    if (in.size() > 2 && in[2].size() > 0) y[i] += in[2][i % w.shape[0]];
    if (relu && y[i] < 0) y[i] = 0;
  }
  return {y};
}

std::vector<Ref> backward_data_reference(const std::vector<Ref>& in, const Variant& variant) {
  const Ref& dy = in[0];
  const Ref& w = in[1];
  Ref dx = Ref::zeros(std::get<List>(attribute("conv2d_backward_data", variant, "input_shape")));
  for_each_product(window_of("conv2d_backward_data", variant), dx.shape, w.shape, dy.shape,
                   [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) { dx[xi] += dy[yi] * w[wi]; });
  return {dx};
}

std::vector<Ref> backward_weights_reference(const std::vector<Ref>& in, const Variant& variant) {
  const Ref& x = in[0];
  const Ref& dy = in[1];
  Ref dw = Ref::zeros(std::get<List>(attribute("conv2d_backward_weights", variant, "kernel_shape")));
  for_each_product(window_of("conv2d_backward_weights", variant), x.shape, dw.shape, dy.shape,
                   [&](std::int64_t xi, std::int64_t wi, std::int64_t yi) { dw[wi] += dy[yi] * x[xi]; });
  return {dw};
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

Shape output_shape(const Problem& p) {
  const Variant variant = {p.name, {}, p.attrs};
  return output_shape(window_of("conv2d", variant), p.x, p.w);
}

// Sums of up to 2,352 products of normal draws in float32.
double tolerance(const Problem& p) { return p.small ? 2e-6 : 1e-4; }

std::vector<Variant> forward_variants() {
  std::vector<Variant> variants;
  for (const Problem& p : problems()) {
    variants.push_back({p.name, {f32(p.x), f32(p.w)}, p.attrs, p.small, tolerance(p)});
    Variant biased = {p.name + "_bias_relu", {f32(p.x), f32(p.w), f32({p.w[0]})}, p.attrs, p.small, tolerance(p)};
    biased.attrs.emplace_back("activation", std::string("relu"));
    variants.push_back(std::move(biased));
  }
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

std::vector<Variant> backward_data_variants() {
  std::vector<Variant> variants;
  for (const Problem& p : problems()) {
    Variant v = {p.name, {f32(output_shape(p)), f32(p.w)}, p.attrs, false, tolerance(p)};
    v.attrs.emplace_back("input_shape", p.x);
    variants.push_back(std::move(v));
  }
  return variants;
}

std::vector<Variant> backward_weights_variants() {
  std::vector<Variant> variants;
  for (const Problem& p : problems()) {
    Variant v = {p.name, {f32(p.x), f32(output_shape(p))}, p.attrs, false, tolerance(p)};
    v.attrs.emplace_back("kernel_shape", p.w);
    variants.push_back(std::move(v));
  }
  return variants;
}

}  // namespace

std::vector<OpCase> convolution_cases() {
  return {
      {.op = "conv2d", .reference = conv2d_reference, .variants = forward_variants()},
      {.op = "conv2d_backward_data", .reference = backward_data_reference, .variants = backward_data_variants()},
      {.op = "conv2d_backward_weights",
       .reference = backward_weights_reference,
       .variants = backward_weights_variants()},
  };
}

}  // namespace trivet::testing
