#include <cmath>

#include "tests/op_cases/shapes.h"

namespace trivet::testing {
namespace {

struct Tap {
  std::int64_t source;
  double weight;
};

double position(const std::string& coordinates, double x, double in, double out, double scale) {
  if (coordinates == "align_corners") return out == 1 ? 0 : x * (in - 1) / (out - 1);
  if (coordinates == "asymmetric") return x / scale;
  if (coordinates == "pytorch_half_pixel" && out == 1) return 0;
  return (x + 0.5) / scale - 0.5;
}

double keys(double distance, double a) {
  const double d = std::abs(distance);
  if (d <= 1) return (a + 2) * d * d * d - (a + 3) * d * d + 1;
  return d < 2 ? a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a : 0;
}

// What output position x of axis d takes.
std::vector<Tap> taps(const std::string& op, const Variant& v, std::size_t d, std::int64_t x, std::int64_t in,
                      std::int64_t out) {
  const auto text = [&](const char* name) { return std::get<std::string>(attribute(op, v, name)); };
  const auto scales = std::get<std::vector<double>>(attribute(op, v, "scales"));
  const double scale = scales.empty() ? static_cast<double>(out) / static_cast<double>(in) : scales[d];
  const double at = position(text("coordinate_transformation_mode"), static_cast<double>(x), static_cast<double>(in),
                             static_cast<double>(out), scale);
  const auto clamped = [in](double k) {
    return static_cast<std::int64_t>(std::min(std::max(k, 0.0), static_cast<double>(in - 1)));
  };
  const std::string mode = text("mode"), nearest = text("nearest_mode");
  if (mode == "nearest") {
    const double k = nearest == "floor"                ? std::floor(at)
                     : nearest == "ceil"               ? std::ceil(at)
                     : nearest == "round_prefer_floor" ? std::ceil(at - 0.5)
                                                       : std::floor(at + 0.5);
    return {{clamped(k), 1}};
  }
  std::vector<Tap> result;
  double sum = 0;
  for (double k = std::floor(at) - 1; k <= std::floor(at) + 2; ++k) {
    const double weight = mode == "linear" ? std::max(0.0, 1 - std::abs(at - k))
                                           : keys(at - k, std::get<double>(attribute(op, v, "cubic_coeff_a")));
    const bool outside = k < 0 || k >= static_cast<double>(in);
    if (outside && mode == "cubic" && std::get<bool>(attribute(op, v, "exclude_outside"))) continue;
    result.push_back({clamped(k), weight});
    sum += weight;
  }
  for (Tap& t : result) t.weight /= sum;
  return result;
}

// Calls f(small position, large position, weight) for each pair of elements that belong together.
void for_each_pair(const std::string& op, const Variant& v, const Shape& before, const Shape& after,
                   const std::function<void(std::int64_t, std::int64_t, double)>& f) {
  const std::size_t axes = before.size() - 2;
  std::vector<std::vector<std::vector<Tap>>> all(axes);  // by axis and output position
  for (std::size_t d = 0; d < axes; ++d) {
    for (std::int64_t x = 0; x < after[d + 1]; ++x) all[d].push_back(taps(op, v, d, x, before[d + 1], after[d + 1]));
  }
  for (std::int64_t i = 0; i < element_count(after); ++i) {
    Ints index(after.size());
    std::int64_t rest = i;
    for (std::size_t d = after.size(); d-- > 0; rest /= after[d]) index[d] = rest % after[d];
    std::vector<Tap> sources = {{index[0], 1}};
    for (std::size_t d = 0; d < axes; ++d) {
      std::vector<Tap> next;
      for (const Tap& s : sources) {
        for (const Tap& t : all[d][static_cast<std::size_t>(index[d + 1])]) {
          next.push_back({s.source * before[d + 1] + t.source, s.weight * t.weight});
        }
      }
      sources = std::move(next);
    }
    for (const Tap& s : sources) f(s.source * before.back() + index.back(), i, s.weight);
  }
}

Shape resized(const std::string& op, const Variant& v, const Shape& before) {
  const Ints sizes = std::get<Ints>(attribute(op, v, "sizes"));
  const auto scales = std::get<std::vector<double>>(attribute(op, v, "scales"));
  Shape after = before;
  for (std::size_t d = 0; d + 2 < before.size(); ++d) {
    after[d + 1] = scales.empty()
                       ? sizes[d]
                       : static_cast<std::int64_t>(std::floor(static_cast<double>(before[d + 1]) * scales[d]));
  }
  return after;
}

struct ResizeExample {
  std::string name;
  Shape shape;
  Attrs attrs;
  bool gradient = true;
};

std::vector<ResizeExample> resize_examples() {
  std::vector<ResizeExample> all;
  for (const std::string mode : {"nearest", "linear", "cubic"}) {
    for (const std::string coordinates : {"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"}) {
      const auto add = [&](const std::string& name, Shape shape, Attrs attrs) {
        attrs.emplace_back("mode", mode);
        attrs.emplace_back("coordinate_transformation_mode", coordinates);
        all.push_back({mode + "_" + coordinates + "_" + name, std::move(shape), std::move(attrs)});
      };
      add("larger", {2, 3, 4, 3}, {{"sizes", Ints{6, 7}}});
      add("smaller", {1, 7, 9, 2}, {{"sizes", Ints{3, 4}}});
      add("scales", {1, 5, 6, 1}, {{"scales", std::vector<double>{1.7, 0.6}}});
      add("to_one", {1, 5, 4, 2}, {{"sizes", Ints{1, 1}}});
      add("from_one", {1, 1, 1, 3}, {{"sizes", Ints{3, 2}}});
      add("line", {2, 9, 1}, {{"sizes", Ints{33}}});
      add("volume", {1, 2, 3, 4, 2}, {{"sizes", Ints{3, 4, 3}}});
    }
  }
  for (const std::string nearest : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}) {
    all.push_back({"ties_" + nearest, {1, 6, 2}, {{"sizes", Ints{3}}, {"nearest_mode", nearest}}});
    all.push_back({"double_" + nearest, {1, 5, 1}, {{"scales", std::vector<double>{2.0}}, {"nearest_mode", nearest}}});
  }
  for (const double a : {-0.5, -0.75}) {
    const Attrs attrs = {
        {"sizes", Ints{9, 3}}, {"mode", std::string("cubic")}, {"cubic_coeff_a", a}, {"exclude_outside", true}};
    all.push_back({a == -0.5 ? "exclude_outside_catmull_rom" : "exclude_outside", {1, 5, 6, 3}, attrs});
  }
  for (const std::string mode : {"nearest", "linear", "cubic"}) {
    all.push_back({"same_" + mode, {1, 5, 6, 3}, {{"sizes", Ints{5, 6}}, {"mode", mode}}});
    all.push_back({"wide_" + mode, {1, 3, 4, 70}, {{"sizes", Ints{5, 6}}, {"mode", mode}}, false});
    all.push_back({"empty_" + mode, {0, 3, 4, 2}, {{"sizes", Ints{5, 6}}, {"mode", mode}}, false});
    all.push_back({"parallel_" + mode, {3, 21, 20, 5}, {{"sizes", Ints{40, 43}}, {"mode", mode}}, false});
    all.push_back({"parallel_smaller_" + mode, {3, 81, 70, 3}, {{"sizes", Ints{20, 13}}, {"mode", mode}}, false});
  }
  return all;
}

OpCase resize_case() {
  OpCase c;
  c.op = "resize";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Ref y = Ref::zeros(resized("resize", v, in[0].shape));
    for_each_pair("resize", v, in[0].shape, y.shape,
                  [&](std::int64_t from, std::int64_t to, double weight) { y[to] += weight * in[0][from]; });
    return std::vector<Ref>{y};
  };
  for (const ResizeExample& e : resize_examples()) c.variants.push_back({e.name, {f32(e.shape)}, e.attrs, e.gradient});
  for (const DType type : kOtherTypes) {
    for (const std::int64_t channels : {1, 3}) {
      const CaseInput x = {{type, {2, 3, 4, channels}}, {.kind = Fill::Kind::index, .a = 0, .b = 100}};
      const std::string name = dtype_name(type);
      c.variants.push_back({channels == 1 ? name + "_one_channel" : name, {x}, {{"sizes", Ints{5, 3}}}, false});
    }
  }
  c.bf16_inputs = {0};
  return c;
}

OpCase resize_backward_case() {
  OpCase c;
  c.op = "resize_backward";
  c.reference = [](const std::vector<Ref>& in, const Variant& v) {
    Shape before = in[0].shape;
    const Ints sizes = std::get<Ints>(attribute("resize_backward", v, "input_sizes"));
    std::copy(sizes.begin(), sizes.end(), before.begin() + 1);
    Ref dx = Ref::zeros(before);
    for_each_pair("resize_backward", v, before, in[0].shape,
                  [&](std::int64_t to, std::int64_t from, double weight) { dx[to] += weight * in[0][from]; });
    return std::vector<Ref>{dx};
  };
  for (const ResizeExample& e : resize_examples()) {
    Variant v{e.name, {}, e.attrs, false};
    v.attrs.emplace_back("input_sizes", Ints(e.shape.begin() + 1, e.shape.end() - 1));
    v.inputs = {f32(resized("resize_backward", v, e.shape))};
    c.variants.push_back(std::move(v));
  }
  c.bf16_inputs = {0};
  return c;
}

}  // namespace

std::vector<OpCase> resize_cases() { return {resize_case(), resize_backward_case()}; }

}  // namespace trivet::testing
