// Batch normalization, layer normalization and softmax. Variances are taken around the mean, never as
// E[x^2] - mean^2, which cancels where the mean is large.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

// A tensor as rows of its last axis.
struct Matrix {
  std::int64_t rows = 1;
  std::int64_t columns = 1;

  explicit Matrix(const TensorDesc& t) {
    columns = t.shape[t.rank - 1];
    for (int i = 0; i < t.rank - 1; ++i) rows *= t.shape[i];
  }
  // Rows of a piece, whose sums over the rows are taken at a time in float32: small enough for the cache and for the
  // rounding, and enough of them that the partial sums are small beside the data.
  std::int64_t grain() const {
    const std::int64_t fitting = 16384 / columns;
    return fitting < 16 ? 16 : (fitting > 128 ? 128 : fitting);
  }
  std::int64_t pieces() const { return (rows + grain() - 1) / grain(); }
  std::int64_t work() const { return rows * columns; }
};

std::int64_t row_grain(std::int64_t columns) { return columns >= 4096 ? 1 : 4096 / (columns > 0 ? columns : 1); }

float* data_of(const View& v) { return static_cast<float*>(v.data); }

// Sums over `rows` rows of f(row, column), for each column. Four rows at a time, to touch the sums less often.
template <class F>
[[gnu::always_inline]] inline void column_sums(std::int64_t rows, std::int64_t columns, float* __restrict sums,
                                               const F& f) {
  for (std::int64_t c = 0; c < columns; ++c) sums[c] = 0;
  std::int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) sums[c] += (f(r, c) + f(r + 1, c)) + (f(r + 2, c) + f(r + 3, c));
  }
  for (; r < rows; ++r) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) sums[c] += f(r, c);
  }
}

// The same for f that gives a TwoSums.
template <class F>
[[gnu::always_inline]] inline void column_sums(std::int64_t rows, std::int64_t columns, float* __restrict first,
                                               float* __restrict second, const F& f) {
  for (std::int64_t c = 0; c < columns; ++c) first[c] = second[c] = 0;
  std::int64_t r = 0;
  for (; r + 2 <= rows; r += 2) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) {
      const TwoSums a = f(r, c);
      const TwoSums b = f(r + 1, c);
      first[c] += a.first + b.first;
      second[c] += a.second + b.second;
    }
  }
  if (r < rows) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) {
      const TwoSums a = f(r, c);
      first[c] += a.first;
      second[c] += a.second;
    }
  }
}

// Channels whose sums are combined at a time, in double.
constexpr std::int64_t kBlock = 64;

// Calls f(first channel, channels) for each block.
template <class F>
void for_each_block(std::int64_t columns, const F& f) {
  for (std::int64_t c = 0; c < columns; c += kBlock) f(c, columns - c < kBlock ? columns - c : kBlock);
}

// Adds the pieces' pairs of sums, (pieces, 2, columns), in order.
void combine_pairs(const float* partial, std::int64_t pieces, std::int64_t columns, float* first, float* second) {
  for_each_block(columns, [=](std::int64_t c, std::int64_t width) {
    double a[kBlock] = {};
    double b[kBlock] = {};
    for (std::int64_t p = 0; p < pieces; ++p) {
      const float* piece = partial + 2 * p * columns + c;
#pragma omp simd
      for (std::int64_t j = 0; j < width; ++j) {
        a[j] += static_cast<double>(piece[j]);
        b[j] += static_cast<double>(piece[columns + j]);
      }
    }
    for (std::int64_t j = 0; j < width; ++j) {
      first[c + j] = static_cast<float>(a[j]);
      second[c + j] = static_cast<float>(b[j]);
    }
  });
}

// ---- batch normalization ----

// y = (x - center) * scale + shift for each channel. In place.
void normalize_channels(const float* x, float* y, const Matrix& m, const float* center, const float* scale,
                        const float* shift, int threads) {
  parallel_pieces(m.rows, m.grain(), m.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* in = x + r * m.columns;
      float* out = y + r * m.columns;
#pragma omp simd
      for (std::int64_t c = 0; c < m.columns; ++c) out[c] = (in[c] - center[c]) * scale[c] + shift[c];
    }
  });
}

void batch_norm(const KernelArgs& args) {
  const View& x = args.in[0];
  const Matrix m(x);
  const float* gamma = data_of(args.in[1]);
  const float* beta = data_of(args.in[2]);
  const float* mean = data_of(args.in[3]);
  const float* var = data_of(args.in[4]);
  const float epsilon = static_cast<float>(args.attributes<BatchNormAttrs>().epsilon);
  float* scale = static_cast<float*>(args.workspace);
  for (std::int64_t c = 0; c < m.columns; ++c) scale[c] = gamma[c] / __builtin_sqrtf(var[c] + epsilon);
  normalize_channels(data_of(x), data_of(args.out[0]), m, mean, scale, beta, args.threads);
}

// Means and sums of squared distances from them, of a block of channels.
struct Moments {
  double mean[kBlock] = {};
  double squares[kBlock] = {};
};

// Writes (pieces, 3, columns): a mean of each piece, and the sums of d and d^2 with d = x - that mean. The sum of d
// holds what rounding took from the mean.
void piece_moments(const float* x, const Matrix& m, float* partial, int threads) {
  parallel_pieces(m.rows, m.grain(), m.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    const float* in = x + begin * m.columns;
    const std::int64_t rows = end - begin;
    const std::int64_t columns = m.columns;
    float* mean = partial + begin / m.grain() * 3 * columns;
    column_sums(rows, columns, mean, [=](std::int64_t r, std::int64_t c) { return in[r * columns + c]; });
    const float inverse = 1.0f / static_cast<float>(rows);
    for (std::int64_t c = 0; c < columns; ++c) mean[c] *= inverse;
    column_sums(rows, columns, mean + columns, mean + 2 * columns, [=](std::int64_t r, std::int64_t c) {
      const float d = in[r * columns + c] - mean[c];
      return TwoSums{d, d * d};
    });
  });
}

// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979), (2.1).
void combine_moments(const float* partial, const Matrix& m, std::int64_t first, std::int64_t width, Moments& all) {
  double n = 0;
  for (std::int64_t p = 0; p < m.pieces(); ++p) {
    const float* piece = partial + p * 3 * m.columns + first;
    const std::int64_t left = m.rows - p * m.grain();
    const double added = static_cast<double>(left < m.grain() ? left : m.grain());
    const double inverse = 1 / added;
    const double share = added / (n + added);
    const double weight = n * share;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) {
      const double sum = static_cast<double>(piece[m.columns + j]);
      const double squares = static_cast<double>(piece[2 * m.columns + j]) - sum * sum * inverse;
      const double delta = static_cast<double>(piece[j]) + sum * inverse - all.mean[j];
      all.mean[j] += delta * share;
      all.squares[j] += (squares < 0 ? 0 : squares) + delta * delta * weight;
    }
    n += added;
  }
}

void batch_norm_train(const KernelArgs& args) {
  const View& input = args.in[0];
  const Matrix m(input);
  const auto& attrs = args.attributes<BatchNormTrainAttrs>();
  const float* x = data_of(input);
  const float* gamma = data_of(args.in[1]);
  const float* beta = data_of(args.in[2]);
  const float* running_mean = data_of(args.in[3]);
  const float* running_var = data_of(args.in[4]);
  float* mean = data_of(args.out[1]);
  float* rstd = data_of(args.out[2]);
  float* new_mean = data_of(args.out[3]);
  float* new_var = data_of(args.out[4]);
  float* scale = static_cast<float*>(args.workspace);
  float* shift = scale + m.columns;
  float* partial = shift + m.columns;
  const double epsilon = attrs.epsilon;
  const double momentum = attrs.momentum;
  const double biased = 1 / static_cast<double>(m.rows);
  const double unbiased = 1 / static_cast<double>(m.rows - 1);

  piece_moments(x, m, partial, args.threads);
  for_each_block(m.columns, [&](std::int64_t first, std::int64_t width) {
    Moments all;
    combine_moments(partial, m, first, width, all);
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t c = first + j;
      const double precise_rstd = 1 / __builtin_sqrt(all.squares[j] * biased + epsilon);
      const double factor = precise_rstd * static_cast<double>(gamma[c]);
      const float rounded_mean = static_cast<float>(all.mean[j]);
      // What rounding took from the mean goes into the shift: at a mean of 1e4 it is half a thousandth.
      const double rest = all.mean[j] - static_cast<double>(rounded_mean);
      scale[c] = static_cast<float>(factor);
      shift[c] = static_cast<float>(static_cast<double>(beta[c]) - rest * factor);
      const double old_mean = static_cast<double>(running_mean[c]);
      const double old_var = static_cast<double>(running_var[c]);
      mean[c] = rounded_mean;
      rstd[c] = static_cast<float>(precise_rstd);
      new_mean[c] = static_cast<float>(old_mean + momentum * (all.mean[j] - old_mean));
      new_var[c] = static_cast<float>(old_var + momentum * (all.squares[j] * unbiased - old_var));
    }
  });
  normalize_channels(x, data_of(args.out[0]), m, mean, scale, shift, args.threads);
}

void batch_norm_backward(const KernelArgs& args) {
  const View& out_gradient = args.in[0];
  const Matrix m(out_gradient);
  const float* dy = data_of(out_gradient);
  const float* x = data_of(args.in[1]);
  const float* gamma = data_of(args.in[2]);
  const float* mean = data_of(args.in[3]);
  const float* rstd = data_of(args.in[4]);
  float* dx = data_of(args.out[0]);
  float* dgamma = data_of(args.out[1]);
  float* dbeta = data_of(args.out[2]);
  const std::int64_t columns = m.columns;
  float* of_dy = static_cast<float*>(args.workspace);
  float* of_x = of_dy + columns;
  float* shift = of_x + columns;
  float* partial = shift + columns;

  parallel_pieces(m.rows, m.grain(), m.work(), args.threads, [&](std::int64_t begin, std::int64_t end) {
    const float* g = dy + begin * columns;
    const float* in = x + begin * columns;
    float* sums = partial + begin / m.grain() * 2 * columns;
    column_sums(end - begin, columns, sums, sums + columns, [=](std::int64_t r, std::int64_t c) {
      const float d = g[r * columns + c];
      return TwoSums{d * ((in[r * columns + c] - mean[c]) * rstd[c]), d};
    });
  });
  combine_pairs(partial, m.pieces(), columns, dgamma, dbeta);

  // dx = gamma rstd (dy - dbeta / n - (x - mean) rstd dgamma / n)
  const float inverse = 1.0f / static_cast<float>(m.rows);
  for (std::int64_t c = 0; c < columns; ++c) {
    of_dy[c] = gamma[c] * rstd[c];
    of_x[c] = -of_dy[c] * rstd[c] * (dgamma[c] * inverse);
    shift[c] = -of_dy[c] * (dbeta[c] * inverse);
  }
  parallel_pieces(m.rows, m.grain(), m.work(), args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t row = r * columns;
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) {
        dx[row + c] = dy[row + c] * of_dy[c] + ((x[row + c] - mean[c]) * of_x[c] + shift[c]);
      }
    }
  });
}

// ---- layer normalization ----

void layer_norm(const KernelArgs& args) {
  const View& input = args.in[0];
  const Matrix m(input);
  const float* x = data_of(input);
  const float* gamma = data_of(args.in[1]);
  const float* beta = data_of(args.in[2]);
  float* y = data_of(args.out[0]);
  float* saved_mean = data_of(args.out[1]);
  float* saved_rstd = data_of(args.out[2]);
  const double epsilon = args.attributes<LayerNormAttrs>().epsilon;
  const std::int64_t n = m.columns;
  parallel_pieces(m.rows, row_grain(n), m.work(), args.threads, [&](std::int64_t begin, std::int64_t end) {
    const double inverse = 1.0 / static_cast<double>(n);
    for (std::int64_t r = begin; r < end; ++r) {
      const float* in = x + r * n;
      float* out = y + r * n;
      const float mean =
          static_cast<float>(static_cast<double>(row_sum(n, [=](std::int64_t i) { return in[i]; })) * inverse);
      const TwoSums sums = row_sums(n, [=](std::int64_t i) {
        const float d = in[i] - mean;
        return TwoSums{d, d * d};
      });
      // What rounding took from the mean: at a mean of 1e4 it is half a thousandth.
      const double rest = static_cast<double>(sums.first) * inverse;
      const double variance = static_cast<double>(sums.second) * inverse - rest * rest;
      const double precise_rstd = 1.0 / __builtin_sqrt((variance < 0 ? 0 : variance) + epsilon);
      const float rstd = static_cast<float>(precise_rstd);
      const float shift = static_cast<float>(-rest * precise_rstd);
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) out[i] = ((in[i] - mean) * rstd + shift) * gamma[i] + beta[i];
      saved_mean[r] = static_cast<float>(static_cast<double>(mean) + rest);
      saved_rstd[r] = rstd;
    }
  });
}

// One row; adds to dgamma and dbeta. dx may be dy or x.
void layer_norm_row_backward(const float* dy, const float* x, const float* gamma, float mean, float rstd,
                             std::int64_t n, float* dx, float* dgamma, float* dbeta) {
  const TwoSums sums = row_sums(n, [=](std::int64_t i) {
    const float g = dy[i] * gamma[i];
    return TwoSums{g, g * ((x[i] - mean) * rstd)};
  });
  const float average = sums.first / static_cast<float>(n);
  const float slope = sums.second / static_cast<float>(n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float d = dy[i];
    const float normal = (x[i] - mean) * rstd;
    dgamma[i] += d * normal;
    dbeta[i] += d;
    dx[i] = (d * gamma[i] - average - normal * slope) * rstd;
  }
}

void layer_norm_backward(const KernelArgs& args) {
  const View& out_gradient = args.in[0];
  const Matrix m(out_gradient);
  const float* dy = data_of(out_gradient);
  const float* x = data_of(args.in[1]);
  const float* gamma = data_of(args.in[2]);
  const float* mean = data_of(args.in[3]);
  const float* rstd = data_of(args.in[4]);
  float* dx = data_of(args.out[0]);
  const std::int64_t n = m.columns;
  float* partial = static_cast<float*>(args.workspace);
  parallel_pieces(m.rows, m.grain(), m.work(), args.threads, [&](std::int64_t begin, std::int64_t end) {
    float* dgamma = partial + begin / m.grain() * 2 * n;
    float* dbeta = dgamma + n;
    for (std::int64_t i = 0; i < 2 * n; ++i) dgamma[i] = 0;
    for (std::int64_t r = begin; r < end; ++r) {
      layer_norm_row_backward(dy + r * n, x + r * n, gamma, mean[r], rstd[r], n, dx + r * n, dgamma, dbeta);
    }
  });
  combine_pairs(partial, m.pieces(), n, data_of(args.out[1]), data_of(args.out[2]));
}

// ---- softmax ----

// What differs between softmax and its logarithm: the last step, and the gradient.
struct Plain {
  static constexpr bool kLog = false;
  static float term(float dy, float y) { return dy * y; }
  static float gradient(float dy, float y, float sum) { return y * (dy - sum); }
};

struct Log {
  static constexpr bool kLog = true;
  static float term(float dy, float) { return dy; }
  static float gradient(float dy, float y, float sum) { return dy - exp_f32(y) * sum; }
};

template <class Form>
void softmax_row(const float* x, float* y, std::int64_t n) {
  const float max = row_max(x, n);
  if constexpr (Form::kLog) {
    const float log_sum = log_f32(row_costly_sum(n, [=](std::int64_t i) { return exp_f32(x[i] - max); }));
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] - max) - log_sum;
  } else {
    const float scale = 1.0f / row_costly_sum(n, [=](std::int64_t i) { return y[i] = exp_f32(x[i] - max); });
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] *= scale;
  }
}

template <class Form>
void softmax_row_backward(const float* dy, const float* y, float* dx, std::int64_t n) {
  const float sum = row_sum(n, [=](std::int64_t i) { return Form::term(dy[i], y[i]); });
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = Form::gradient(dy[i], y[i], sum);
}

// Along an axis that is not the last: `lanes` neighbours at a time, whose elements along the axis are `stride` apart.
constexpr std::int64_t kLanes = 64;

template <class Form>
void softmax_lanes(const float* x, float* y, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
  float max[kLanes];
  float sum[kLanes];
  for (std::int64_t j = 0; j < lanes; ++j) {
    max[j] = -detail::kInfinity;
    sum[j] = 0;
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) max[j] = x[i * stride + j] > max[j] ? x[i * stride + j] : max[j];
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      const float centered = x[i * stride + j] - max[j];
      const float e = exp_f32(centered);
      sum[j] += e;
      y[i * stride + j] = Form::kLog ? centered : e;
    }
  }
#pragma omp simd
  for (std::int64_t j = 0; j < lanes; ++j) sum[j] = Form::kLog ? log_f32(sum[j]) : 1.0f / sum[j];
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      const float v = y[i * stride + j];
      y[i * stride + j] = Form::kLog ? v - sum[j] : v * sum[j];
    }
  }
}

template <class Form>
void softmax_lanes_backward(const float* dy, const float* y, float* dx, std::int64_t n, std::int64_t stride,
                            std::int64_t lanes) {
  float sum[kLanes];
  for (std::int64_t j = 0; j < lanes; ++j) sum[j] = 0;
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) sum[j] += Form::term(dy[i * stride + j], y[i * stride + j]);
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      dx[i * stride + j] = Form::gradient(dy[i * stride + j], y[i * stride + j], sum[j]);
    }
  }
}

// Calls row(offset, n) for each row along the last axis, or lanes(offset, n, stride, lanes) along another one.
template <class Row, class Lanes>
void along_axis(const TensorDesc& t, std::int64_t axis_attribute, int threads, const Row& row, const Lanes& lanes) {
  const int axis = static_cast<int>(axis_attribute < 0 ? t.rank + axis_attribute : axis_attribute);
  const std::int64_t n = t.shape[axis];
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int i = 0; i < axis; ++i) outer *= t.shape[i];
  for (int i = axis + 1; i < t.rank; ++i) inner *= t.shape[i];
  const std::int64_t work = outer * n * inner;
  if (inner == 1) {
    parallel_pieces(outer, row_grain(n), work, threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) row(r * n, n);
    });
    return;
  }
  const std::int64_t blocks = (inner + kLanes - 1) / kLanes;
  parallel_pieces(outer * blocks, 1, work, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = b % blocks * kLanes;
      lanes(b / blocks * n * inner + first, n, inner, inner - first < kLanes ? inner - first : kLanes);
    }
  });
}

template <class Form>
void softmax(const KernelArgs& args) {
  const View& in = args.in[0];
  const float* x = data_of(in);
  float* y = data_of(args.out[0]);
  along_axis(
      in, args.attributes<SoftmaxAttrs>().axis, args.threads,
      [=](std::int64_t offset, std::int64_t n) { softmax_row<Form>(x + offset, y + offset, n); },
      [=](std::int64_t offset, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
        softmax_lanes<Form>(x + offset, y + offset, n, stride, lanes);
      });
}

template <class Form>
void softmax_backward(const KernelArgs& args) {
  const View& out_gradient = args.in[0];
  const float* dy = data_of(out_gradient);
  const float* y = data_of(args.in[1]);
  float* dx = data_of(args.out[0]);
  along_axis(
      out_gradient, args.attributes<SoftmaxAttrs>().axis, args.threads,
      [=](std::int64_t offset, std::int64_t n) { softmax_row_backward<Form>(dy + offset, y + offset, dx + offset, n); },
      [=](std::int64_t offset, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
        softmax_lanes_backward<Form>(dy + offset, y + offset, dx + offset, n, stride, lanes);
      });
}

// ---- table ----

bool is_f32(const KernelSpec& spec) {
  for (std::size_t i = 0; i < spec.in.size(); ++i) {
    if (spec.in[i].dtype != DType::f32) return false;
  }
  return true;
}

// `vectors` of one float for each channel, and `sums` more for each piece.
template <int kVectors, int kSums>
std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  const Matrix m(spec.in[0]);
  return static_cast<std::size_t>((kVectors + kSums * m.pieces()) * m.columns) * sizeof(float);
}

constexpr KernelEntry kKernels[] = {
    {"batch_norm", is_f32, batch_norm, nullptr, workspace<1, 0>},
    {"batch_norm_train", is_f32, batch_norm_train, nullptr, workspace<2, 3>},
    {"batch_norm_backward", is_f32, batch_norm_backward, nullptr, workspace<3, 2>},
    {"layer_norm", is_f32, layer_norm},
    {"layer_norm_backward", is_f32, layer_norm_backward, nullptr, workspace<0, 2>},
    {"softmax", is_f32, softmax<Plain>},
    {"softmax_backward", is_f32, softmax_backward<Plain>},
    {"log_softmax", is_f32, softmax<Log>},
    {"log_softmax_backward", is_f32, softmax_backward<Log>},
};

}  // namespace

std::span<const KernelEntry> normalization_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
