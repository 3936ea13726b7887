#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput labels(DType dtype, std::int64_t rows, double classes) {
  return {{dtype, {rows}}, {.kind = Fill::Kind::index, .a = 0, .b = classes}};
}
CaseInput labels(std::vector<double> values) {
  const auto rows = static_cast<std::int64_t>(values.size());
  return {{DType::i64, {rows}}, {.kind = Fill::Kind::values, .values = std::move(values)}};
}
Fill repeated(std::vector<double> v) { return {.kind = Fill::Kind::values, .values = std::move(v)}; }

// Loss and gradient of every row, from the definition: -sum of weight * target * log softmax.
std::vector<Ref> loss_and_gradient(const std::string& op, const Ref& logits, const Ref& label, const Ref* dloss,
                                   const Ref* weights, const Variant& v) {
  const auto ignored = static_cast<double>(std::get<std::int64_t>(attribute(op, v, "ignore_index")));
  const double smoothing = std::get<double>(attribute(op, v, "label_smoothing"));
  const std::int64_t classes = logits.shape[1];
  Ref loss = Ref::zeros(label.shape);
  Ref gradient = Ref::zeros(logits.shape);
  for (std::int64_t r = 0; r < label.size(); ++r) {
    const std::int64_t row = r * classes;
    if (label[r] == ignored) continue;
    if (label[r] < 0 || label[r] >= static_cast<double>(classes)) {
      loss[r] = kNan;
      for (std::int64_t c = 0; c < classes; ++c) gradient[row + c] = kNan;
      continue;
    }
    double max = -kInfinity, sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) max = logits[row + c] > max ? logits[row + c] : max;
    for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(logits[row + c] - max);
    double mass = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      const bool own = static_cast<double>(c) == label[r];
      const double weight = weights != nullptr ? (*weights)[c] : 1;
      const double target = weight * ((own ? 1 - smoothing : 0) + smoothing / static_cast<double>(classes));
      if (target > 0) loss[r] -= target * (logits[row + c] - max - std::log(sum));
      mass += target;
      gradient[row + c] = -target;
    }
    for (std::int64_t c = 0; c < classes; ++c) {
      gradient[row + c] += mass * std::exp(logits[row + c] - max - std::log(sum));
      gradient[row + c] *= dloss != nullptr ? (*dloss)[r] : 1;
    }
  }
  return {loss, gradient};
}

// Variants of (logits, labels); `with_dloss` adds the third input, and `weighted` a last one in some variants.
std::vector<Variant> cross_entropy_variants(bool with_dloss, bool weighted) {
  std::vector<Variant> variants = {
      {"one_class", {f32({3, 1}), labels({0, 0, 0})}},
      {"three_classes", {f32({5, 3}), labels(DType::i64, 5, 3)}},
      {"i32_labels", {f32({4, 10}), labels(DType::i32, 4, 10)}},
      {"16_classes", {f32({5, 16}), labels(DType::i64, 5, 16)}},
      {"33_classes", {f32({7, 33}), labels(DType::i64, 7, 33)}},
      {"64_classes", {f32({5, 64}), labels(DType::i64, 5, 64)}},
      {"65_classes", {f32({5, 65}), labels(DType::i64, 5, 65)}},
      {"1025_classes", {f32({3, 1025}), labels(DType::i64, 3, 1025)}},
      {"parallel", {f32({2000, 10}), labels(DType::i64, 2000, 10)}},
      {"ignored_rows", {f32({4, 5}), labels({1, -100, 4, -100})}},
      {"all_ignored", {f32({2, 5}), labels({-100, -100})}},
      {"ignore_index_2", {f32({4, 5}), labels({2, 0, 2, 1})}, {{"ignore_index", std::int64_t{2}}}},
      {"smoothing", {f32({6, 10}), labels(DType::i64, 6, 10)}, {{"label_smoothing", 0.1}}},
      {"smoothing_1025", {f32({3, 1025}), labels(DType::i64, 3, 1025)}, {{"label_smoothing", 0.3}}},
      {"all_equal", {f32({3, 7}, repeated({1e4})), labels(DType::i64, 3, 7)}},
      {"mean_1e4", {f32({3, 9}, {.kind = Fill::Kind::normal, .a = 1e4, .b = 1}), labels(DType::i64, 3, 9)}},
      {"large", {f32({5, 9}, {.kind = Fill::Kind::normal, .a = 0, .b = 1000}), labels(DType::i64, 5, 9)}},
      {"label_out_of_range", {f32({4, 5}), labels({-1, 0, 5, 4})}, {}, /*gradient=*/false},
      // The label's own logit is masked in the second row; the third row is masked as a whole.
      {"masked",
       {f32({3, 3}, repeated({1, -kInfinity, 2, 0, -kInfinity, 1, -kInfinity, -kInfinity, -kInfinity})),
        labels({0, 1, 2})},
       {},
       /*gradient=*/false},
      {"nan_and_infinity",
       {f32({3, 3}, repeated({1, kNan, 2, 0, kInfinity, 1, 1, 2, 3})), labels({0, 1, 2})},
       {},
       false},
      {"masked_wide",
       {f32({4, 70}, repeated({1, -kInfinity, 2, 0, -kInfinity, 1, 3, kNan, 5})), labels({0, 3, 66, 69})},
       {},
       /*gradient=*/false},
      {"masked_wide_finite",
       {f32({3, 70}, repeated({1, -kInfinity, 2, 0, 3})), labels({0, 2, 69})},
       {},
       /*gradient=*/false},
  };
  for (Variant& v : variants) {
    if (!with_dloss) continue;
    v.inputs.push_back(f32({v.inputs[0].type.dim(0)}));
    v.gradient = false;
  }
  if (!weighted) return variants;
  for (const std::string name : {"three_classes", "33_classes", "1025_classes", "ignored_rows", "smoothing",
                                 "smoothing_1025", "label_out_of_range", "parallel"}) {
    Variant variant = *std::find_if(variants.begin(), variants.end(), [&](const Variant& v) { return v.name == name; });
    variant.name += "_weighted";
    const Shape classes = {variant.inputs[0].type.dim(1)};
    variant.inputs.push_back(f32(classes, {.kind = Fill::Kind::uniform, .a = 0, .b = 2}));
    variants.push_back(std::move(variant));
  }
  return variants;
}

OpCase cross_entropy_case() {
  return {.op = "cross_entropy",
          .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
            const Ref* weights = in.size() > 2 ? &in[2] : nullptr;
            return {loss_and_gradient("cross_entropy", in[0], in[1], nullptr, weights, v)[0]};
          },
          .variants = cross_entropy_variants(false, true),
          .differentiable = {0},
          .bf16_inputs = {0}};
}

OpCase cross_entropy_backward_case() {
  return {.op = "cross_entropy_backward",
          .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
            return {loss_and_gradient("cross_entropy_backward", in[0], in[1], &in[2], nullptr, v)[1]};
          },
          .variants = cross_entropy_variants(true, false),
          .bf16_inputs = {0}};
}

OpCase softmax_cross_entropy_case() {
  return {.op = "softmax_cross_entropy",
          .reference =
              [](const std::vector<Ref>& in, const Variant& v) {
                const Ref* weights = in.size() > 3 ? &in[3] : nullptr;
                return loss_and_gradient("softmax_cross_entropy", in[0], in[1], &in[2], weights, v);
              },
          .variants = cross_entropy_variants(true, true),
          .bf16_inputs = {0}};
}

// Loss and gradient against target probabilities.
std::vector<Ref> soft_loss_and_gradient(const Ref& logits, const Ref& targets, const Ref* dloss) {
  const std::int64_t classes = logits.shape[1];
  Ref loss = Ref::zeros({logits.shape[0]});
  Ref gradient = Ref::zeros(logits.shape);
  for (std::int64_t r = 0; r < loss.size(); ++r) {
    double max = -kInfinity, sum = 0, mass = 0;
    for (std::int64_t i = r * classes; i < (r + 1) * classes; ++i) max = logits[i] > max ? logits[i] : max;
    for (std::int64_t i = r * classes; i < (r + 1) * classes; ++i) sum += std::exp(logits[i] - max);
    for (std::int64_t i = r * classes; i < (r + 1) * classes; ++i) {
      if (targets[i] != 0) loss[r] -= targets[i] * (logits[i] - max - std::log(sum));
      mass += targets[i];
    }
    for (std::int64_t i = r * classes; i < (r + 1) * classes; ++i) {
      gradient[i] = (mass * std::exp(logits[i] - max) / sum - targets[i]) * (dloss != nullptr ? (*dloss)[r] : 1);
    }
  }
  return {loss, gradient};
}

std::vector<OpCase> soft_cross_entropy_cases() {
  OpCase forward{.op = "soft_cross_entropy",
                 .reference = [](const std::vector<Ref>& in, const Variant&) -> std::vector<Ref> {
                   return {soft_loss_and_gradient(in[0], in[1], nullptr)[0]};
                 },
                 .variants = {},
                 .differentiable = {0},
                 .bf16_inputs = {0}};
  OpCase backward{.op = "soft_cross_entropy_backward",
                  .reference = [](const std::vector<Ref>& in, const Variant&) -> std::vector<Ref> {
                    return {soft_loss_and_gradient(in[0], in[1], &in[2])[1]};
                  },
                  .variants = {},
                  .bf16_inputs = {0}};
  const auto add = [&](const std::string& name, const Shape& shape, Fill logits, Fill targets, bool gradient = true) {
    forward.variants.push_back({name, {f32(shape, logits), f32(shape, targets)}, {}, gradient});
    backward.variants.push_back({name, {f32(shape, logits), f32(shape, targets), f32({shape[0]})}, {}, false});
  };
  const auto shares = [](double high) { return Fill{.kind = Fill::Kind::uniform, .a = 0, .b = high}; };
  add("one_class", {3, 1}, {}, repeated({1}));
  add("two_classes", {5, 2}, {}, repeated({0.25, 0.75}));
  add("not_a_distribution", {4, 10}, {}, shares(1));
  add("33_classes", {7, 33}, {}, shares(0.06));
  add("1025_classes", {3, 1025}, {}, shares(0.002));
  add("parallel", {2000, 10}, {}, shares(0.2));
  add("one_hot", {4, 5}, {}, repeated({0, 1, 0, 0, 0, 0}));
  add("mean_1e4", {3, 9}, {.kind = Fill::Kind::normal, .a = 1e4, .b = 1}, shares(0.2));
  add("large", {3, 9}, {.kind = Fill::Kind::normal, .a = 0, .b = 1000}, shares(0.2));
  // What has no probability may be masked; what has some may not.
  add("masked", {2, 4}, repeated({1, -kInfinity, 2, 0}), repeated({0.5, 0, 0.5, 0, 0.25, 0.25, 0.5, 0}), false);
  add("nan", {3, 3}, repeated({1, kNan, 2, 0, 3, 1, 1, 2, 3}), shares(0.6), false);
  return {forward, backward};
}

std::vector<Ref> top_k_reference(const std::vector<Ref>& in, const Variant& v) {
  const auto k = std::get<std::int64_t>(attribute("top_k_correct", v, "k"));
  const std::int64_t classes = in[0].shape[1];
  Ref count = Ref::zeros({});
  for (std::int64_t r = 0; r < in[1].size(); ++r) {
    const double label = in[1][r];
    bool correct = label >= 0 && label < static_cast<double>(classes);
    std::int64_t before = 0;
    for (std::int64_t c = 0; correct && c < classes; ++c) {
      const double own = in[0][r * classes + static_cast<std::int64_t>(label)];
      const double other = in[0][r * classes + c];
      if (other > own || (other == own && static_cast<double>(c) < label)) ++before;
      correct = !std::isnan(other);
    }
    if (correct && before < k) count[0] += 1;
  }
  return {count};
}

OpCase top_k_case() {
  const Fill few{.kind = Fill::Kind::index, .a = 0, .b = 5};
  OpCase result{.op = "top_k_correct", .reference = top_k_reference, .variants = {}, .bf16_inputs = {0}};
  const auto add = [&](const std::string& name, std::vector<CaseInput> inputs, std::int64_t k) {
    result.variants.push_back({name, std::move(inputs), {{"k", k}}, /*gradient=*/false});
  };
  add("one_class", {f32({3, 1}), labels({0, 0, 0})}, 1);
  add("top_1", {f32({50, 3}), labels(DType::i32, 50, 3)}, 1);
  add("top_5", {f32({100, 33}), labels(DType::i64, 100, 33)}, 5);
  add("top_5_ties", {f32({100, 33}, few), labels(DType::i64, 100, 33)}, 5);
  add("all_equal", {f32({7, 7}, repeated({3})), labels({0, 1, 2, 3, 4, 5, 6})}, 3);
  add("wide", {f32({9, 1025}), labels(DType::i64, 9, 1025)}, 300);
  add("parallel", {f32({3000, 10}), labels(DType::i64, 3000, 10)}, 2);
  add("more_than_classes", {f32({5, 3}), labels(DType::i64, 5, 3)}, 10);
  add("nan_rows",
      {f32({6, 4}, repeated({1, kNan, 2, 3, 9, 1, 1, 1, -kInfinity, kInfinity})), labels({0, 0, 1, 2, 0, 3})}, 4);
  add("label_out_of_range", {f32({4, 5}), labels({-100, 0, 5, 4})}, 5);
  add("no_rows", {f32({0, 5}), labels(DType::i64, 0, 5)}, 1);
  return result;
}

}  // namespace

std::vector<OpCase> loss_cases() {
  std::vector<OpCase> cases = {cross_entropy_case(), cross_entropy_backward_case(), softmax_cross_entropy_case(),
                               top_k_case()};
  for (OpCase& c : soft_cross_entropy_cases()) cases.push_back(std::move(c));
  return cases;
}

}  // namespace trivet::testing
