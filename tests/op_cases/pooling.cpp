#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Integers = std::vector<std::int64_t>;

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }

struct Pool {
  Integers kernel, strides, pads;
  Pool(const std::string& op, const Variant& v)
      : kernel(std::get<Integers>(attribute(op, v, "kernel"))),
        strides(std::get<Integers>(attribute(op, v, "strides"))),
        pads(std::get<Integers>(attribute(op, v, "pads"))) {
    if (strides.empty()) strides = kernel;
  }
  Shape pooled(const Shape& image) const {
    return {image[0], (image[1] + pads[0] + pads[2] - kernel[0]) / strides[0] + 1,
            (image[2] + pads[1] + pads[3] - kernel[1]) / strides[1] + 1, image[3]};
  }
  // Indices of the image's elements in the window of each pooled element, row by row.
  std::vector<std::vector<std::int64_t>> windows(const Shape& image) const {
    const Shape out = pooled(image);
    std::vector<std::vector<std::int64_t>> all;
    for (std::int64_t n = 0; n < out[0]; ++n) {
      for (std::int64_t oy = 0; oy < out[1]; ++oy) {
        for (std::int64_t ox = 0; ox < out[2]; ++ox) {
          for (std::int64_t c = 0; c < out[3]; ++c) {
            std::vector<std::int64_t>& window = all.emplace_back();
            for (std::int64_t k = 0; k < kernel[0] * kernel[1]; ++k) {
              const std::int64_t y = oy * strides[0] - pads[0] + k / kernel[1];
              const std::int64_t x = ox * strides[1] - pads[1] + k % kernel[1];
              if (y < 0 || y >= image[1] || x < 0 || x >= image[2]) continue;
              window.push_back(((n * image[1] + y) * image[2] + x) * image[3] + c);
            }
          }
        }
      }
    }
    return all;
  }
};

std::vector<Ref> max_reference(const std::vector<Ref>& in, const Variant& v) {
  const Pool pool("max_pool", v);
  Ref y = Ref::zeros(pool.pooled(in[0].shape));
  const auto windows = pool.windows(in[0].shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y[i] = -kInfinity;
    for (const std::int64_t j : windows[static_cast<std::size_t>(i)]) {
      if (std::isnan(in[0][j]) || in[0][j] > y[i]) y[i] = in[0][j];
      if (std::isnan(y[i])) break;
    }
  }
  return {y};
}

std::vector<Ref> max_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const Pool pool("max_pool_backward", v);
  Ref dx = Ref::zeros(in[1].shape);
  const auto windows = pool.windows(in[1].shape);
  for (std::int64_t i = 0; i < in[0].size(); ++i) {
    for (const std::int64_t j : windows[static_cast<std::size_t>(i)]) {
      if (in[1][j] == in[2][i] || std::isnan(in[1][j])) {
        dx[j] += in[0][i];
        break;
      }
    }
  }
  return {dx};
}

double divisor(const std::string& op, const Variant& v, const Pool& pool, std::size_t elements) {
  const bool all = std::get<bool>(attribute(op, v, "count_include_pad"));
  return all ? static_cast<double>(pool.kernel[0] * pool.kernel[1]) : static_cast<double>(elements);
}

std::vector<Ref> average_reference(const std::vector<Ref>& in, const Variant& v) {
  const Pool pool("average_pool", v);
  Ref y = Ref::zeros(pool.pooled(in[0].shape));
  const auto windows = pool.windows(in[0].shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const auto& window = windows[static_cast<std::size_t>(i)];
    for (const std::int64_t j : window) y[i] += in[0][j];
    y[i] /= divisor("average_pool", v, pool, window.size());
  }
  return {y};
}

std::vector<Ref> average_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const Pool pool("average_pool_backward", v);
  Ref dx = Ref::zeros(std::get<Integers>(attribute("average_pool_backward", v, "input_shape")));
  const auto windows = pool.windows(dx.shape);
  for (std::int64_t i = 0; i < in[0].size(); ++i) {
    const auto& window = windows[static_cast<std::size_t>(i)];
    for (const std::int64_t j : window) dx[j] += in[0][i] / divisor("average_pool_backward", v, pool, window.size());
  }
  return {dx};
}

struct Setting {
  std::string name;
  Shape image;
  Attrs attrs;
};

// What every pooling op is tried on.
std::vector<Setting> settings() {
  const Attrs two = {{"kernel", Integers{2, 2}}};
  const Attrs overlapping = {{"kernel", Integers{3, 3}}, {"strides", Integers{2, 2}}, {"pads", Integers{1, 1, 1, 1}}};
  return {
      {"single_window", {1, 2, 2, 1}, two},
      {"2x2", {2, 4, 6, 3}, two},
      {"2x2_odd_image", {3, 5, 7, 33}, two},
      {"2x2_many_channels", {2, 8, 8, 70}, two},
      {"parallel", {5, 14, 14, 32}, two},
      {"2x2_padded", {1, 4, 4, 3}, {{"kernel", Integers{2, 2}}, {"pads", Integers{1, 1, 1, 1}}}},
      {"overlapping", {2, 7, 9, 17}, overlapping},
      {"overlapping_parallel", {4, 12, 12, 65}, overlapping},
      {"uneven",
       {2, 8, 11, 5},
       {{"kernel", Integers{3, 2}}, {"strides", Integers{1, 3}}, {"pads", Integers{2, 0, 1, 1}}}},
      {"gaps", {1, 9, 9, 4}, {{"kernel", Integers{1, 2}}, {"strides", Integers{3, 4}}}},
      {"whole_image", {3, 7, 7, 16}, {{"kernel", Integers{7, 7}}}},
  };
}

Shape pooled(const Setting& s) {
  Variant v;
  v.attrs = s.attrs;
  return Pool("max_pool", v).pooled(s.image);
}

OpCase max_case() {
  OpCase result{.op = "max_pool", .reference = max_reference, .variants = {}};
  for (const Setting& s : settings()) result.variants.push_back({s.name, {f32(s.image)}, s.attrs});
  const Fill special{.kind = Fill::Kind::values,
                     .values = {1, kNan, -kInfinity, 3, kInfinity, -2, 7, -kInfinity, -kInfinity, 0, 5}};
  for (const Shape& image : {Shape{1, 6, 6, 3}, Shape{1, 7, 6, 33}}) {
    result.variants.push_back({"not_finite_" + std::to_string(image[3]),
                               {f32(image, special)},
                               {{"kernel", Integers{2, 2}}},
                               /*gradient=*/false});
    result.variants.push_back(
        {"not_finite_overlapping_" + std::to_string(image[3]),
         {f32(image, special)},
         {{"kernel", Integers{3, 3}}, {"strides", Integers{1, 1}}, {"pads", Integers{1, 1, 1, 1}}},
         /*gradient=*/false});
  }
  result.variants.push_back({"all_minus_infinity",
                             {f32({1, 4, 4, 2}, {.kind = Fill::Kind::values, .values = {-kInfinity}})},
                             {{"kernel", Integers{2, 2}}},
                             /*gradient=*/false});
  return result;
}

OpCase max_backward_case() {
  OpCase result{.op = "max_pool_backward", .reference = max_backward_reference, .variants = {}};
  // Few distinct values, so that windows have ties; the gradient goes to the first that equals y.
  const Fill few{.kind = Fill::Kind::index, .a = 0, .b = 4};
  const Fill some_nan{.kind = Fill::Kind::values, .values = {1, kNan, 0, 2, kNan, 1, 1, 3, kNan, kNan, 2}};
  for (const Setting& s : settings()) {
    result.variants.push_back(
        {s.name, {f32(pooled(s)), f32(s.image, few), f32(pooled(s), few)}, s.attrs, /*gradient=*/false});
    result.variants.push_back(
        {s.name + "_nan", {f32(pooled(s)), f32(s.image, some_nan), f32(pooled(s), some_nan)}, s.attrs, false});
  }
  return result;
}

OpCase average_case() {
  OpCase result{.op = "average_pool", .reference = average_reference, .variants = {}};
  for (const Setting& s : settings()) {
    result.variants.push_back({s.name, {f32(s.image)}, s.attrs});
    Attrs attrs = s.attrs;
    attrs.emplace_back("count_include_pad", false);
    result.variants.push_back({s.name + "_without_pad", {f32(s.image)}, attrs});
  }
  const Fill special{.kind = Fill::Kind::values, .values = {1, 2, kNan, 3, kInfinity, -2, 7, 4, -kInfinity, 0, 5}};
  result.variants.push_back(
      {"not_finite", {f32({1, 6, 6, 3}, special)}, {{"kernel", Integers{2, 2}}}, /*gradient=*/false});
  return result;
}

OpCase average_backward_case() {
  OpCase result{.op = "average_pool_backward", .reference = average_backward_reference, .variants = {}};
  for (const Setting& s : settings()) {
    Attrs attrs = s.attrs;
    attrs.emplace_back("input_shape", s.image);
    result.variants.push_back({s.name, {f32(pooled(s))}, attrs, /*gradient=*/false});
    attrs.emplace_back("count_include_pad", false);
    result.variants.push_back({s.name + "_without_pad", {f32(pooled(s))}, attrs, /*gradient=*/false});
  }
  return result;
}

}  // namespace

std::vector<OpCase> pooling_cases() {
  return {max_case(), max_backward_case(), average_case(), average_backward_case()};
}

}  // namespace trivet::testing
