// Softmax and its logarithm along any axis.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/softmax_rows.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

// What differs between softmax and its logarithm: the last step, and the gradient.
struct Plain {
  static constexpr bool kLog = false;
  [[gnu::always_inline]] static float term(float dy, float y) { return dy * y; }
  [[gnu::always_inline]] static float gradient(float dy, float y, float sum) { return y * (dy - sum); }
};

struct Log {
  static constexpr bool kLog = true;
  [[gnu::always_inline]] static float term(float dy, float) { return dy; }
  [[gnu::always_inline]] static float gradient(float dy, float y, float sum) { return dy - exp_nonpositive(y) * sum; }
};

// Exponentials can wait in y for their sum if they are not rounded there.
template <class T>
constexpr bool kKeepsTerms = sizeof(T) == sizeof(float);

// Otherwise those of a row of up to this length wait in a buffer, and those of longer ones are computed twice.
constexpr std::int64_t kBuffer = 4096;

// ---- along the last axis ----

template <class Form, class T>
void softmax_row(const T* x, T* y, std::int64_t n) {
  const float max = largest(x, n);
  if constexpr (Form::kLog) {
    const float log_sum =
        log_f32(row_costly_sum(n, [=](std::int64_t i) { return exp_nonpositive(to_f32(x[i]) - max); }));
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = from_f32<T>((to_f32(x[i]) - max) - log_sum);
  } else if (kKeepsTerms<T> || n <= kBuffer) {
    float buffer[kKeepsTerms<T> ? 1 : kBuffer];
    float* terms = buffer;
    if constexpr (kKeepsTerms<T>) terms = y;
    const float scale =
        1.0f / row_costly_sum(n, [=](std::int64_t i) { return terms[i] = exp_nonpositive(to_f32(x[i]) - max); });
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = from_f32<T>(terms[i] * scale);
  } else {
    const float scale = 1.0f / row_costly_sum(n, [=](std::int64_t i) { return exp_nonpositive(to_f32(x[i]) - max); });
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = from_f32<T>(exp_nonpositive(to_f32(x[i]) - max) * scale);
  }
}

template <class Form, int kLength, class T>
[[gnu::always_inline]] inline void softmax_short_row(const T* x, T* y, std::int64_t n) {
  PaddedRow<kLength> row(x, n, -detail::kInfinity);
  const float max = row.max();
  if constexpr (Form::kLog) {
    PaddedRow<kLength> terms = row;
    const float shift = log_f32(terms.map([=](float v) { return exp_nonpositive(v - max); }));
    row.map([=](float v) { return (v - max) - shift; });
  } else {
    const float scale = 1.0f / row.map([=](float v) { return exp_nonpositive(v - max); });
    row.map([=](float v) { return v * scale; });
  }
  row.store(y, n);
}

template <class Form, class T>
void softmax_rows(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  with_row_length(n, [=](auto length) {
    for (std::int64_t r = 0; r < rows; ++r) {
      if constexpr (decltype(length)::value == 0) {
        softmax_row<Form>(x + r * n, y + r * n, n);
      } else {
        softmax_short_row<Form, decltype(length)::value>(x + r * n, y + r * n, n);
      }
    }
  });
}

template <class Form, class T>
void softmax_row_backward(const T* dy, const T* y, T* dx, std::int64_t n) {
  const float sum = row_sum(n, [=](std::int64_t i) { return Form::term(to_f32(dy[i]), to_f32(y[i])); });
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = from_f32<T>(Form::gradient(to_f32(dy[i]), to_f32(y[i]), sum));
}

template <class Form, int kLength, class T>
[[gnu::always_inline]] inline void softmax_short_row_backward(const T* dy, const T* y, T* dx, std::int64_t n) {
  PaddedRow<kLength> gradient(dy, n, 0.0f);
  const PaddedRow<kLength> result(y, n, 0.0f);
  const float sum = gradient.sum(result, [](float g, float v) { return Form::term(g, v); });
  gradient.combine(result, [=](float g, float v) { return Form::gradient(g, v, sum); });
  gradient.store(dx, n);
}

template <class Form, class T>
void softmax_rows_backward(const T* dy, const T* y, T* dx, std::int64_t rows, std::int64_t n) {
  with_row_length(n, [=](auto length) {
    for (std::int64_t r = 0; r < rows; ++r) {
      if constexpr (decltype(length)::value == 0) {
        softmax_row_backward<Form>(dy + r * n, y + r * n, dx + r * n, n);
      } else {
        softmax_short_row_backward<Form, decltype(length)::value>(dy + r * n, y + r * n, dx + r * n, n);
      }
    }
  });
}

// ---- along another axis ----

// `lanes` neighbours at a time, whose elements along the axis are `stride` apart.
constexpr std::int64_t kLanes = 64;

template <class Form, class T>
void softmax_lanes(const T* x, T* y, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
  float max[kLanes];
  float sum[kLanes];
  for (std::int64_t j = 0; j < lanes; ++j) {
    max[j] = -detail::kInfinity;
    sum[j] = 0;
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      const float v = to_f32(x[i * stride + j]);
      max[j] = v > max[j] ? v : max[j];
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      const float e = exp_nonpositive(to_f32(x[i * stride + j]) - max[j]);
      sum[j] += e;
      if constexpr (kKeepsTerms<T> && !Form::kLog) y[i * stride + j] = e;
    }
  }
#pragma omp simd
  for (std::int64_t j = 0; j < lanes; ++j) sum[j] = Form::kLog ? log_f32(sum[j]) : 1.0f / sum[j];
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      const std::int64_t at = i * stride + j;
      if constexpr (Form::kLog) {
        y[at] = from_f32<T>((to_f32(x[at]) - max[j]) - sum[j]);
      } else if constexpr (kKeepsTerms<T>) {
        y[at] *= sum[j];
      } else {
        y[at] = from_f32<T>(exp_nonpositive(to_f32(x[at]) - max[j]) * sum[j]);
      }
    }
  }
}

template <class Form, class T>
void softmax_lanes_backward(const T* dy, const T* y, T* dx, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
  float sum[kLanes];
  for (std::int64_t j = 0; j < lanes; ++j) sum[j] = 0;
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      sum[j] += Form::term(to_f32(dy[i * stride + j]), to_f32(y[i * stride + j]));
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      const std::int64_t at = i * stride + j;
      dx[at] = from_f32<T>(Form::gradient(to_f32(dy[at]), to_f32(y[at]), sum[j]));
    }
  }
}

// ---- ops ----

// Calls rows(offset, rows, n) for rows along the last axis, or lanes(offset, n, stride, lanes) along another one.
template <class Rows, class Lanes>
void along_axis(const TensorDesc& t, std::int64_t axis_attribute, int threads, const Rows& rows, const Lanes& lanes) {
  const int axis = static_cast<int>(axis_attribute < 0 ? t.rank + axis_attribute : axis_attribute);
  const std::int64_t n = t.shape[axis];
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int i = 0; i < axis; ++i) outer *= t.shape[i];
  for (int i = axis + 1; i < t.rank; ++i) inner *= t.shape[i];
  const std::int64_t work = outer * n * inner;
  if (inner == 1) {
    parallel_pieces(outer, softmax_row_grain(n), work, threads,
                    [&](std::int64_t begin, std::int64_t end) { rows(begin * n, end - begin, n); });
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
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = args.in[0].as<const T>();
    T* y = args.out[0].as<T>();
    along_axis(
        args.in[0], args.attributes<SoftmaxAttrs>().axis, args.threads,
        [=](std::int64_t offset, std::int64_t rows, std::int64_t n) {
          softmax_rows<Form>(x + offset, y + offset, rows, n);
        },
        [=](std::int64_t offset, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
          softmax_lanes<Form>(x + offset, y + offset, n, stride, lanes);
        });
  });
}

template <class Form>
void softmax_backward(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* dy = args.in[0].as<const T>();
    const T* y = args.in[1].as<const T>();
    T* dx = args.out[0].as<T>();
    along_axis(
        args.in[0], args.attributes<SoftmaxAttrs>().axis, args.threads,
        [=](std::int64_t offset, std::int64_t rows, std::int64_t n) {
          softmax_rows_backward<Form>(dy + offset, y + offset, dx + offset, rows, n);
        },
        [=](std::int64_t offset, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
          softmax_lanes_backward<Form>(dy + offset, y + offset, dx + offset, n, stride, lanes);
        });
  });
}

bool is_supported(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kKernels[] = {
    {"softmax", is_supported, softmax<Plain>},
    {"softmax_backward", is_supported, softmax_backward<Plain>},
    {"log_softmax", is_supported, softmax<Log>},
    {"log_softmax_backward", is_supported, softmax_backward<Log>},
};

}  // namespace

std::span<const KernelEntry> softmax_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
