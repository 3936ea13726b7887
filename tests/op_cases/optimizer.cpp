#include <cmath>
#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput scalar(double value) { return f32({}, {.kind = Fill::Kind::values, .values = {value}}); }
CaseInput bf16(Shape shape, Fill fill = {}) { return {{DType::bf16, std::move(shape)}, std::move(fill)}; }
CaseInput step(double value) { return {{DType::i64, {}}, {.kind = Fill::Kind::values, .values = {value}}}; }
CaseInput absent() { return {{DType::f32, {}}, {}, true}; }

double scale_of(const std::vector<Ref>& in, const Variant& v, std::size_t i) {
  return i < in.size() && !v.inputs[i].absent ? in[i][0] : 1;
}

// One of the two neighbours of the exact value, for which this is enough; tests/ops/optimizer_test.cpp has the bits.
constexpr double kNeighbour = 0x1p-7;

const Attrs kStochastic = {
    {"stochastic_rounding", true}, {"seed", std::int64_t{7}}, {"op", std::int64_t{3}}, {"weight_decay", 0.1}};

std::vector<Ref> sgd_reference(const std::vector<Ref>& in, const Variant& v) {
  const double momentum = std::get<double>(attribute("sgd_step", v, "momentum"));
  const double decay = std::get<double>(attribute("sgd_step", v, "weight_decay"));
  const bool nesterov = std::get<bool>(attribute("sgd_step", v, "nesterov"));
  Ref param = in[0], buffer = in[2];
  for (std::int64_t i = 0; i < param.size(); ++i) {
    const double g = in[1][i] * scale_of(in, v, 4) + decay * param[i];
    buffer[i] = momentum * buffer[i] + g;
    param[i] -= in[3][0] * (nesterov ? g + momentum * buffer[i] : buffer[i]);
  }
  return {param, buffer};
}

OpCase sgd_case() {
  OpCase result{.op = "sgd_step", .reference = sgd_reference, .variants = {}, .bf16_inputs = {0, 1}};
  const auto add = [&](const std::string& name, const Shape& shape, Attrs attrs, CaseInput scale = absent()) {
    result.variants.push_back({name,
                               {f32(shape), f32(shape), f32(shape), scalar(0.1), std::move(scale)},
                               std::move(attrs),
                               /*gradient=*/false});
  };
  add("plain", {3}, {});
  add("scalar", {}, {{"momentum", 0.9}});
  add("momentum", {33}, {{"momentum", 0.9}});
  add("weight_decay", {5, 7}, {{"weight_decay", 0.01}});
  add("nesterov", {1025}, {{"momentum", 0.9}, {"weight_decay", 0.01}, {"nesterov", true}});
  add("scaled", {33}, {{"momentum", 0.9}, {"weight_decay", 0.1}}, scalar(0.25));
  add("parallel", {3, 17001}, {{"momentum", 0.9}});
  result.variants.push_back({"without_scale", {f32({4}), f32({4}), f32({4}), scalar(0.1)}, {}, /*gradient=*/false});
  result.variants.push_back({"gradient_bf16", {f32({33}), bf16({33}), f32({33}), scalar(0.1)}, {}, /*gradient=*/false});
  result.variants.push_back({"gradient_f32", {bf16({33}), f32({33}), f32({33}), scalar(0.1)}, {}, /*gradient=*/false});
  for (const std::int64_t n : {33, 34001}) {
    result.variants.push_back({"stochastic_" + std::to_string(n),
                               {bf16({n}), bf16({n}), f32({n}), scalar(0.1), scalar(0.5), step(12)},
                               kStochastic,
                               /*gradient=*/false,
                               kNeighbour});
  }
  result.variants.push_back(
      {"not_finite",
       {f32({4}), f32({4}, {.kind = Fill::Kind::values, .values = {kNan, kInfinity, 1, -kInfinity}}), f32({4}),
        scalar(1)},
       {},
       /*gradient=*/false});
  return result;
}

std::vector<Ref> adamw_reference(const std::vector<Ref>& in, const Variant& v) {
  const double beta1 = std::get<double>(attribute("adamw_step", v, "beta1"));
  const double beta2 = std::get<double>(attribute("adamw_step", v, "beta2"));
  const double epsilon = std::get<double>(attribute("adamw_step", v, "epsilon"));
  const double decay = std::get<double>(attribute("adamw_step", v, "weight_decay"));
  const double lr = in[4][0];
  Ref param = in[0], m = in[2], s = in[3];
  for (std::int64_t i = 0; i < param.size(); ++i) {
    const double g = in[1][i] * scale_of(in, v, 6);
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    s[i] = beta2 * s[i] + (1 - beta2) * g * g;
    const double corrected_m = m[i] / (1 - std::pow(beta1, in[5][0]));
    const double corrected_s = s[i] / (1 - std::pow(beta2, in[5][0]));
    param[i] = param[i] - lr * decay * param[i] - lr * corrected_m / (std::sqrt(corrected_s) + epsilon);
  }
  return {param, m, s};
}

OpCase adamw_case() {
  OpCase result{.op = "adamw_step", .reference = adamw_reference, .variants = {}, .bf16_inputs = {0, 1}};
  const Fill zero{.kind = Fill::Kind::values, .values = {0}};
  const auto add = [&](const std::string& name, const Shape& shape, double t, Attrs attrs, CaseInput scale = absent()) {
    const Fill first = t == 1 ? zero : Fill{};
    const Fill second = t == 1 ? zero : Fill{.kind = Fill::Kind::uniform, .a = 0, .b = 1};
    result.variants.push_back(
        {name,
         {f32(shape), f32(shape), f32(shape, first), f32(shape, second), scalar(0.01), step(t), std::move(scale)},
         std::move(attrs),
         /*gradient=*/false});
  };
  add("first_step", {3}, 1, {});
  add("scalar", {}, 2, {});
  add("step_1000", {33}, 1000, {});
  add("late", {33}, 1e9, {});
  add("betas", {1025}, 10, {{"beta1", 0.5}, {"beta2", 0.9}});
  add("epsilon", {5, 7}, 3, {{"epsilon", 0.1}});
  add("weight_decay", {33}, 3, {{"weight_decay", 0.5}});
  add("no_weight_decay", {33}, 3, {{"weight_decay", 0.0}});
  add("scaled", {33}, 5, {}, scalar(0.25));
  add("parallel", {3, 17001}, 4, {});
  result.variants.push_back({"without_scale",
                             {f32({4}), f32({4}), f32({4}, zero), f32({4}, zero), scalar(0.1), step(1)},
                             {},
                             /*gradient=*/false});
  result.variants.push_back({"stochastic",
                             {bf16({3, 67}), bf16({3, 67}), f32({3, 67}),
                              f32({3, 67}, {.kind = Fill::Kind::uniform, .a = 0, .b = 1}), scalar(0.01), step(12)},
                             kStochastic,
                             /*gradient=*/false,
                             kNeighbour});
  // Nothing has moved yet and nothing moves: 0 / (0 + epsilon).
  result.variants.push_back({"zero_gradient",
                             {f32({4}), f32({4}, zero), f32({4}, zero), f32({4}, zero), scalar(0.1), step(1)},
                             {},
                             /*gradient=*/false});
  result.variants.push_back({"nan_gradient",
                             {f32({4}), f32({4}, {.kind = Fill::Kind::values, .values = {kNan, 1}}), f32({4}, zero),
                              f32({4}, zero), scalar(0.1), step(1)},
                             {},
                             /*gradient=*/false});
  return result;
}

std::vector<Ref> lion_reference(const std::vector<Ref>& in, const Variant& v) {
  const double beta1 = std::get<double>(attribute("lion_step", v, "beta1"));
  const double beta2 = std::get<double>(attribute("lion_step", v, "beta2"));
  const double decay = std::get<double>(attribute("lion_step", v, "weight_decay"));
  const double lr = in[3][0];
  Ref param = in[0], m = in[2];
  for (std::int64_t i = 0; i < param.size(); ++i) {
    const double g = in[1][i] * scale_of(in, v, 4);
    const double c = beta1 * m[i] + (1 - beta1) * g;
    const double sign = c > 0 ? 1 : c < 0 ? -1 : c;
    param[i] -= lr * (sign + decay * param[i]);
    m[i] = beta2 * m[i] + (1 - beta2) * g;
  }
  return {param, m};
}

OpCase lion_case() {
  OpCase result{.op = "lion_step", .reference = lion_reference, .variants = {}, .bf16_inputs = {0, 1}};
  const auto add = [&](const std::string& name, const Shape& shape, Attrs attrs, CaseInput scale = absent()) {
    result.variants.push_back({name,
                               {f32(shape), f32(shape), f32(shape), scalar(0.01), std::move(scale)},
                               std::move(attrs),
                               /*gradient=*/false});
  };
  add("scalar", {}, {});
  add("plain", {33}, {});
  add("betas", {1025}, {{"beta1", 0.5}, {"beta2", 0.75}});
  add("weight_decay", {5, 7}, {{"weight_decay", 0.5}});
  add("scaled", {33}, {}, scalar(0.25));
  add("parallel", {3, 17001}, {});
  result.variants.push_back({"zero_and_nan",
                             {f32({4}), f32({4}, {.kind = Fill::Kind::values, .values = {0, kNan, kInfinity, -1}}),
                              f32({4}, {.kind = Fill::Kind::values, .values = {0}}), scalar(1)},
                             {},
                             /*gradient=*/false});
  result.variants.push_back({"stochastic",
                             {bf16({201}), bf16({201}), f32({201}), scalar(0.01), absent(), step(3)},
                             kStochastic,
                             /*gradient=*/false,
                             kNeighbour});
  return result;
}

// The update of one element before clipping, from the second moments' estimates.
std::vector<Ref> adafactor_result(const Ref& param, const Ref& update, const Variant& v, double lr) {
  const double threshold = std::get<double>(attribute("adafactor_step", v, "clip_threshold"));
  const double decay = std::get<double>(attribute("adafactor_step", v, "weight_decay"));
  double square = 0;
  for (std::int64_t i = 0; i < update.size(); ++i) square += update[i] * update[i];
  const double ratio = std::sqrt(square / static_cast<double>(update.size())) / threshold;
  Ref next = param;
  for (std::int64_t i = 0; i < next.size(); ++i) {
    next[i] -= lr * decay * param[i] + lr * update[i] / (ratio <= 1 ? 1 : ratio);
  }
  return {next};
}

std::vector<Ref> adafactor_reference(const std::vector<Ref>& in, const Variant& v) {
  const double rest = std::pow(in[4][0], -std::get<double>(attribute("adafactor_step", v, "decay_rate")));
  const double epsilon = std::get<double>(attribute("adafactor_step", v, "epsilon"));
  const bool factored = in[0].shape.size() >= 2;
  const std::int64_t rows = factored ? in[0].shape[0] : 1, columns = in[0].size() / rows;
  Ref update = in[1], square = in[1];
  for (std::int64_t i = 0; i < update.size(); ++i) {
    update[i] *= scale_of(in, v, 6);
    square[i] = update[i] * update[i] + epsilon;
  }
  if (!factored) {
    Ref moments = in[2];
    for (std::int64_t i = 0; i < moments.size(); ++i) {
      moments[i] = (1 - rest) * moments[i] + rest * square[i];
      update[i] /= std::sqrt(moments[i]);
    }
    return {adafactor_result(in[0], update, v, in[3][0])[0], moments};
  }
  Ref row = in[2], column = in[5];
  for (double& r : row.data) r *= 1 - rest;
  for (double& c : column.data) c *= 1 - rest;
  double total = 0;
  for (std::int64_t i = 0; i < square.size(); ++i) {
    row[i / columns] += rest * square[i] / static_cast<double>(columns);
    column[i % columns] += rest * square[i] / static_cast<double>(rows);
  }
  for (const double r : row.data) total += r / static_cast<double>(rows);
  for (std::int64_t i = 0; i < update.size(); ++i) {
    update[i] /= std::sqrt(row[i / columns] * column[i % columns] / total);
  }
  return {adafactor_result(in[0], update, v, in[3][0])[0], row, column};
}

OpCase adafactor_case() {
  OpCase result{.op = "adafactor_step", .reference = adafactor_reference, .variants = {}, .bf16_inputs = {0, 1}};
  const auto add = [&](const std::string& name, const Shape& shape, double t, Attrs attrs, CaseInput scale = absent(),
                       double tolerance = 4e-6) {
    const bool factored = shape.size() >= 2;
    std::int64_t size = 1;
    for (const std::int64_t s : shape) size *= s;
    const Fill moments{.kind = Fill::Kind::uniform, .a = 0.1, .b = 2};
    result.variants.push_back({name,
                               {f32(shape), f32(shape), f32(factored ? Shape{shape[0]} : shape, moments), scalar(0.01),
                                step(t), factored ? f32({size / shape[0]}, moments) : absent(), std::move(scale)},
                               std::move(attrs),
                               /*gradient=*/false,
                               tolerance});
  };
  add("scalar", {}, 2, {});
  add("vector", {33}, 10, {});
  add("vector_long", {20001}, 10, {{"weight_decay", 0.1}}, absent(), 1e-5);
  add("matrix", {5, 7}, 10, {});
  add("first_step", {5, 7}, 1, {});
  add("one_row", {1, 33}, 3, {});
  add("one_column", {33, 1}, 3, {});
  add("conv_weights", {4, 3, 3, 5}, 3, {{"weight_decay", 0.5}});
  add("decay_rate", {6, 9}, 4, {{"decay_rate", 0.5}});
  add("epsilon", {6, 9}, 4, {{"epsilon", 0.1}});
  add("not_clipped", {6, 9}, 4, {{"clip_threshold", 100.0}});
  add("scaled", {6, 9}, 4, {{"epsilon", 0.1}}, scalar(0.25));
  add("parallel", {67, 1025}, 4, {}, absent(), 1e-5);
  add("few_wide_rows", {3, 20001}, 4, {}, absent(), 1e-5);
  const Fill zero{.kind = Fill::Kind::values, .values = {0}};
  result.variants.push_back({"zero_gradient",
                             {f32({2, 3}), f32({2, 3}, zero), f32({2}, zero), scalar(1), step(1), f32({3}, zero)},
                             {},
                             /*gradient=*/false});
  result.variants.push_back({"nan_gradient",
                             {f32({2, 3}), f32({2, 3}, {.kind = Fill::Kind::values, .values = {kNan}}), f32({2}, zero),
                              scalar(1), step(1), f32({3}, zero)},
                             {},
                             /*gradient=*/false});
  return result;
}

OpCase average_case() {
  OpCase result{.op = "average_step",
                .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
                  const double decay = std::get<double>(attribute("average_step", v, "decay"));
                  Ref average = in[0];
                  for (std::int64_t i = 0; i < average.size(); ++i) {
                    average[i] = decay * average[i] + (1 - decay) * in[1][i];
                  }
                  return {average};
                },
                .variants = {},
                .bf16_inputs = {1}};
  const auto add = [&](const std::string& name, const Shape& shape, Attrs attrs) {
    result.variants.push_back({name, {f32(shape), f32(shape)}, std::move(attrs), /*gradient=*/false});
  };
  add("scalar", {}, {});
  add("row", {33}, {});
  add("decay", {5, 7}, {{"decay", 0.5}});
  add("none_kept", {5, 7}, {{"decay", 0.0}});
  add("all_kept", {5, 7}, {{"decay", 1.0}});
  add("parallel", {3, 17001}, {});
  return result;
}

OpCase clip_scale_case() {
  OpCase result{.op = "clip_scale",
                .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
                  double sum = 0;
                  for (const Ref& square : in) sum += square[0];
                  Ref norm = Ref::zeros({}), scale = Ref::zeros({});
                  norm[0] = std::sqrt(sum);
                  const double ratio = std::get<double>(attribute("clip_scale", v, "max_norm")) / (norm[0] + 1e-6);
                  scale[0] = ratio >= 1 ? 1 : ratio;
                  return {scale, norm};
                },
                .variants = {}};
  const auto add = [&](const std::string& name, const std::vector<double>& squares, double max_norm) {
    Variant v{name, {}, {{"max_norm", max_norm}}, /*gradient=*/false};
    for (const double s : squares) v.inputs.push_back(scalar(s));
    result.variants.push_back(std::move(v));
  };
  add("below", {0.25}, 1);
  add("above", {9, 16}, 1);
  add("three", {1, 2, 3}, 2);
  add("zero", {0, 0}, 1);
  add("large", {1e30, 1e30}, 0.5);
  add("infinite", {1, kInfinity}, 1);
  add("nan", {kNan, 1}, 1);
  return result;
}

OpCase loss_scale_case() {
  OpCase result{.op = "loss_scale_step",
                .reference = [](const std::vector<Ref>& in, const Variant& v) -> std::vector<Ref> {
                  double sum = 0;
                  for (std::size_t i = 3; i < in.size(); ++i) sum += in[i][0];
                  const double max_norm = std::get<double>(attribute("loss_scale_step", v, "max_norm"));
                  const auto interval =
                      static_cast<double>(std::get<std::int64_t>(attribute("loss_scale_step", v, "interval")));
                  std::vector<Ref> out(6, Ref::zeros({}));
                  const double scale = in[0][0], norm = std::sqrt(sum) / scale;
                  out[1][0] = norm;
                  if (!std::isfinite(sum)) {
                    out[3][0] = std::max(1.0, scale / 2);
                    out[5][0] = in[2][0] + 1;
                    return out;
                  }
                  out[0][0] = (max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0) / scale;
                  out[2][0] = 1;
                  const bool grows = in[1][0] + 1 == interval;
                  out[3][0] = grows ? std::min(0x1p24, 2 * scale) : scale;
                  out[4][0] = grows ? 0 : in[1][0] + 1;
                  out[5][0] = in[2][0];
                  return out;
                },
                .variants = {}};
  const auto add = [&](const std::string& name, double scale, double good, const std::vector<double>& squares,
                       Attrs attrs = {}) {
    Variant v{name, {scalar(scale), step(good), step(3)}, std::move(attrs), /*gradient=*/false};
    for (const double s : squares) v.inputs.push_back(scalar(s));
    result.variants.push_back(std::move(v));
  };
  add("one", 1024, 5, {0.25});
  add("three", 1024, 0, {1e6, 2e6, 3e6});
  add("clipped", 8, 1, {64, 64, 64, 64}, {{"max_norm", 0.5}});
  add("not_clipped", 8, 1, {64}, {{"max_norm", 5.0}});
  add("infinite", 1024, 1998, {1, kInfinity});
  add("nan", 1024, 7, {kNan, 1}, {{"max_norm", 1.0}});
  add("infinite_at_the_least_scale", 1, 0, {kInfinity});
  add("before_it_grows", 1024, 1998, {4});
  add("grows", 1024, 1999, {4});
  add("grows_soon", 2, 2, {4, 4}, {{"interval", std::int64_t{3}}});
  add("grows_no_more", 0x1p24, 1999, {4});
  add("zero", 1024, 1, {0, 0});
  return result;
}

OpCase zero_case() {
  OpCase result{.op = "zero",
                .reference = [](const std::vector<Ref>& in, const Variant&) -> std::vector<Ref> {
                  return {Ref::zeros(in[0].shape)};
                },
                .variants = {}};
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::boolean, DType::bf16,
                            DType::f16, DType::i8}) {
    result.variants.push_back({std::string("of_") + dtype_name(dtype),
                               {{{dtype, {5, 7}}, {.kind = Fill::Kind::index, .a = 1, .b = 2}}},
                               {},
                               /*gradient=*/false});
  }
  result.variants.push_back({"scalar", {f32({})}, {}, /*gradient=*/false});
  result.variants.push_back({"parallel", {f32({3, 100001})}, {}, /*gradient=*/false});
  result.variants.push_back(
      {"nan", {f32({9}, {.kind = Fill::Kind::values, .values = {kNan, kInfinity}})}, {}, /*gradient=*/false});
  return result;
}

}  // namespace

std::vector<OpCase> optimizer_cases() {
  return {sgd_case(),     adamw_case(),      lion_case(),       adafactor_case(),
          average_case(), clip_scale_case(), loss_scale_case(), zero_case()};
}

}  // namespace trivet::testing
