#include <cmath>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {
namespace {

// Sizes of a layer and where its optional inputs are.
struct Sizes {
  std::int64_t n, t, f, h, d;
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

bool given(const std::vector<Ref>& in, const Variant& v, std::size_t i) { return i < in.size() && !v.inputs[i].absent; }

bool is_reverse(const std::string& op, const Variant& v, std::int64_t dir) {
  return std::get<std::string>(attribute(op, v, "direction")) == "reverse" || dir == 1;
}

std::int64_t length_of(const std::vector<Ref>& in, const Variant& v, std::size_t input, std::int64_t n,
                       std::int64_t steps) {
  if (!given(in, v, input)) return steps;
  return std::min<std::int64_t>(steps, std::max<std::int64_t>(0, static_cast<std::int64_t>(in[input][n])));
}

// The steps that one sample takes in one direction, in order.
std::vector<std::int64_t> steps_of(std::int64_t length, bool reverse) {
  std::vector<std::int64_t> steps;
  for (std::int64_t s = 0; s < length; ++s) steps.push_back(reverse ? length - 1 - s : s);
  return steps;
}

// The sums of one gate's row of w x + its half of the bias, or of r h + the other half.
double row_sum(const Ref& matrix, std::int64_t row, const double* x, std::int64_t depth) {
  double sum = 0;
  for (std::int64_t k = 0; k < depth; ++k) sum += matrix[row * depth + k] * x[k];
  return sum;
}

double bias_of(const std::vector<Ref>& in, const Variant& v, std::int64_t i) { return given(in, v, 3) ? in[3][i] : 0; }

Sizes sizes_of(const std::vector<Ref>& in) {
  return {in[0].shape[0], in[0].shape[1], in[0].shape[2], in[2].shape[2], in[2].shape[0]};
}

std::vector<double> initial_state(const std::vector<Ref>& in, const Variant& v, std::size_t input, std::int64_t row,
                                  std::int64_t h) {
  std::vector<double> state(static_cast<std::size_t>(h), 0.0);
  for (std::int64_t u = 0; given(in, v, input) && u < h; ++u) {
    state[static_cast<std::size_t>(u)] = in[input][row * h + u];
  }
  return state;
}

std::vector<Ref> lstm_reference(const std::vector<Ref>& in, const Variant& v) {
  const Sizes s = sizes_of(in);
  Ref y = Ref::zeros({s.n, s.t, s.d, s.h}), y_h = Ref::zeros({s.n, s.d, s.h}), y_c = y_h;
  Ref gates = Ref::zeros({s.n, s.t, s.d, 4 * s.h}), cells = y;
  for (std::int64_t n = 0; n < s.n; ++n) {
    for (std::int64_t d = 0; d < s.d; ++d) {
      std::vector<double> h = initial_state(in, v, 5, n * s.d + d, s.h);
      std::vector<double> c = initial_state(in, v, 6, n * s.d + d, s.h);
      for (const std::int64_t t : steps_of(length_of(in, v, 4, n, s.t), is_reverse("lstm", v, d))) {
        const std::int64_t row = (n * s.t + t) * s.d + d;
        std::vector<double> sums;
        for (std::int64_t j = 0; j < 4 * s.h; ++j) {
          sums.push_back(
              row_sum(in[1], d * 4 * s.h + j, &in[0].data[static_cast<std::size_t>((n * s.t + t) * s.f)], s.f) +
              row_sum(in[2], d * 4 * s.h + j, h.data(), s.h) + bias_of(in, v, d * 8 * s.h + j) +
              bias_of(in, v, (d * 8 + 4) * s.h + j));
        }
        for (std::int64_t u = 0; u < s.h; ++u) {
          const auto gate = [&](std::int64_t g) { return sums[static_cast<std::size_t>(g * s.h + u)]; };
          const double i = sigmoid(gate(0)), o = sigmoid(gate(1)), f = sigmoid(gate(2)), g = std::tanh(gate(3));
          double& cell = c[static_cast<std::size_t>(u)];
          double& state = h[static_cast<std::size_t>(u)];
          cell = f * cell + i * g;
          state = o * std::tanh(cell);
          y[row * s.h + u] = state;
          cells[row * s.h + u] = cell;
          gates[row * 4 * s.h + u] = i;
          gates[(row * 4 + 1) * s.h + u] = o;
          gates[(row * 4 + 2) * s.h + u] = f;
          gates[(row * 4 + 3) * s.h + u] = g;
        }
      }
      for (std::int64_t u = 0; u < s.h; ++u) {
        y_h[(n * s.d + d) * s.h + u] = h[static_cast<std::size_t>(u)];
        y_c[(n * s.d + d) * s.h + u] = c[static_cast<std::size_t>(u)];
      }
    }
  }
  if (!std::get<bool>(attribute("lstm", v, "training"))) return {y, y_h, y_c};
  return {y, y_h, y_c, gates, cells};
}

std::vector<Ref> gru_reference(const std::vector<Ref>& in, const Variant& v) {
  const Sizes s = sizes_of(in);
  const bool linear = std::get<bool>(attribute("gru", v, "linear_before_reset"));
  const std::int64_t saved = linear ? 4 : 3;
  Ref y = Ref::zeros({s.n, s.t, s.d, s.h}), y_h = Ref::zeros({s.n, s.d, s.h});
  Ref gates = Ref::zeros({s.n, s.t, s.d, saved * s.h});
  for (std::int64_t n = 0; n < s.n; ++n) {
    for (std::int64_t d = 0; d < s.d; ++d) {
      std::vector<double> h = initial_state(in, v, 5, n * s.d + d, s.h);
      for (const std::int64_t t : steps_of(length_of(in, v, 4, n, s.t), is_reverse("gru", v, d))) {
        const std::int64_t row = (n * s.t + t) * s.d + d;
        const double* x = &in[0].data[static_cast<std::size_t>((n * s.t + t) * s.f)];
        const auto from_x = [&](std::int64_t j) {
          return row_sum(in[1], d * 3 * s.h + j, x, s.f) + bias_of(in, v, d * 6 * s.h + j);
        };
        const auto from_h = [&](std::int64_t j, const std::vector<double>& state) {
          return row_sum(in[2], d * 3 * s.h + j, state.data(), s.h) + bias_of(in, v, (d * 6 + 3) * s.h + j);
        };
        std::vector<double> z, r, reset, next;
        for (std::int64_t u = 0; u < s.h; ++u) {
          z.push_back(sigmoid(from_x(u) + from_h(u, h)));
          r.push_back(sigmoid(from_x(s.h + u) + from_h(s.h + u, h)));
          reset.push_back(r.back() * h[static_cast<std::size_t>(u)]);
        }
        for (std::int64_t u = 0; u < s.h; ++u) {
          const auto i = static_cast<std::size_t>(u);
          const double product = from_h(2 * s.h + u, linear ? h : reset);
          const double candidate = std::tanh(from_x(2 * s.h + u) + (linear ? r[i] * product : product));
          next.push_back((1 - z[i]) * candidate + z[i] * h[i]);
          y[row * s.h + u] = next.back();
          gates[row * saved * s.h + u] = z[i];
          gates[(row * saved + 1) * s.h + u] = r[i];
          gates[(row * saved + 2) * s.h + u] = candidate;
          if (linear) gates[(row * saved + 3) * s.h + u] = product;
        }
        h = next;
      }
      for (std::int64_t u = 0; u < s.h; ++u) y_h[(n * s.d + d) * s.h + u] = h[static_cast<std::size_t>(u)];
    }
  }
  if (!std::get<bool>(attribute("gru", v, "training"))) return {y, y_h};
  return {y, y_h, gates};
}

// The state before the step at position `at` of `steps`.
double state_before(const std::vector<Ref>& in, const Variant& v, const Ref& states, std::size_t initial,
                    const std::vector<std::int64_t>& steps, std::size_t at, std::int64_t n, std::int64_t d,
                    std::int64_t u) {
  const std::int64_t t_count = states.shape[1], d_count = states.shape[2], h = states.shape[3];
  if (at > 0) return states[((n * t_count + steps[at - 1]) * d_count + d) * h + u];
  return given(in, v, initial) ? in[initial][(n * d_count + d) * h + u] : 0;
}

// dsums r: what the step before receives.
double through_r(const Ref& r, std::int64_t first_row, std::int64_t rows, std::int64_t u,
                 const std::vector<double>& dsums) {
  const std::int64_t h = r.shape[2];
  double sum = 0;
  for (std::int64_t j = 0; j < rows; ++j) sum += dsums[static_cast<std::size_t>(j)] * r[(first_row + j) * h + u];
  return sum;
}

// What the backward ops return, by direction and gate.
struct Gradients {
  Ref dw, dr, dbias, dx;
  std::int64_t gates, h, f;

  Gradients(const std::vector<Ref>& in, std::int64_t gate_count)
      : dw(Ref::zeros(in[1].shape)),
        dr(Ref::zeros(in[2].shape)),
        dbias(Ref::zeros({in[2].shape[0], 2 * in[2].shape[1]})),
        dx(Ref::zeros(in[0].shape)),
        gates(gate_count),
        h(in[2].shape[2]),
        f(in[1].shape[2]) {}

  // The gradient of row j of a direction's sums of x, in which x's row number x_row took part.
  void add_input(const std::vector<Ref>& in, std::int64_t d, std::int64_t j, std::int64_t x_row, double dsum) {
    const std::int64_t row = d * gates * h + j;
    dbias[d * 2 * gates * h + j] += dsum;
    for (std::int64_t k = 0; k < f; ++k) {
      dw[row * f + k] += dsum * in[0][x_row * f + k];
      dx[x_row * f + k] += dsum * in[1][row * f + k];
    }
  }
  // And of row j of the recurrent sums, which took `taken`.
  void add_recurrent(std::int64_t d, std::int64_t j, const std::vector<double>& taken, double dsum) {
    dbias[(d * 2 + 1) * gates * h + j] += dsum;
    for (std::int64_t u = 0; u < h; ++u) dr[(d * gates * h + j) * h + u] += dsum * taken[static_cast<std::size_t>(u)];
  }
};

std::vector<Ref> lstm_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const Ref &r = in[2], &y = in[3], &gates = in[4], &cells = in[5];
  const std::int64_t count = y.shape[0], t_count = y.shape[1], d_count = y.shape[2], h = y.shape[3];
  Gradients sums(in, 4);
  Ref dinitial_h = Ref::zeros({count, d_count, h}), dinitial_c = dinitial_h;
  for (std::int64_t n = 0; n < count; ++n) {
    for (std::int64_t d = 0; d < d_count; ++d) {
      const auto steps = steps_of(length_of(in, v, 6, n, t_count), is_reverse("lstm_backward", v, d));
      std::vector<double> dh = initial_state(in, v, 10, n * d_count + d, h);
      std::vector<double> dc = initial_state(in, v, 11, n * d_count + d, h);
      for (std::size_t at = steps.size(); at-- > 0;) {
        const std::int64_t row = (n * t_count + steps[at]) * d_count + d;
        std::vector<double> dsums(static_cast<std::size_t>(4 * h)), before;
        for (std::int64_t u = 0; u < h; ++u) {
          const auto gate = [&](std::int64_t g) { return gates[(row * 4 + g) * h + u]; };
          const double i = gate(0), o = gate(1), f = gate(2), g = gate(3), c = std::tanh(cells[row * h + u]);
          const double dy = dh[static_cast<std::size_t>(u)] + (given(in, v, 9) ? in[9][row * h + u] : 0);
          double& dcell = dc[static_cast<std::size_t>(u)];
          dcell += dy * o * (1 - c * c);
          const double parts[] = {dcell * g * i * (1 - i), dy * c * o * (1 - o),
                                  dcell * state_before(in, v, cells, 8, steps, at, n, d, u) * f * (1 - f),
                                  dcell * i * (1 - g * g)};
          for (std::int64_t k = 0; k < 4; ++k) dsums[static_cast<std::size_t>(k * h + u)] = parts[k];
          dcell *= f;
          before.push_back(state_before(in, v, y, 7, steps, at, n, d, u));
        }
        for (std::int64_t j = 0; j < 4 * h; ++j) {
          sums.add_input(in, d, j, n * t_count + steps[at], dsums[static_cast<std::size_t>(j)]);
          sums.add_recurrent(d, j, before, dsums[static_cast<std::size_t>(j)]);
        }
        for (std::int64_t u = 0; u < h; ++u) {
          dh[static_cast<std::size_t>(u)] = through_r(r, d * 4 * h, 4 * h, u, dsums);
        }
      }
      for (std::int64_t u = 0; u < h; ++u) {
        dinitial_h[(n * d_count + d) * h + u] = dh[static_cast<std::size_t>(u)];
        dinitial_c[(n * d_count + d) * h + u] = dc[static_cast<std::size_t>(u)];
      }
    }
  }
  std::vector<Ref> out = {sums.dw, sums.dr, sums.dbias, dinitial_h, dinitial_c};
  if (std::get<bool>(attribute("lstm_backward", v, "input_gradient"))) out.push_back(sums.dx);
  return out;
}

std::vector<Ref> gru_backward_reference(const std::vector<Ref>& in, const Variant& v) {
  const bool linear = std::get<bool>(attribute("gru_backward", v, "linear_before_reset"));
  const Ref &r = in[2], &y = in[3], &gates = in[4];
  const std::int64_t count = y.shape[0], t_count = y.shape[1], d_count = y.shape[2], h = y.shape[3];
  const std::int64_t saved = linear ? 4 : 3;
  Gradients sums(in, 3);
  Ref dinitial_h = Ref::zeros({count, d_count, h});
  for (std::int64_t n = 0; n < count; ++n) {
    for (std::int64_t d = 0; d < d_count; ++d) {
      const auto steps = steps_of(length_of(in, v, 5, n, t_count), is_reverse("gru_backward", v, d));
      std::vector<double> dh = initial_state(in, v, 8, n * d_count + d, h);
      for (std::size_t at = steps.size(); at-- > 0;) {
        const std::int64_t row = (n * t_count + steps[at]) * d_count + d;
        const auto gate = [&](std::int64_t g, std::int64_t u) { return gates[(row * saved + g) * h + u]; };
        std::vector<double> dn, carry, old, taken, dzr(static_cast<std::size_t>(2 * h));
        for (std::int64_t u = 0; u < h; ++u) {
          old.push_back(state_before(in, v, y, 6, steps, at, n, d, u));
          taken.push_back(linear ? old.back() : gate(1, u) * old.back());
          const double dy = dh[static_cast<std::size_t>(u)] + (given(in, v, 7) ? in[7][row * h + u] : 0);
          const double z = gate(0, u), n_u = gate(2, u);
          dzr[static_cast<std::size_t>(u)] = dy * (old.back() - n_u) * z * (1 - z);
          dn.push_back(dy * (1 - z) * (1 - n_u * n_u));
          carry.push_back(dy * z);
        }
        // Gradient of the candidate's recurrent sum.
        std::vector<double> dproduct = dn;
        for (std::int64_t u = 0; linear && u < h; ++u) dproduct[static_cast<std::size_t>(u)] *= gate(1, u);
        for (std::int64_t u = 0; u < h; ++u) {
          const auto i = static_cast<std::size_t>(u);
          const double dtaken = through_r(r, (d * 3 + 2) * h, h, u, dproduct);
          const double dr = linear ? dn[i] * gate(3, u) : dtaken * old[i];
          dzr[static_cast<std::size_t>(h + u)] = dr * gate(1, u) * (1 - gate(1, u));
          carry[i] += linear ? dtaken : dtaken * gate(1, u);
          sums.add_input(in, d, 2 * h + u, n * t_count + steps[at], dn[i]);
          sums.add_recurrent(d, 2 * h + u, taken, dproduct[i]);
        }
        for (std::int64_t j = 0; j < 2 * h; ++j) {
          sums.add_input(in, d, j, n * t_count + steps[at], dzr[static_cast<std::size_t>(j)]);
          sums.add_recurrent(d, j, old, dzr[static_cast<std::size_t>(j)]);
        }
        for (std::int64_t u = 0; u < h; ++u) {
          dh[static_cast<std::size_t>(u)] = carry[static_cast<std::size_t>(u)] + through_r(r, d * 3 * h, 2 * h, u, dzr);
        }
      }
      for (std::int64_t u = 0; u < h; ++u) dinitial_h[(n * d_count + d) * h + u] = dh[static_cast<std::size_t>(u)];
    }
  }
  std::vector<Ref> out = {sums.dw, sums.dr, sums.dbias, dinitial_h};
  if (std::get<bool>(attribute("gru_backward", v, "input_gradient"))) out.push_back(sums.dx);
  return out;
}

CaseInput f32(Shape shape, Fill fill = {}) { return {{DType::f32, std::move(shape)}, std::move(fill)}; }
CaseInput absent() { return {{DType::f32, {}}, {}, true}; }
CaseInput lengths(std::int64_t n, std::vector<double> values) {
  return {{DType::i32, {n}}, {.kind = Fill::Kind::values, .values = std::move(values)}};
}
Fill weights(std::int64_t depth) { return {.b = 1 / std::sqrt(static_cast<double>(depth))}; }

// What a variant has beside x, w and r.
struct Options {
  bool bias = true;
  std::vector<double> lengths = {};
  bool initial = false;
  Attrs attrs = {};
  bool gradient = true;
  double tolerance = 2e-6;
};

Variant layer_variant(const std::string& name, std::int64_t gates, const Sizes& s, const Options& o) {
  Variant v{
      name,
      {f32({s.n, s.t, s.f}), f32({s.d, gates * s.h, s.f}, weights(s.f)), f32({s.d, gates * s.h, s.h}, weights(s.h))},
      o.attrs,
      o.gradient,
      o.tolerance};
  v.inputs.push_back(o.bias ? f32({s.d, 2 * gates * s.h}, {.b = 0.3}) : absent());
  v.inputs.push_back(o.lengths.empty() ? absent() : lengths(s.n, o.lengths));
  for (int i = 0; i < (gates == 4 ? 2 : 1); ++i) v.inputs.push_back(o.initial ? f32({s.n, s.d, s.h}) : absent());
  return v;
}

void add_layer_variants(OpCase& op_case, std::int64_t gates, const std::string& prefix, const Attrs& common) {
  const auto add = [&](const std::string& name, const Sizes& s, Options o) {
    o.attrs.insert(o.attrs.end(), common.begin(), common.end());
    op_case.variants.push_back(layer_variant(prefix + name, gates, s, o));
  };
  const Attrs reverse = {{"direction", std::string("reverse")}};
  const Attrs both = {{"direction", std::string("bidirectional")}};
  add("one", {1, 1, 1, 1, 1}, {});
  add("small", {2, 3, 4, 3, 1}, {});
  add("no_bias", {3, 2, 5, 4, 1}, {.bias = false});
  add("initial", {2, 3, 2, 5, 1}, {.initial = true});
  add("reverse", {2, 4, 3, 2, 1}, {.initial = true, .attrs = reverse});
  add("both", {2, 3, 3, 4, 2}, {.initial = true, .attrs = both});
  add("lengths", {4, 3, 2, 3, 1}, {.lengths = {3, 1, 0, 9}, .initial = true});
  add("lengths_reverse", {4, 3, 2, 3, 1}, {.lengths = {2, 1, -1, 3}, .initial = true, .attrs = reverse});
  add("lengths_both", {3, 4, 2, 3, 2}, {.lengths = {2, 4, 1}, .attrs = both});
  add("inference", {2, 3, 4, 3, 1}, {.attrs = {{"training", false}}, .gradient = false});
  add("wide", {5, 3, 33, 33, 1}, {.initial = true, .tolerance = 4e-6});
  add("odd", {3, 2, 7, 65, 2}, {.attrs = both, .gradient = false, .tolerance = 4e-6});
  add("parallel", {35, 9, 5, 17, 2}, {.lengths = {9, 5, 7}, .attrs = both, .gradient = false, .tolerance = 4e-6});
}

OpCase lstm_case() {
  OpCase result{.op = "lstm", .reference = lstm_reference, .variants = {}, .bf16_inputs = {0, 1, 2, 3, 5, 6}};
  add_layer_variants(result, 4, "", {});
  return result;
}

OpCase gru_case() {
  OpCase result{.op = "gru", .reference = gru_reference, .variants = {}, .bf16_inputs = {0, 1, 2, 3, 5}};
  add_layer_variants(result, 3, "", {});
  add_layer_variants(result, 3, "linear_", {{"linear_before_reset", true}});
  return result;
}

Variant backward_variant(const std::string& name, std::int64_t gates, std::int64_t saved, const Sizes& s,
                         const Options& o, bool dy) {
  const Fill unit{.kind = Fill::Kind::uniform, .a = 0, .b = 1};
  Variant v{
      name,
      {f32({s.n, s.t, s.f}), f32({s.d, gates * s.h, s.f}, weights(s.f)), f32({s.d, gates * s.h, s.h}, weights(s.h)),
       f32({s.n, s.t, s.d, s.h}), f32({s.n, s.t, s.d, saved * s.h}, unit)},
      o.attrs,
      false,
      o.tolerance};
  if (gates == 4) v.inputs.push_back(f32({s.n, s.t, s.d, s.h}));
  v.inputs.push_back(o.lengths.empty() ? absent() : lengths(s.n, o.lengths));
  for (int i = 0; i < (gates == 4 ? 2 : 1); ++i) v.inputs.push_back(o.initial ? f32({s.n, s.d, s.h}) : absent());
  v.inputs.push_back(dy ? f32({s.n, s.t, s.d, s.h}) : absent());
  for (int i = 0; i < (gates == 4 ? 2 : 1); ++i) v.inputs.push_back(!dy || o.initial ? f32({s.n, s.d, s.h}) : absent());
  return v;
}

void add_backward_variants(OpCase& op_case, std::int64_t gates, std::int64_t saved, const std::string& prefix,
                           const Attrs& common) {
  const auto add = [&](const std::string& name, const Sizes& s, Options o, bool dy = true) {
    o.attrs.insert(o.attrs.end(), common.begin(), common.end());
    op_case.variants.push_back(backward_variant(prefix + name, gates, saved, s, o, dy));
  };
  const Attrs reverse = {{"direction", std::string("reverse")}};
  const Attrs both = {{"direction", std::string("bidirectional")}};
  add("one", {1, 1, 1, 1, 1}, {});
  add("small", {2, 3, 4, 3, 1}, {});
  add("last_only", {2, 3, 5, 4, 1}, {}, false);
  add("weights_only", {2, 3, 2, 5, 1}, {.initial = true, .attrs = {{"input_gradient", false}}});
  add("reverse", {3, 4, 3, 2, 1}, {.lengths = {4, 2, 0}, .initial = true, .attrs = reverse});
  add("both", {3, 3, 50, 33, 2}, {.lengths = {1, 3, 2}, .initial = true, .attrs = both, .tolerance = 1e-5});
  add("many_units", {2, 2, 3, 131, 1}, {.tolerance = 1e-5});
  add("parallel", {35, 9, 5, 17, 2}, {.lengths = {9, 5, 7}, .attrs = both, .tolerance = 1e-5});
}

OpCase lstm_backward_case() {
  OpCase result{.op = "lstm_backward",
                .reference = lstm_backward_reference,
                .variants = {},
                .bf16_inputs = {0, 1, 2, 3, 4, 7, 8, 9, 10, 11}};
  add_backward_variants(result, 4, 4, "", {});
  return result;
}

OpCase gru_backward_case() {
  OpCase result{.op = "gru_backward",
                .reference = gru_backward_reference,
                .variants = {},
                .bf16_inputs = {0, 1, 2, 3, 4, 6, 7, 8}};
  add_backward_variants(result, 3, 3, "", {});
  add_backward_variants(result, 3, 4, "linear_", {{"linear_before_reset", true}});
  return result;
}

}  // namespace

std::vector<OpCase> recurrent_cases() { return {lstm_case(), lstm_backward_case(), gru_case(), gru_backward_case()}; }

}  // namespace trivet::testing
