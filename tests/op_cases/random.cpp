#include <cmath>
#include <limits>

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
      .variants = {}};
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

}  // namespace

std::vector<OpCase> random_cases() { return {dropout_case("dropout", true), dropout_case("dropout_backward", false)}; }

}  // namespace trivet::testing
