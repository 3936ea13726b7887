#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Integers = std::vector<std::int64_t>;

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
Fill repeated(std::vector<double> v) { return {.kind = Fill::Kind::values, .values = std::move(v)}; }

// For each window along an axis the positions in the image that it holds, and how many places it has in all that are
// not beyond the pads.
struct AxisWindows {
  std::vector<Integers> positions;
  Integers places;
};

AxisWindows fixed_windows(std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t before,
                          std::int64_t after, std::int64_t dilation, bool ceil_mode) {
  AxisWindows windows;
  for (std::int64_t start = -before; start < size; start += stride) {
    const std::int64_t last = start + (kernel - 1) * dilation;
    // With ceil_mode a window may reach beyond the pads, if the one before it left elements or pads over.
    if (last >= size + after && (!ceil_mode || last - stride >= size + after - 1)) break;
    Integers& positions = windows.positions.emplace_back();
    windows.places.push_back(0);
    for (std::int64_t k = 0; k < kernel; ++k) {
      const std::int64_t p = start + k * dilation;
      if (p >= 0 && p < size) positions.push_back(p);
      if (p < size + after) ++windows.places.back();
    }
  }
  return windows;
}

AxisWindows adaptive_windows(std::int64_t size, std::int64_t count) {
  AxisWindows windows;
  for (std::int64_t i = 0; i < count; ++i) {
    Integers& positions = windows.positions.emplace_back();
    for (std::int64_t p = 0; p < size; ++p) {
      const auto low = std::floor(static_cast<double>(i * size) / static_cast<double>(count));
      const auto high = std::ceil(static_cast<double>((i + 1) * size) / static_cast<double>(count));
      if (static_cast<double>(p) >= low && static_cast<double>(p) < high) positions.push_back(p);
    }
    windows.places.push_back(static_cast<std::int64_t>(positions.size()));
  }
  return windows;
}

// The elements of each window, and how many places it has, for images of one shape.
struct Pool {
  Shape image;
  Shape pooled;
  std::vector<Integers> elements;  // row by row
  Integers places;

  Pool(Shape shape, const std::vector<AxisWindows>& axes) : image(std::move(shape)), pooled(image) {
    for (std::size_t a = 0; a < axes.size(); ++a) pooled[a + 1] = static_cast<std::int64_t>(axes[a].places.size());
    const std::int64_t channels = image.back();
    std::int64_t pixels = 1;
    for (std::size_t a = 0; a < axes.size(); ++a) pixels *= image[a + 1];
    std::int64_t windows = 1;
    for (std::size_t a = 0; a < axes.size(); ++a) windows *= pooled[a + 1];
    for (std::int64_t n = 0; n < image[0]; ++n) {
      for (std::int64_t w = 0; w < windows; ++w) {
        Integers held = {0};
        std::int64_t count = 1;
        std::int64_t rest = w, step = windows;
        for (std::size_t a = 0; a < axes.size(); ++a) {
          step /= pooled[a + 1];
          const auto index = static_cast<std::size_t>(rest / step);
          rest %= step;
          Integers next;
          for (const std::int64_t pixel : held) {
            for (const std::int64_t p : axes[a].positions[index]) next.push_back(pixel * image[a + 1] + p);
          }
          held = next;
          count *= axes[a].places[index];
        }
        for (std::int64_t c = 0; c < channels; ++c) {
          Integers& of_channel = elements.emplace_back();
          for (const std::int64_t pixel : held) of_channel.push_back((n * pixels + pixel) * channels + c);
          places.push_back(count);
        }
      }
    }
  }
  std::int64_t windows() const { return static_cast<std::int64_t>(elements.size()); }
  const Integers& held(std::int64_t window) const { return elements[static_cast<std::size_t>(window)]; }
};

Pool fixed_pool(const std::string& op, const Variant& v, const Shape& image) {
  const auto kernel = std::get<Integers>(attribute(op, v, "kernel"));
  auto strides = std::get<Integers>(attribute(op, v, "strides"));
  auto pads = std::get<Integers>(attribute(op, v, "pads"));
  auto dilations = std::get<Integers>(attribute(op, v, "dilations"));
  if (strides.empty()) strides = kernel;
  if (pads.empty()) pads = Integers(2 * kernel.size(), 0);
  if (dilations.empty()) dilations = Integers(kernel.size(), 1);
  std::vector<AxisWindows> axes;
  for (std::size_t a = 0; a < kernel.size(); ++a) {
    axes.push_back(fixed_windows(image[a + 1], kernel[a], strides[a], pads[a], pads[a + kernel.size()], dilations[a],
                                 std::get<bool>(attribute(op, v, "ceil_mode"))));
  }
  return {image, axes};
}

Pool adaptive_pool(const Shape& image, const Integers& sizes) {
  std::vector<AxisWindows> axes;
  for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back(adaptive_windows(image[a + 1], sizes[a]));
  return {image, axes};
}

Integers spatial(const Shape& shape) { return {shape.begin() + 1, shape.end() - 1}; }

// ---- what is done with the windows ----

std::vector<Ref> max_of(const Pool& pool, const Ref& x) {
  Ref y = Ref::zeros(pool.pooled);
  for (std::int64_t w = 0; w < pool.windows(); ++w) {
    y[w] = -kInfinity;
    for (const std::int64_t j : pool.held(w)) {
      if (std::isnan(x[j]) || x[j] > y[w]) y[w] = x[j];
      if (std::isnan(y[w])) break;
    }
  }
  return {y};
}

std::vector<Ref> max_backward_of(const Pool& pool, const std::vector<Ref>& in) {
  Ref dx = Ref::zeros(pool.image);
  for (std::int64_t w = 0; w < pool.windows(); ++w) {
    for (const std::int64_t j : pool.held(w)) {
      if (in[1][j] == in[2][w] || std::isnan(in[1][j])) {
        dx[j] += in[0][w];
        break;
      }
    }
  }
  return {dx};
}

double divisor(const Pool& pool, std::int64_t window, bool with_pads) {
  return with_pads ? static_cast<double>(pool.places[static_cast<std::size_t>(window)])
                   : static_cast<double>(pool.held(window).size());
}

std::vector<Ref> average_of(const Pool& pool, const Ref& x, bool with_pads) {
  Ref y = Ref::zeros(pool.pooled);
  for (std::int64_t w = 0; w < pool.windows(); ++w) {
    for (const std::int64_t j : pool.held(w)) y[w] += x[j];
    y[w] /= divisor(pool, w, with_pads);
  }
  return {y};
}

std::vector<Ref> average_backward_of(const Pool& pool, const Ref& dy, bool with_pads) {
  Ref dx = Ref::zeros(pool.image);
  for (std::int64_t w = 0; w < pool.windows(); ++w) {
    for (const std::int64_t j : pool.held(w)) dx[j] += dy[w] / divisor(pool, w, with_pads);
  }
  return {dx};
}

// ---- windows of a fixed size ----

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
      {"2x2_rows_left_over", {2, 7, 5, 3}, {{"kernel", Integers{2, 2}}, {"strides", Integers{2, 2}}}},
      {"2x2_many_channels", {2, 8, 8, 70}, two},
      {"parallel", {5, 14, 14, 32}, two},
      {"2x2_padded", {1, 4, 4, 3}, {{"kernel", Integers{2, 2}}, {"pads", Integers{1, 1, 1, 1}}}},
      {"2x2_ceil", {2, 5, 7, 3}, {{"kernel", Integers{2, 2}}, {"ceil_mode", true}}},
      {"overlapping", {2, 7, 9, 17}, overlapping},
      {"overlapping_parallel", {1, 20, 21, 65}, overlapping},
      {"uneven",
       {2, 8, 11, 5},
       {{"kernel", Integers{3, 2}}, {"strides", Integers{1, 3}}, {"pads", Integers{2, 0, 1, 1}}}},
      {"gaps", {1, 9, 9, 4}, {{"kernel", Integers{1, 2}}, {"strides", Integers{3, 4}}}},
      {"whole_image", {3, 7, 7, 16}, {{"kernel", Integers{7, 7}}}},
      {"257_channels", {1, 4, 5, 257}, {{"kernel", Integers{3, 3}}, {"strides", Integers{1, 1}}}},
      {"dilated",
       {2, 9, 8, 5},
       {{"kernel", Integers{3, 2}}, {"strides", Integers{1, 1}}, {"dilations", Integers{2, 3}}}},
      {"dilated_padded",
       {1, 9, 10, 3},
       {{"kernel", Integers{2, 3}},
        {"strides", Integers{2, 1}},
        {"dilations", Integers{3, 2}},
        {"pads", Integers{1, 3, 2, 2}}}},
      {"ceil_padded",
       {2, 6, 9, 3},
       {{"kernel", Integers{3, 3}}, {"strides", Integers{2, 4}}, {"pads", Integers{1, 1, 1, 1}}, {"ceil_mode", true}}},
      // A further window would begin in the pads behind the image.
      {"ceil_without_the_last",
       {1, 3, 5, 2},
       {{"kernel", Integers{2, 2}}, {"strides", Integers{3, 3}}, {"pads", Integers{1, 1, 1, 1}}, {"ceil_mode", true}}},
      {"one_axis", {3, 33, 5}, {{"kernel", Integers{4}}, {"strides", Integers{2}}, {"pads", Integers{1, 2}}}},
      {"one_axis_2", {2, 9, 3}, {{"kernel", Integers{2}}}},
      {"three_axes",
       {2, 3, 5, 4, 3},
       {{"kernel", Integers{2, 3, 2}}, {"strides", Integers{1, 2, 2}}, {"pads", Integers{1, 0, 1, 0, 2, 1}}}},
      {"three_axes_2", {1, 4, 6, 8, 3}, {{"kernel", Integers{2, 2, 2}}}},
      {"three_axes_flat_2x2", {2, 3, 4, 4, 3}, {{"kernel", Integers{1, 2, 2}}}},
  };
}

Shape pooled(const Setting& s) {
  Variant v;
  v.attrs = s.attrs;
  return fixed_pool("max_pool", v, s.image).pooled;
}

OpCase max_case() {
  OpCase result{.op = "max_pool",
                .reference = [](const std::vector<Ref>& in,
                                const Variant& v) { return max_of(fixed_pool("max_pool", v, in[0].shape), in[0]); },
                .variants = {},
                .bf16_inputs = {0}};
  for (const Setting& s : settings()) result.variants.push_back({s.name, {f32(s.image)}, s.attrs});
  const Fill special = repeated({1, kNan, -kInfinity, 3, kInfinity, -2, 7, -kInfinity, -kInfinity, 0, 5});
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
  for (const DType type : {DType::u8, DType::i8}) {
    const double low = type == DType::u8 ? 0 : -128;
    const Fill bytes{.kind = Fill::Kind::index, .a = low, .b = low + 256};
    for (const Setting& s : settings()) {
      result.variants.push_back(
          {s.name + (type == DType::u8 ? "_u8" : "_i8"), {{{type, s.image}, bytes}}, s.attrs, /*gradient=*/false});
    }
    result.variants.push_back({std::string("lowest_") + (type == DType::u8 ? "u8" : "i8"),
                               {{{type, {1, 4, 4, 21}}, repeated({low})}},
                               {{"kernel", Integers{2, 2}}},
                               /*gradient=*/false});
  }
  result.variants.push_back({"all_minus_infinity",
                             {f32({1, 4, 4, 2}, repeated({-kInfinity}))},
                             {{"kernel", Integers{2, 2}}},
                             /*gradient=*/false});
  return result;
}

// Few distinct values, so that windows have ties; the gradient goes to the first that equals y.
const Fill kFew{.kind = Fill::Kind::index, .a = 0, .b = 4};
const Fill kSomeNan = repeated({1, kNan, 0, 2, kNan, 1, 1, 3, kNan, kNan, 2});

OpCase max_backward_case() {
  OpCase result{.op = "max_pool_backward",
                .reference =
                    [](const std::vector<Ref>& in, const Variant& v) {
                      return max_backward_of(fixed_pool("max_pool_backward", v, in[1].shape), in);
                    },
                .variants = {},
                .bf16_inputs = {0, 1, 2}};
  for (const Setting& s : settings()) {
    for (const Fill& fill : {kFew, kSomeNan}) {
      const std::string name = fill.kind == Fill::Kind::values ? s.name + "_nan" : s.name;
      result.variants.push_back(
          {name, {f32(pooled(s)), f32(s.image, fill), f32(pooled(s), fill)}, s.attrs, /*gradient=*/false});
    }
  }
  return result;
}

OpCase average_case() {
  OpCase result{.op = "average_pool",
                .reference =
                    [](const std::vector<Ref>& in, const Variant& v) {
                      return average_of(fixed_pool("average_pool", v, in[0].shape), in[0],
                                        std::get<bool>(attribute("average_pool", v, "count_include_pad")));
                    },
                .variants = {},
                .bf16_inputs = {0}};
  for (const Setting& s : settings()) {
    result.variants.push_back({s.name, {f32(s.image)}, s.attrs});
    Attrs attrs = s.attrs;
    attrs.emplace_back("count_include_pad", false);
    result.variants.push_back({s.name + "_without_pad", {f32(s.image)}, attrs});
  }
  const Fill special = repeated({1, 2, kNan, 3, kInfinity, -2, 7, 4, -kInfinity, 0, 5});
  result.variants.push_back(
      {"not_finite", {f32({1, 6, 6, 3}, special)}, {{"kernel", Integers{2, 2}}}, /*gradient=*/false});
  return result;
}

OpCase average_backward_case() {
  const std::string op = "average_pool_backward";
  OpCase result{.op = op,
                .reference =
                    [op](const std::vector<Ref>& in, const Variant& v) {
                      const auto image = std::get<Integers>(attribute(op, v, "input_shape"));
                      return average_backward_of(fixed_pool(op, v, image), in[0],
                                                 std::get<bool>(attribute(op, v, "count_include_pad")));
                    },
                .variants = {},
                .bf16_inputs = {0}};
  for (const Setting& s : settings()) {
    Attrs attrs = s.attrs;
    attrs.emplace_back("input_shape", s.image);
    result.variants.push_back({s.name, {f32(pooled(s))}, attrs, /*gradient=*/false});
    attrs.emplace_back("count_include_pad", false);
    result.variants.push_back({s.name + "_without_pad", {f32(pooled(s))}, attrs, /*gradient=*/false});
  }
  return result;
}

// ---- adaptive and global pools ----

struct AdaptiveSetting {
  std::string name;
  Shape image;
  Integers sizes;
};

std::vector<AdaptiveSetting> adaptive_settings() {
  return {
      {"equal_parts", {2, 6, 4, 3}, {3, 2}},      {"overlapping", {2, 7, 5, 17}, {3, 4}},
      {"as_large", {1, 3, 5, 2}, {3, 5}},         {"larger", {2, 3, 4, 5}, {5, 7}},
      {"one_pixel", {3, 1, 1, 33}, {1, 1}},       {"one_axis", {3, 33, 3}, {4}},
      {"three_axes", {2, 3, 5, 4, 3}, {2, 3, 1}}, {"parallel", {1, 20, 24, 65}, {7, 7}},
  };
}

Shape adaptive_shape(const AdaptiveSetting& s) { return adaptive_pool(s.image, s.sizes).pooled; }

Pool adaptive_pool_of(const std::string& op, const Variant& v, const Shape& image) {
  return adaptive_pool(image, std::get<Integers>(attribute(op, v, "output_size")));
}

std::vector<OpCase> adaptive_cases() {
  OpCase max{.op = "adaptive_max_pool",
             .reference =
                 [](const std::vector<Ref>& in, const Variant& v) {
                   return max_of(adaptive_pool_of("adaptive_max_pool", v, in[0].shape), in[0]);
                 },
             .variants = {},
             .bf16_inputs = {0}};
  OpCase average{.op = "adaptive_average_pool",
                 .reference =
                     [](const std::vector<Ref>& in, const Variant& v) {
                       return average_of(adaptive_pool_of("adaptive_average_pool", v, in[0].shape), in[0], false);
                     },
                 .variants = {},
                 .bf16_inputs = {0}};
  OpCase max_backward{
      .op = "adaptive_max_pool_backward",
      .reference = [](const std::vector<Ref>& in,
                      const Variant&) { return max_backward_of(adaptive_pool(in[1].shape, spatial(in[0].shape)), in); },
      .variants = {},
      .bf16_inputs = {0, 1, 2}};
  OpCase average_backward{.op = "adaptive_average_pool_backward",
                          .reference =
                              [](const std::vector<Ref>& in, const Variant& v) {
                                const auto image =
                                    std::get<Integers>(attribute("adaptive_average_pool_backward", v, "input_shape"));
                                return average_backward_of(adaptive_pool(image, spatial(in[0].shape)), in[0], false);
                              },
                          .variants = {},
                          .bf16_inputs = {0}};
  for (const AdaptiveSetting& s : adaptive_settings()) {
    const Shape small = adaptive_shape(s);
    max.variants.push_back({s.name, {f32(s.image)}, {{"output_size", s.sizes}}});
    average.variants.push_back({s.name, {f32(s.image)}, {{"output_size", s.sizes}}});
    max_backward.variants.push_back(
        {s.name, {f32(small), f32(s.image, kFew), f32(small, kFew)}, {}, /*gradient=*/false});
    average_backward.variants.push_back({s.name, {f32(small)}, {{"input_shape", s.image}}, /*gradient=*/false});
  }
  return {max, average, max_backward, average_backward};
}

std::vector<OpCase> global_cases() {
  const auto whole = [](const Shape& image) { return adaptive_pool(image, Integers(image.size() - 2, 1)); };
  OpCase max{
      .op = "global_max_pool",
      .reference = [whole](const std::vector<Ref>& in, const Variant&) { return max_of(whole(in[0].shape), in[0]); },
      .variants = {},
      .bf16_inputs = {0}};
  OpCase average{.op = "global_average_pool",
                 .reference = [whole](const std::vector<Ref>& in,
                                      const Variant&) { return average_of(whole(in[0].shape), in[0], false); },
                 .variants = {},
                 .bf16_inputs = {0}};
  const std::vector<std::pair<std::string, Shape>> images = {
      {"one_pixel", {2, 1, 1, 3}}, {"one_axis", {3, 33, 5}},     {"image", {2, 7, 7, 33}},
      {"large", {1, 33, 31, 3}},   {"parallel", {4, 8, 8, 320}}, {"three_axes", {2, 3, 5, 4, 3}},
  };
  for (const auto& [name, image] : images) {
    max.variants.push_back({name, {f32(image)}});
    average.variants.push_back({name, {f32(image)}});
  }
  average.variants.push_back({"mean_1e4", {f32({2, 33, 33, 3}, {.kind = Fill::Kind::normal, .a = 1e4, .b = 1})}});
  max.variants.push_back({"not_finite",
                          {f32({1, 3, 4, 3}, repeated({1, kNan, -kInfinity, 3, 0, -kInfinity}))},
                          {},
                          /*gradient=*/false});
  return {max, average};
}

}  // namespace

std::vector<OpCase> pooling_cases() {
  std::vector<OpCase> cases = {max_case(), max_backward_case(), average_case(), average_backward_case()};
  for (OpCase& c : adaptive_cases()) cases.push_back(std::move(c));
  for (OpCase& c : global_cases()) cases.push_back(std::move(c));
  return cases;
}

}  // namespace trivet::testing
