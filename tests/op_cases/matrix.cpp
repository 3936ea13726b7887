#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput absent() { return {{DType::f32, {1}}, {}, true}; }

// NaN stays NaN.
double rectify(double v) { return v < 0 ? 0 : v; }

// The index of the matrix of `shape` that belongs to the matrix `index` of `batches`, with broadcasting.
std::int64_t matrix_index(const Shape& shape, const Shape& batches, std::int64_t index) {
  std::int64_t result = 0;
  std::int64_t step = 1;
  const std::size_t own = shape.size() - 2;
  for (std::size_t i = 0; i < batches.size(); ++i) {  // counted from the innermost batch axis
    const std::int64_t size = batches[batches.size() - 1 - i];
    const std::int64_t position = index % size;
    index /= size;
    if (i >= own) continue;
    const std::int64_t own_size = shape[own - 1 - i];
    if (own_size != 1) result += position * step;
    step *= own_size;
  }
  return result;
}

std::vector<Ref> matmul_reference(const std::vector<Ref>& in, const Variant& variant) {
  const bool ta = std::get<bool>(attribute("matmul", variant, "transpose_a"));
  const bool tb = std::get<bool>(attribute("matmul", variant, "transpose_b"));
  const Ref& a = in[0];
  const Ref& b = in[1];
  const std::size_t ra = a.shape.size();
  const std::size_t rb = b.shape.size();
  const std::int64_t m = a.shape[ta ? ra - 1 : ra - 2];
  const std::int64_t k = a.shape[ta ? ra - 2 : ra - 1];
  const std::int64_t n = b.shape[tb ? rb - 2 : rb - 1];
  Shape batches(std::max(ra, rb) - 2, 1);
  std::int64_t count = 1;
  for (std::size_t i = 0; i < batches.size(); ++i) {  // from the innermost batch axis
    std::int64_t& size = batches[batches.size() - 1 - i];
    if (i + 2 < ra) size = std::max(size, a.shape[ra - 3 - i]);
    if (i + 2 < rb) size = std::max(size, b.shape[rb - 3 - i]);
    count *= size;
  }
  Shape shape = batches;
  shape.push_back(m);
  shape.push_back(n);
  Ref c = Ref::zeros(shape);
  for (std::int64_t batch = 0; batch < count; ++batch) {
    const std::int64_t a0 = matrix_index(a.shape, batches, batch) * m * k;
    const std::int64_t b0 = matrix_index(b.shape, batches, batch) * k * n;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l) {
          sum += a[a0 + (ta ? l * m + i : i * k + l)] * b[b0 + (tb ? j * k + l : l * n + j)];
        }
        c[(batch * m + i) * n + j] = sum;
      }
    }
  }
  return {c};
}

std::vector<Ref> linear_reference(const std::vector<Ref>& in, const Variant& variant) {
  const bool relu = std::get<std::string>(attribute("linear", variant, "activation")) == "relu";
  const Ref& x = in[0];
  const Ref& w = in[1];
  const std::int64_t n = w.shape[0];
  const std::int64_t k = w.shape[1];
  Shape shape = x.shape;
  shape.back() = n;
  Ref y = Ref::zeros(shape);
  for (std::int64_t i = 0; i < x.size() / k; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = in.size() > 2 && in[2].size() > 0 ? in[2][j] : 0;
      for (std::int64_t l = 0; l < k; ++l) sum += x[i * k + l] * w[j * k + l];
      y[i * n + j] = relu ? rectify(sum) : sum;
    }
  }
  return {y};
}

// dx = dy w.
std::vector<Ref> backward_data_reference(const std::vector<Ref>& in, const Variant&) {
  const Ref& dy = in[0];
  const Ref& w = in[1];
  const std::int64_t n = w.shape[0];
  const std::int64_t k = w.shape[1];
  Shape shape = dy.shape;
  shape.back() = k;
  Ref dx = Ref::zeros(shape);
  for (std::int64_t i = 0; i < dy.size() / n; ++i) {
    for (std::int64_t l = 0; l < k; ++l) {
      for (std::int64_t j = 0; j < n; ++j) dx[i * k + l] += dy[i * n + j] * w[j * k + l];
    }
  }
  return {dx};
}

// dw = dy^T x, db = sum of dy's rows.
std::vector<Ref> backward_weights_reference(const std::vector<Ref>& in, const Variant& variant) {
  const Ref& x = in[0];
  const Ref& dy = in[1];
  const std::int64_t k = x.shape.back();
  const std::int64_t n = dy.shape.back();
  Ref dw = Ref::zeros({n, k});
  Ref db = Ref::zeros({n});
  for (std::int64_t i = 0; i < x.size() / k; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      db[j] += dy[i * n + j];
      for (std::int64_t l = 0; l < k; ++l) dw[j * k + l] += dy[i * n + j] * x[i * k + l];
    }
  }
  if (!std::get<bool>(attribute("linear_backward_weights", variant, "bias"))) return {dw};
  return {dw, db};
}

std::vector<Variant> matmul_variants() {
  const Attrs ta = {{"transpose_a", true}};
  const Attrs tb = {{"transpose_b", true}};
  const Attrs both = {{"transpose_a", true}, {"transpose_b", true}};
  const Fill far = {.a = 1e4, .b = 1};
  const Fill odd_values = {.kind = Fill::Kind::values, .values = {1, -2, kInfinity, 0.5, kNan, 3, -kInfinity}};
  return {
      {"small", {f32({3, 4}), f32({4, 5})}},
      {"transpose_a", {f32({4, 3}), f32({4, 5})}, ta},
      {"transpose_b", {f32({3, 4}), f32({5, 4})}, tb},
      {"transpose_both", {f32({4, 3}), f32({5, 4})}, both},
      {"one_element", {f32({1, 1}), f32({1, 1})}},
      {"inner_product", {f32({1, 33}), f32({33, 1})}},
      {"outer_product", {f32({33, 1}), f32({1, 3})}},
      {"outer_product_transposed", {f32({1, 33}), f32({3, 1})}, both},
      {"batch", {f32({2, 3, 4}), f32({2, 4, 5})}},
      {"batch_transpose_a", {f32({2, 4, 3}), f32({2, 4, 5})}, ta},
      {"batch_transpose_b", {f32({2, 3, 4}), f32({2, 5, 4})}, tb},
      {"batch_transpose_both", {f32({3, 4, 3}), f32({3, 5, 4})}, both},
      {"one_b_for_all", {f32({2, 3, 4}), f32({4, 5})}},
      {"one_b_for_all_transpose_b", {f32({2, 2, 3, 4}), f32({5, 4})}, tb},
      {"one_b_for_all_transpose_a", {f32({2, 4, 3}), f32({4, 5})}, ta},
      {"one_b_with_axes_of_one", {f32({2, 3, 4}), f32({1, 4, 5})}},
      {"one_a_for_all", {f32({3, 4}), f32({2, 4, 5})}},
      {"one_a_for_all_transpose_both", {f32({4, 3}), f32({2, 5, 4})}, both},
      {"broadcast_both", {f32({2, 1, 3, 4}), f32({5, 4, 2})}},
      {"broadcast_both_transpose_b", {f32({3, 1, 2, 4}), f32({1, 2, 3, 4})}, tb},
      {"rank_8", {f32({1, 2, 1, 1, 2, 1, 3, 2}), f32({2, 1, 1, 1, 1, 2, 2, 3})}},
      {"rows_15_transpose_b", {f32({15, 7}), f32({9, 7})}, tb},
      {"rows_16_transpose_b", {f32({16, 7}), f32({9, 7})}, tb},
      {"deep", {f32({3, 1025}), f32({1025, 2})}, {}, false, 2e-5},
      {"deep_transpose_b", {f32({17, 1025}), f32({33, 1025})}, tb, false, 2e-5},
      {"wide", {f32({33, 3}), f32({3, 1025})}, {}, false},
      {"tall_transpose_a", {f32({3, 1025}), f32({3, 33})}, ta, false},
      {"large", {f32({129, 257}), f32({257, 131})}, {}, false, 2e-5},
      {"large_transpose_both", {f32({257, 129}), f32({131, 257})}, both, false, 2e-5},
      {"mean_1e4", {f32({33, 5}, far), f32({5, 3})}, {}, false, 1e-3},
      {"infinities_and_nan", {f32({4, 7}, odd_values), f32({7, 3})}, {}, false},
      {"infinities_and_nan_in_b", {f32({17, 3}), f32({20, 3}, odd_values)}, tb, false},
  };
}

std::vector<Variant> linear_variants() {
  const Attrs relu = {{"activation", std::string("relu")}};
  const Fill one_nan = {.kind = Fill::Kind::values, .values = {1, -2, 0.5, kNan, 3}};
  const Fill infinite = {.kind = Fill::Kind::values, .values = {1, -2, kInfinity, 0.5}};
  return {
      {"small", {f32({3, 4}), f32({5, 4}), f32({5})}},
      {"no_bias", {f32({3, 4}), f32({5, 4})}},
      {"absent_bias", {f32({3, 4}), f32({5, 4}), absent()}},
      {"relu", {f32({3, 4}), f32({5, 4}), f32({5})}, relu},
      {"relu_no_bias", {f32({17, 4}), f32({5, 4})}, relu},
      {"vector", {f32({4}), f32({5, 4}), f32({5})}},
      {"sequence", {f32({2, 3, 4}), f32({5, 4}), f32({5})}, relu},
      {"rank_4", {f32({2, 1, 3, 4}), f32({1, 4}), f32({1})}},
      {"one_feature", {f32({33, 1}), f32({3, 1}), f32({3})}},
      {"rows_16", {f32({16, 33}), f32({3, 33}), f32({3})}, relu, true, 5e-6},
      {"one_row", {f32({1, 1025}), f32({33, 1025}), f32({33})}, relu, false, 2e-5},
      {"three_rows", {f32({3, 1025}), f32({33, 1025}), f32({33})}, {}, false, 2e-5},
      {"large", {f32({129, 784}), f32({65, 784}), f32({65})}, relu, false, 5e-5},
      {"mean_1e4", {f32({33, 5}, {.a = 1e4, .b = 1}), f32({3, 5}), f32({3})}, {}, false, 1e-3},
      {"relu_keeps_nan", {f32({3, 5}, one_nan), f32({5, 5}), f32({5})}, relu, false},
      {"relu_keeps_nan_many_rows", {f32({33, 7}, one_nan), f32({5, 7}), f32({5})}, relu, false},
      {"relu_of_infinities", {f32({33, 3}, infinite), f32({4, 3}), f32({4})}, relu, false},
  };
}

// x (rows, K) and w (N, K); deep and wide ones, and a single row.
struct Layer {
  std::string name;
  Shape rows;
  std::int64_t k, n;
  double tolerance = 2e-6;
};

const std::vector<Layer> kLayers = {{"small", {3}, 4, 5},           {"vector", {}, 4, 5},
                                    {"sequence", {2, 3}, 4, 5},     {"one_element", {1}, 1, 1},
                                    {"rows_33", {33}, 17, 3, 5e-6}, {"many_rows", {2, 1025}, 3, 5, 1e-4},
                                    {"wide", {3}, 33, 1025, 5e-5},  {"large", {129}, 257, 131, 2e-5},
                                    {"tall", {5000}, 10, 200, 1e-4}};

Shape with(Shape rows, std::int64_t columns) {
  rows.push_back(columns);
  return rows;
}

// Small integers: exact in bf16, so that rounded weights are what the reference sees.
CaseInput whole(DType dtype, Shape shape) {
  return {{dtype, std::move(shape)}, {.kind = Fill::Kind::index, .a = -3, .b = 4}};
}

std::vector<Variant> backward_data_variants() {
  std::vector<Variant> variants;
  for (const Layer& l : kLayers) {
    variants.push_back({l.name, {f32(with(l.rows, l.n)), f32({l.n, l.k})}, {}, false, l.tolerance});
    variants.push_back({l.name + "_f32_weights",
                        {whole(DType::bf16, with(l.rows, l.n)), whole(DType::f32, {l.n, l.k})},
                        {},
                        false,
                        l.tolerance});
  }
  return variants;
}

std::vector<Variant> backward_weights_variants() {
  std::vector<Variant> variants;
  for (const Layer& l : kLayers) {
    const std::vector<CaseInput> inputs = {f32(with(l.rows, l.k)), f32(with(l.rows, l.n))};
    variants.push_back({l.name, inputs, {}, false, l.tolerance});
    variants.push_back({l.name + "_and_bias", inputs, {{"bias", true}}, false, l.tolerance});
    variants.push_back(
        {l.name + "_and_bias_f32", inputs, {{"bias", true}, {"dtype", std::string("f32")}}, false, l.tolerance});
  }
  return variants;
}

std::vector<Variant> mixed_linear_variants() {
  std::vector<Variant> variants = linear_variants();
  for (const Layer& l : kLayers) {
    variants.push_back({l.name + "_f32_weights",
                        {whole(DType::bf16, with(l.rows, l.k)), whole(DType::f32, {l.n, l.k}), f32({l.n})},
                        {},
                        false,
                        l.tolerance});
  }
  return variants;
}

}  // namespace

std::vector<OpCase> matrix_cases() {
  return {
      {.op = "matmul", .reference = matmul_reference, .variants = matmul_variants(), .bf16_inputs = {0, 1}},
      {.op = "linear", .reference = linear_reference, .variants = mixed_linear_variants(), .bf16_inputs = {0, 1, 2}},
      {.op = "linear_backward_data",
       .reference = backward_data_reference,
       .variants = backward_data_variants(),
       .bf16_inputs = {0, 1}},
      {.op = "linear_backward_weights",
       .reference = backward_weights_reference,
       .variants = backward_weights_variants(),
       .bf16_inputs = {0, 1}},
  };
}

}  // namespace trivet::testing
