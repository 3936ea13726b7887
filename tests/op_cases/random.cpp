#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/math/philox.h"
#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

std::vector<Ref> dropout_reference(const std::string& op, const std::vector<Ref>& in, const Variant& v) {
  const double rate = std::get<double>(attribute(op, v, "rate"));
  const auto integer = [](double value) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(value)); };
  const auto seed = static_cast<std::uint64_t>(std::get<std::int64_t>(attribute(op, v, "seed")));
  const auto layer = static_cast<std::uint64_t>(std::get<std::int64_t>(attribute(op, v, "op")));
  const std::uint64_t key = math::mix_key(math::mix_key(seed, layer), integer(in[1][0]));
  const double threshold = std::max(1.0, std::round((1 - rate) * 0x1p32));
  const std::int64_t size = in[0].shape[0] == 0 ? 0 : in[0].size() / in[0].shape[0];
  Ref y = Ref::zeros(in[0].shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t e = i % size;
    const math::Philox4 draw = math::philox(key, integer(in[2][i / size]), static_cast<std::uint64_t>(e / 4));
    if (static_cast<double>(draw.v[e % 4]) < threshold) y[i] = in[0][i] / (1 - rate);
  }
  return {y};
}

CaseInput i64(Shape shape, std::vector<double> values) {
  return {{DType::i64, std::move(shape)}, {.kind = Fill::Kind::values, .values = std::move(values)}};
}

OpCase dropout_case(const std::string& op, bool differentiable) {
  OpCase result{
      .op = op,
      .reference = [op](const std::vector<Ref>& in, const Variant& v) { return dropout_reference(op, in, v); },
      .variants = {},
      .bf16_inputs = {0}};
  const auto add = [&](const std::string& name, const Shape& shape, Attrs attrs,
                       std::vector<double> samples = {0, 1, 2}, double step = 7, Fill fill = {}) {
    result.variants.push_back(
        {name,
         {{{DType::f32, shape}, std::move(fill)}, i64({}, {step}), i64({shape[0]}, std::move(samples))},
         std::move(attrs),
         differentiable});
  };
  const std::int64_t seed = 42, layer = 3;
  add("one_element_each", {33}, {});
  add("three_each", {5, 3}, {{"seed", seed}});
  add("65_each", {3, 65}, {{"rate", 0.1}, {"seed", seed}, {"op", layer}});
  add("1025_each", {3, 5, 205}, {{"rate", 0.25}, {"seed", seed}, {"op", layer}});
  add("several_chunks", {3, 9001}, {{"rate", 0.9}, {"op", layer}});
  add("many_samples", {3000, 10}, {{"rate", 0.3}}, {5, 900, 17, 3});
  add("rate_0", {2, 70}, {{"rate", 0.0}});
  add("rate_nearly_1", {2, 70}, {{"rate", 0.999}});
  add("negative_seed", {2, 70}, {{"seed", std::int64_t{-5}}, {"op", std::int64_t{-1}}});
  add("large_counters", {3, 70}, {}, {0x1p40 + 3, 0x1p32, -1}, 0x1p45 + 1);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Fill special{.kind = Fill::Kind::values, .values = {kInfinity, std::nan(""), -kInfinity}};
  add("not_finite", {2, 70}, {}, {0, 1, 2}, 7, special);
  result.variants.back().gradient = false;
  return result;
}

// --- random tensors ---

// The four words of the block that element e of a sample belongs to.
math::Philox4 words_of(const std::string& op, const std::vector<Ref>& in, const Variant& v, std::int64_t row,
                       std::int64_t e) {
  const auto unsigned_attribute = [&](const char* name) {
    return static_cast<std::uint64_t>(std::get<std::int64_t>(attribute(op, v, name)));
  };
  const auto integer = [](double value) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(value)); };
  const std::uint64_t layer = math::mix_key(unsigned_attribute("seed"), unsigned_attribute("op"));
  const std::uint64_t sample = in.size() > 1 ? integer(in[1][row]) : static_cast<std::uint64_t>(row);
  return math::philox(math::mix_key(layer, integer(in[0][0])), sample, static_cast<std::uint64_t>(e / 4));
}

double upper_24_bits(std::uint32_t word) { return std::floor(word / 256.0); }

double uniform_draw(const math::Philox4& words, std::int64_t e) { return upper_24_bits(words.v[e % 4]) * 0x1p-24; }

double normal_draw(const math::Philox4& words, std::int64_t e) {
  const std::int64_t pair = e % 4 / 2 * 2;
  const double radius = std::sqrt(-2 * std::log((upper_24_bits(words.v[pair]) + 1) * 0x1p-24));
  const double angle = 2 * std::numbers::pi * upper_24_bits(words.v[pair + 1]) * 0x1p-24;
  return radius * (e % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

// shift + scale * draw for every element.
std::vector<Ref> draw_reference(const std::string& op, const std::vector<Ref>& in, const Variant& v, double shift,
                                double scale, double (*draw)(const math::Philox4&, std::int64_t)) {
  Ref y = Ref::zeros(std::get<std::vector<std::int64_t>>(attribute(op, v, "shape")));
  const std::int64_t rows = y.shape[0], size = rows == 0 ? 0 : y.size() / rows;
  for (std::int64_t row = 0; row < rows; ++row) {
    math::Philox4 words{};
    for (std::int64_t e = 0; e < size; ++e) {
      if (e % 4 == 0) words = words_of(op, in, v, row, e);
      y[row * size + e] = shift + scale * draw(words, e);
    }
  }
  return {y};
}

std::vector<Ref> uniform_reference(const std::vector<Ref>& in, const Variant& v) {
  const double low = std::get<double>(attribute("random_uniform", v, "low"));
  const double high = std::get<double>(attribute("random_uniform", v, "high"));
  return draw_reference("random_uniform", in, v, low, high - low, uniform_draw);
}

std::vector<Ref> normal_reference(const std::vector<Ref>& in, const Variant& v) {
  const double mean = std::get<double>(attribute("random_normal", v, "mean"));
  const double scale = std::get<double>(attribute("random_normal", v, "scale"));
  return draw_reference("random_normal", in, v, mean, scale, normal_draw);
}

// `a` and `b`: the names of the distribution's attributes.
OpCase draw_case(const std::string& op, decltype(OpCase::reference) reference, const char* a, const char* b) {
  OpCase result{.op = op, .reference = std::move(reference), .variants = {}};
  const auto add = [&](const std::string& name, const Shape& shape, Attrs attrs, std::vector<double> samples = {},
                       double step = 7) {
    attrs.emplace_back("shape", shape);
    std::vector<CaseInput> inputs = {i64({}, {step})};
    if (!samples.empty()) inputs.push_back(i64({shape[0]}, std::move(samples)));
    result.variants.push_back({name, std::move(inputs), std::move(attrs), false});
  };
  const std::int64_t seed = 42, layer = 3;
  add("one_element", {1}, {});
  add("one_element_each", {33}, {{"seed", seed}}, {4, 9, 1});
  add("three_each", {5, 3}, {{"op", layer}}, {0, 1, 2});
  add("65_each", {3, 65}, {{"seed", seed}, {"op", layer}, {a, -2.0}, {b, 3.5}});
  add("1025_each", {3, 5, 205}, {{a, 10.0}, {b, 10.5}}, {7, 8, 9});
  add("several_chunks", {3, 9001}, {{"seed", seed}});
  add("many_samples", {3000, 10}, {}, {5, 900, 17, 3});
  add("no_samples", {0, 3}, {});
  add("empty_samples", {3, 0}, {});
  add("no_width", {2, 70}, {{a, 0.0}, {b, 0.0}});
  add("large_counters", {3, 70}, {{"seed", std::int64_t{-5}}}, {0x1p40 + 3, 0x1p32, -1}, 0x1p45 + 1);
  add("bf16", {3, 1025}, {{"dtype", std::string("bf16")}, {a, 0.5}, {b, 2.0}}, {1, 2, 3});
  return result;
}

}  // namespace

std::vector<OpCase> random_cases() {
  return {dropout_case("dropout", true), dropout_case("dropout_backward", false),
          draw_case("random_uniform", uniform_reference, "low", "high"),
          draw_case("random_normal", normal_reference, "mean", "scale")};
}

}  // namespace trivet::testing
