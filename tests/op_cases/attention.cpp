#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool given(const std::vector<Ref>& in, const Variant& v, std::size_t i) { return i < in.size() && !v.inputs[i].absent; }

// The element of a tensor that broadcasts to an index of rank 4.
double broadcast_element(const Ref& t, const std::int64_t (&index)[4]) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < t.shape.size(); ++d) {
    const std::int64_t i = index[4 - t.shape.size() + d];
    offset = offset * t.shape[d] + (t.shape[d] == 1 ? 0 : i);
  }
  return t[offset];
}

// The masked scores; -inf where a key is not to be seen.
struct Scores {
  const std::vector<Ref>& in;
  bool causal;
  double scale;
  const Ref* mask;
  bool is_bool;

  Scores(const std::string& op, const std::vector<Ref>& inputs, const Variant& v, std::size_t mask_input)
      : in(inputs),
        causal(std::get<bool>(attribute(op, v, "is_causal"))),
        scale(std::get<double>(attribute(op, v, "scale"))),
        mask(given(in, v, mask_input) ? &in[mask_input] : nullptr),
        is_bool(mask != nullptr && v.inputs[mask_input].type.dtype == DType::boolean) {
    if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(in[0].shape[3]));
  }

  double at(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t s) const {
    if (causal && s > t) return -kInfinity;
    const Ref &q = in[0], &k = in[1];
    const std::int64_t d = q.shape[3], shared = h / (q.shape[1] / k.shape[1]);
    const double* a = &q.data[static_cast<std::size_t>(((b * q.shape[1] + h) * q.shape[2] + t) * d)];
    const double* c = &k.data[static_cast<std::size_t>(((b * k.shape[1] + shared) * k.shape[2] + s) * d)];
    double sum = 0;
    for (std::int64_t i = 0; i < d; ++i) sum += a[i] * c[i];
    sum *= scale;
    if (mask == nullptr) return sum;
    const double m = broadcast_element(*mask, {b, h, t, s});
    if (is_bool) return m != 0 ? sum : -kInfinity;
    return sum + m;
  }
};

std::vector<Ref> attention_reference(const std::vector<Ref>& in, const Variant& v) {
  const Ref &q = in[0], &k = in[1], &values = in[2];
  const std::int64_t heads = q.shape[1], queries = q.shape[2], keys = k.shape[2], width = values.shape[3];
  const Scores scores("scaled_dot_product_attention", in, v, 3);
  Ref y = Ref::zeros({q.shape[0], heads, queries, width}), lse = Ref::zeros({q.shape[0], heads, queries});
  for (std::int64_t row = 0; row < lse.size(); ++row) {
    const std::int64_t b = row / (heads * queries), h = row / queries % heads, t = row % queries;
    std::vector<double> weights;
    double largest = -kInfinity;
    for (std::int64_t s = 0; s < keys; ++s) {
      weights.push_back(scores.at(b, h, t, s));
      if (std::isnan(weights.back()) || weights.back() > largest) largest = weights.back();
    }
    double sum = 0;
    for (double& w : weights) {
      w = largest == -kInfinity ? 0 : std::exp(w - largest);
      sum += w;
    }
    lse[row] = largest == -kInfinity ? -kInfinity : largest + std::log(sum);
    const std::int64_t shared = b * k.shape[1] + h / (heads / k.shape[1]);
    for (std::int64_t e = 0; e < width; ++e) {
      double total = 0;
      for (std::int64_t s = 0; s < keys; ++s) {
        total += weights[static_cast<std::size_t>(s)] * values[(shared * keys + s) * width + e];
      }
      y[row * width + e] = sum == 0 ? 0 : total / sum;
    }
  }
  return {y, lse};
}

std::vector<Ref> attention_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const Scores scores("scaled_dot_product_attention_backward", in, v, 6);
  const Ref &q = in[0], &k = in[1], &values = in[2], &y = in[3], &lse = in[4], &dy = in[5];
  const std::int64_t heads = q.shape[1], queries = q.shape[2], keys = k.shape[2];
  const std::int64_t d = q.shape[3], width = values.shape[3];
  Ref dq = Ref::zeros(q.shape), dk = Ref::zeros(k.shape), dv = Ref::zeros(values.shape);
  for (std::int64_t row = 0; row < lse.size(); ++row) {
    const std::int64_t b = row / (heads * queries), h = row / queries % heads, t = row % queries;
    const std::int64_t shared = b * k.shape[1] + h / (heads / k.shape[1]);
    double delta = 0;
    for (std::int64_t e = 0; e < width; ++e) delta += y[row * width + e] * dy[row * width + e];
    for (std::int64_t s = 0; s < keys; ++s) {
      const double p = lse[row] == -kInfinity ? 0 : std::exp(scores.at(b, h, t, s) - lse[row]);
      if (p == 0) continue;
      double dp = 0;
      for (std::int64_t e = 0; e < width; ++e) {
        dp += dy[row * width + e] * values[(shared * keys + s) * width + e];
        dv[(shared * keys + s) * width + e] += p * dy[row * width + e];
      }
      const double ds = p * (dp - delta) * scores.scale;
      for (std::int64_t i = 0; i < d; ++i) {
        dq[row * d + i] += ds * k[(shared * keys + s) * d + i];
        dk[(shared * keys + s) * d + i] += ds * q[row * d + i];
      }
    }
  }
  return {dq, dk, dv};
}

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput values(Shape shape, std::vector<double> list) {
  return f32(std::move(shape), {.kind = Fill::Kind::values, .values = std::move(list)});
}
CaseInput kept(Shape shape, std::vector<double> list) {
  return {{DType::boolean, std::move(shape)}, {.kind = Fill::Kind::values, .values = std::move(list)}};
}
CaseInput absent() { return {{DType::f32, {}}, {}, true}; }

// Batch, query heads, key heads, queries, keys, elements of q and k, of v.
struct Sizes {
  std::int64_t b, h, g, t, s, d, e;
};

struct AttentionVariant {
  std::string name;
  Sizes sizes;
  Attrs attrs = {};
  CaseInput mask = absent();
  bool gradient = true;
  double tolerance = 2e-6;
  Fill q = {};
};

std::vector<AttentionVariant> attention_variants() {
  const Attrs causal = {{"is_causal", true}};
  return {
      {"one", {1, 1, 1, 1, 1, 1, 1}},
      {"small", {2, 1, 1, 3, 4, 5, 5}},
      {"values_wider", {1, 2, 2, 3, 2, 3, 7}},
      {"shared_heads", {2, 6, 2, 3, 5, 4, 4}},
      {"one_key_head", {1, 4, 1, 2, 3, 4, 4}},
      {"scale", {1, 2, 2, 4, 3, 4, 4}, {{"scale", 0.3}}},
      {"causal", {1, 2, 1, 5, 5, 3, 3}, causal},
      {"causal_more_keys", {1, 1, 1, 3, 6, 3, 3}, causal},
      {"causal_more_queries", {1, 1, 1, 6, 3, 3, 3}, causal},
      {"mask_scores", {2, 2, 2, 3, 4, 3, 3}, {}, f32({2, 2, 3, 4})},
      {"mask_heads", {2, 3, 3, 2, 4, 3, 3}, causal, f32({3, 1, 1})},
      {"mask_keys", {2, 2, 2, 3, 4, 3, 3}, {}, values({2, 1, 1, 4}, {0, -kInfinity, 0.5, 1, -2, 0, -kInfinity, 0})},
      {"keep_keys", {2, 2, 1, 3, 4, 3, 3}, {}, kept({2, 1, 1, 4}, {1, 0, 1, 1, 0, 1})},
      {"keep_queries", {1, 2, 2, 3, 4, 3, 3}, {}, kept({3, 1}, {1, 0, 1})},
      {"rows_without_keys", {1, 2, 1, 4, 5, 3, 3}, {}, values({4, 1}, {0, -kInfinity, 0, -kInfinity})},
      {"blocks", {1, 2, 1, 35, 101, 33, 17}, {}, absent(), true, 4e-6},
      {"blocks_causal", {1, 1, 1, 107, 107, 16, 48}, causal, absent(), true, 4e-6},
      {"blocks_first_masked", {1, 1, 1, 3, 200, 4, 4}, {}, values({1, 1}, {-kInfinity}), false},
      {"large_scores", {1, 1, 1, 5, 100, 4, 4}, {}, absent(), false, 2e-5, {.b = 100}},
      {"large_equal_scores",
       {1, 1, 1, 3, 5, 1, 4},
       {{"scale", 1e4}},
       values({1}, {-1e4}),
       false,
       2e-6,
       {.kind = Fill::Kind::values, .values = {0}}},
      {"not_finite", {1, 1, 1, 3, 4, 1, 2}, {}, values({3, 1}, {kInfinity, 0, std::nan("")}), false},
      {"long", {1, 2, 1, 65, 293, 33, 17}, {}, absent(), false, 4e-6},
      {"parallel", {2, 4, 2, 70, 70, 8, 8}, causal, absent(), false, 4e-6},
      {"wide", {1, 2, 1, 67, 70, 64, 64}, causal, absent(), false, 4e-6},
      {"widest", {1, 1, 1, 17, 69, 128, 128}, {}, absent(), false, 4e-6},
      {"wide_values", {1, 1, 1, 20, 33, 64, 128}, causal, absent(), false, 4e-6},
  };
}

OpCase attention_case() {
  OpCase result{.op = "scaled_dot_product_attention",
                .reference = attention_reference,
                .variants = {},
                .differentiable = {0, 1, 2},
                .bf16_inputs = {0, 1, 2}};
  for (const AttentionVariant& a : attention_variants()) {
    const auto& z = a.sizes;
    result.variants.push_back(
        {a.name,
         {f32({z.b, z.h, z.t, z.d}, a.q), f32({z.b, z.g, z.s, z.d}), f32({z.b, z.g, z.s, z.e}), a.mask},
         a.attrs,
         a.gradient,
         a.tolerance});
  }
  result.variants.push_back({"three_inputs", {f32({1, 2, 3, 4}), f32({1, 2, 3, 4}), f32({1, 2, 3, 4})}});
  return result;
}

OpCase attention_backward_case() {
  OpCase result{.op = "scaled_dot_product_attention_backward",
                .reference = attention_backward_reference,
                .variants = {},
                .bf16_inputs = {0, 1, 2, 3, 5}};
  for (const AttentionVariant& a : attention_variants()) {
    if (a.name.starts_with("large") || a.name == "not_finite") continue;  // lse would have to be of that size
    const auto& z = a.sizes;
    const Shape y = {z.b, z.h, z.t, z.e};
    result.variants.push_back({a.name,
                               {f32({z.b, z.h, z.t, z.d}), f32({z.b, z.g, z.s, z.d}), f32({z.b, z.g, z.s, z.e}), f32(y),
                                f32({z.b, z.h, z.t}, {.a = 4, .b = 0.5}), f32(y), a.mask},
                               a.attrs,
                               /*gradient=*/false,
                               2 * a.tolerance});
  }
  result.variants.push_back({"rows_without_lse",
                             {f32({1, 1, 4, 3}), f32({1, 1, 5, 3}), f32({1, 1, 5, 3}), f32({1, 1, 4, 3}),
                              values({1, 1, 4}, {2, -kInfinity}), f32({1, 1, 4, 3}), absent()},
                             {},
                             /*gradient=*/false});
  return result;
}

// ---- rotary embedding ----

std::vector<Ref> rotary_reference(const std::string& op, const std::vector<Ref>& in, const Variant& v, double sign) {
  const Ref& x = in[0];
  const std::int64_t steps = x.shape[2], width = x.shape[3];
  const bool interleaved = std::get<bool>(attribute(op, v, "interleaved"));
  const std::int64_t wanted = std::get<std::int64_t>(attribute(op, v, "rotary_embedding_dim"));
  const std::int64_t half = (wanted == 0 ? width : wanted) / 2;
  const double base = std::get<double>(attribute(op, v, "base"));
  Ref y = x;
  for (std::int64_t row = 0; row < x.size() / width; ++row) {
    const std::int64_t b = row / (x.shape[1] * steps), t = row % steps;
    for (std::int64_t i = 0; i < half; ++i) {
      double c = 0, s = 0, position = 0;
      if (given(in, v, 1)) position = in[1][in[1].shape.size() == 2 ? b * steps + t : t];
      if (!given(in, v, 2)) {
        const double angle = position * std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
        c = std::cos(angle);
        s = std::sin(angle);
      } else {
        const std::int64_t at = given(in, v, 1) ? static_cast<std::int64_t>(position) : b * steps + t;
        const bool inside = at >= 0 && at < in[2].size() / half;
        c = inside ? in[2][at * half + i] : std::nan("");
        s = inside ? in[3][at * half + i] : std::nan("");
      }
      const std::int64_t first = row * width + (interleaved ? 2 * i : i);
      const std::int64_t second = interleaved ? first + 1 : first + half;
      y[first] = x[first] * c - sign * x[second] * s;
      y[second] = x[second] * c + sign * x[first] * s;
    }
  }
  return {y};
}

OpCase rotary_case(const std::string& op, double sign) {
  OpCase result{
      .op = op,
      .reference = [=](const std::vector<Ref>& in, const Variant& v) { return rotary_reference(op, in, v, sign); },
      .variants = {},
      .differentiable = {0},
      .bf16_inputs = {0}};
  const bool gradient = sign > 0;
  const auto positions = [](Shape shape, std::vector<double> list) -> CaseInput {
    return {{DType::i64, std::move(shape)}, {.kind = Fill::Kind::values, .values = std::move(list)}};
  };
  const auto add = [&](const std::string& name, std::vector<CaseInput> inputs, Attrs attrs = {}) {
    result.variants.push_back({name, std::move(inputs), std::move(attrs), gradient});
  };
  const Attrs pairs = {{"interleaved", true}};
  add("one", {f32({1, 1, 1, 2}), positions({1}, {1})});
  add("steps", {f32({2, 3, 5, 8}), positions({5}, {0, 1, 2, 3, 4})});
  add("samples", {f32({2, 3, 3, 6}), positions({2, 3}, {0, 7, 100, -3, 5, 1})});
  add("interleaved", {f32({2, 3, 5, 8}), positions({5}, {0, 1, 2, 3, 4})}, pairs);
  add("part", {f32({1, 2, 3, 7}), positions({3}, {4, 5, 6})}, {{"rotary_embedding_dim", std::int64_t{4}}});
  add("part_interleaved", {f32({1, 2, 3, 9}), positions({3}, {4, 5, 6})},
      {{"rotary_embedding_dim", std::int64_t{6}}, {"interleaved", true}});
  add("base", {f32({1, 2, 17, 66}), positions({17}, {1, 20, 300, 4000})}, {{"base", 500000.0}});
  add("far", {f32({1, 1, 4, 4}), positions({4}, {1e5, 1048575, 1e7, -1e6})});
  add("table", {f32({2, 2, 3, 6}), positions({2, 3}, {4, 0, 1, 2, 3, 4}), f32({5, 3}), f32({5, 3})});
  add("table_of_samples", {f32({2, 2, 3, 6}), {{DType::i64, {}}, {}, true}, f32({2, 3, 3}), f32({2, 3, 3})}, pairs);
  result.variants.push_back({"table_too_short",
                             {f32({1, 2, 3, 4}), positions({3}, {1, 5, -1}), f32({5, 2}), f32({5, 2})},
                             {},
                             /*gradient=*/false});
  result.variants.push_back({"parallel", {f32({3, 4, 40, 64}), positions({40}, {7, 1, 39})}, {}, /*gradient=*/false});
  return result;
}

}  // namespace

std::vector<OpCase> attention_cases() {
  return {attention_case(), attention_backward_case(), rotary_case("rotary_embedding", 1),
          rotary_case("rotary_embedding_backward", -1)};
}

}  // namespace trivet::testing
