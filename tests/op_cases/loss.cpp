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

// Loss and gradient of every row, from the definition: -sum of target * log softmax.
std::vector<Ref> loss_and_gradient(const std::string& op, const Ref& logits, const Ref& label, const Ref* dloss,
                                   const Variant& v) {
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
    for (std::int64_t c = 0; c < classes; ++c) {
      const bool own = static_cast<double>(c) == label[r];
      const double target = (own ? 1 - smoothing : 0) + smoothing / static_cast<double>(classes);
      const double log_probability = logits[row + c] - max - std::log(sum);
      if (target > 0) loss[r] -= target * log_probability;
      if (dloss != nullptr) gradient[row + c] = (std::exp(log_probability) - target) * (*dloss)[r];
    }
  }
  return {loss, gradient};
}

// Variants of (logits, labels); `with_dloss` adds the third input.
std::vector<Variant> cross_entropy_variants(bool with_dloss) {
  std::vector<Variant> variants = {
      {"one_class", {f32({3, 1}), labels({0, 0, 0})}},
      {"three_classes", {f32({5, 3}), labels(DType::i64, 5, 3)}},
      {"i32_labels", {f32({4, 10}), labels(DType::i32, 4, 10)}},
      {"33_classes", {f32({7, 33}), labels(DType::i64, 7, 33)}},
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
  };
  for (Variant& v : variants) {
    if (!with_dloss) continue;
    v.inputs.push_back(f32({v.inputs[0].type.dim(0)}));
    v.gradient = false;
  }
  return variants;
}

OpCase cross_entropy_case() {
  return {.op = "cross_entropy",
          .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
            return {loss_and_gradient("cross_entropy", in[0], in[1], nullptr, v)[0]};
          },
          .variants = cross_entropy_variants(false)};
}

OpCase cross_entropy_backward_case() {
  return {.op = "cross_entropy_backward",
          .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
            return {loss_and_gradient("cross_entropy_backward", in[0], in[1], &in[2], v)[1]};
          },
          .variants = cross_entropy_variants(true)};
}

OpCase softmax_cross_entropy_case() {
  return {
      .op = "softmax_cross_entropy",
      .reference = [](const std::vector<Ref>& in,
                      const Variant& v) { return loss_and_gradient("softmax_cross_entropy", in[0], in[1], &in[2], v); },
      .variants = cross_entropy_variants(true)};
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
  OpCase result{.op = "top_k_correct", .reference = top_k_reference, .variants = {}};
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
  add("no_rows", {f32({0, 5}), {{DType::i64, {0}}, few}}, 1);
  return result;
}

}  // namespace

std::vector<OpCase> loss_cases() {
  return {cross_entropy_case(), cross_entropy_backward_case(), softmax_cross_entropy_case(), top_k_case()};
}

}  // namespace trivet::testing
