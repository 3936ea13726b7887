// Softmax and its logarithm along any axis.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/registers.h"
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

// Exponentials of a row of up to this length wait for their sum in a buffer. Those of longer ones wait in y if they are
// not rounded there, and otherwise are computed twice.
constexpr std::int64_t kBuffer = 4096;
template <class T>
constexpr bool kKeepsTerms = sizeof(T) == sizeof(float);

// ---- short rows along the last axis ----

// Rows up to this length are taken kLanes at a time, one behind the other as they lie in memory, so that no lane idles.
constexpr std::int64_t kFlat = 32;

// The elements of kLanes rows, and which row each belongs to.
struct FlatRows {
  IntVector owner[kFlat];
  // A register more, because rows are read by whole registers.
  alignas(64) float a[(kFlat + 1) * kLanes];
  alignas(64) float b[(kFlat + 1) * kLanes];
  std::int64_t n;
  std::int64_t count;  // elements of all rows

  explicit FlatRows(std::int64_t columns) : n(columns), count(columns * kLanes) {
    std::int32_t rows[kFlat * kLanes];
    for (int r = 0; r < kLanes; ++r) {
      for (std::int64_t i = 0; i < n; ++i) rows[r * n + i] = r;
    }
    __builtin_memcpy(owner, rows, static_cast<std::size_t>(count) * sizeof(std::int32_t));
    for (std::int64_t i = 0; i < count + kLanes; ++i) a[i] = b[i] = 0.0f;
  }

  // What step makes of each row of `x`, row r in lane r.
  template <class T, class Step>
  [[gnu::always_inline]] Vector reduce(const T* x, float start, const Step& step) const {
    Vector totals[kLanes];
    fold_rows(totals, Vector{} + start, x, n, [=](int, Vector v, Vector next, std::int64_t) { return step(v, next); });
    return join_rows<kLanes>(totals, step);
  }
  template <class T>
  [[gnu::always_inline]] Vector largest_of(const T* x) const {
    return reduce(x, -detail::kInfinity, [](Vector v, Vector next) { return next > v ? next : v; });
  }
  [[gnu::always_inline]] Vector sum_of(const float* x) const {
    return reduce(x, 0.0f, [](Vector v, Vector next) { return v + next; });
  }

  // to[i] = f(elements i of x, the lane of `of_row` that belongs to them) for whole registers.
  template <class T, class F>
  [[gnu::always_inline]] void with_row(float* to, const T* x, Vector of_row, const F& f) const {
    for (std::int64_t v = 0; v < n; ++v) {
      const Vector y = f(load(x + v * kLanes), __builtin_shuffle(of_row, owner[v]));
      __builtin_memcpy(to + v * kLanes, &y, sizeof(y));
    }
  }

  // Writes the first `rows` rows of `from`.
  template <class T>
  [[gnu::always_inline]] void write(T* y, const float* from, std::int64_t rows) const {
#pragma omp simd
    for (std::int64_t i = 0; i < rows * n; ++i) y[i] = from_f32<T>(from[i]);
  }
};

template <class Form, class T>
void softmax_flat_rows(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  FlatRows flat(n);
  T copy[(kFlat + 1) * kLanes];
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    const std::int64_t group = rows - r < kLanes ? rows - r : kLanes;
    const T* from = x + r * n;
    if ((rows - r - kLanes) * n < kLanes) {  // a register more would lie behind the end
      __builtin_memset(copy, 0, static_cast<std::size_t>(flat.count + kLanes) * sizeof(T));
      __builtin_memcpy(copy, from, static_cast<std::size_t>(group * n) * sizeof(T));
      from = copy;
    }
    flat.with_row(flat.a, from, flat.largest_of(from), [](Vector v, Vector max) { return v - max; });
#pragma omp simd
    for (std::int64_t i = 0; i < flat.count; ++i) flat.b[i] = exp_nonpositive(flat.a[i]);
    const Vector sum = flat.sum_of(flat.b);
    if constexpr (Form::kLog) {
      float logs[kLanes];
#pragma omp simd
      for (int i = 0; i < kLanes; ++i) logs[i] = log_f32(sum[i]);
      flat.with_row(flat.b, flat.a, load(logs), [](Vector v, Vector log) { return v - log; });
    } else {
      flat.with_row(flat.b, flat.b, 1.0f / sum, [](Vector e, Vector scale) { return e * scale; });
    }
    flat.write(y + r * n, flat.b, group);
  }
}

template <class Form, class T>
void softmax_flat_rows_backward(const T* dy, const T* y, T* dx, std::int64_t rows, std::int64_t n) {
  FlatRows flat(n);
  for (std::int64_t r = 0; r < rows; r += kLanes) {
    const std::int64_t group = rows - r < kLanes ? rows - r : kLanes;
    const T* const g = dy + r * n;
    const T* const result = y + r * n;
#pragma omp simd
    for (std::int64_t i = 0; i < group * n; ++i) flat.b[i] = Form::term(to_f32(g[i]), to_f32(result[i]));
    // Rows that the group lacks are summed up, too, and not written.
    const Vector sum = flat.sum_of(flat.b);
    flat.with_row(flat.a, flat.b, sum, [](Vector, Vector of_row) { return of_row; });
#pragma omp simd
    for (std::int64_t i = 0; i < group * n; ++i) {
      flat.b[i] = Form::gradient(to_f32(g[i]), to_f32(result[i]), flat.a[i]);
    }
    flat.write(dx + r * n, flat.b, group);
  }
}

// ---- longer rows along the last axis ----

// How long rows of a tensor are read and written.
struct Traffic {
  std::int64_t ahead = 0;  // bytes from a row to the next, which is read while exponentials are computed
  bool past = false;       // written past the caches

  Traffic(const View& in, const View& out, std::int64_t n) {
    const std::int64_t bytes = n * static_cast<std::int64_t>(dtype_size(in.dtype));
    ahead = next_row_ahead(in, bytes);
    past = n <= kBuffer && writes_rows_past(out, in.data, bytes);
  }
};

template <class Form, class T>
void softmax_row(const T* x, T* y, std::int64_t n, const Traffic& traffic) {
  const float max = largest(x, n);
  const auto exponential = [=](std::int64_t i) { return exp_nonpositive(to_f32(x[i]) - max); };
  if constexpr (Form::kLog) {
    const float log_sum = log_f32(exponential_sum(x, n, traffic.ahead, exponential));
    write_piece(y, 0, n, traffic.past, [=](T* to, std::int64_t first, std::int64_t count) {
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) to[i] = from_f32<T>((to_f32(x[first + i]) - max) - log_sum);
    });
  } else if (n <= kBuffer) {
    alignas(64) float terms[kBuffer];
    const float scale =
        1.0f / exponential_sum(x, n, traffic.ahead, [&](std::int64_t i) { return terms[i] = exponential(i); });
    write_piece(y, 0, n, traffic.past, [&](T* to, std::int64_t first, std::int64_t count) {
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) to[i] = from_f32<T>(terms[first + i] * scale);
    });
  } else if constexpr (kKeepsTerms<T>) {
    const float scale =
        1.0f / exponential_sum(x, n, traffic.ahead, [=](std::int64_t i) { return y[i] = exponential(i); });
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] *= scale;
  } else {
    const float scale = 1.0f / exponential_sum(x, n, traffic.ahead, exponential);
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) y[i] = from_f32<T>(exponential(i) * scale);
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
void softmax_rows(const T* x, T* y, std::int64_t rows, std::int64_t n, const Traffic& traffic) {
  if (n <= kFlat) return softmax_flat_rows<Form>(x, y, rows, n);
  with_row_length(n, [&](auto length) {
    for (std::int64_t r = 0; r < rows; ++r) {
      if constexpr (decltype(length)::value == 0) {
        softmax_row<Form>(x + r * n, y + r * n, n, traffic);
      } else {
        softmax_short_row<Form, decltype(length)::value>(x + r * n, y + r * n, n);
      }
    }
    if constexpr (decltype(length)::value == 0) finish_writes_past(traffic.past);
  });
}

template <class Form, class T>
void softmax_row_backward(const T* dy, const T* y, T* dx, std::int64_t n, const Traffic& traffic) {
  const float sum = row_sum(n, [=](std::int64_t i) { return Form::term(to_f32(dy[i]), to_f32(y[i])); });
  for (std::int64_t begin = 0; begin < n; begin += kAheadBlock) {
    const std::int64_t end = n - begin < kAheadBlock ? n : begin + kAheadBlock;
    if (traffic.ahead != 0) {
      const std::int64_t bytes = (end - begin) * static_cast<std::int64_t>(sizeof(T));
      read_ahead(dy + begin, traffic.ahead, bytes);
      read_ahead(y + begin, traffic.ahead, bytes);
    }
    write_piece(dx, begin, end, traffic.past, [=](T* to, std::int64_t first, std::int64_t count) {
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) {
        to[i] = from_f32<T>(Form::gradient(to_f32(dy[first + i]), to_f32(y[first + i]), sum));
      }
    });
  }
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
void softmax_rows_backward(const T* dy, const T* y, T* dx, std::int64_t rows, std::int64_t n, const Traffic& traffic) {
  if (n <= kFlat) return softmax_flat_rows_backward<Form>(dy, y, dx, rows, n);
  with_row_length(n, [&](auto length) {
    for (std::int64_t r = 0; r < rows; ++r) {
      if constexpr (decltype(length)::value == 0) {
        softmax_row_backward<Form>(dy + r * n, y + r * n, dx + r * n, n, traffic);
      } else {
        softmax_short_row_backward<Form, decltype(length)::value>(dy + r * n, y + r * n, dx + r * n, n);
      }
    }
    if constexpr (decltype(length)::value == 0) finish_writes_past(traffic.past);
  });
}

// ---- along another axis ----

// `lanes` neighbours at a time, whose elements along the axis are `stride` apart.
constexpr std::int64_t kAcross = 64;

template <class Form, class T>
void softmax_lanes(const T* x, T* y, std::int64_t n, std::int64_t stride, std::int64_t lanes) {
  float max[kAcross];
  float sum[kAcross];
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
  float sum[kAcross];
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
  if (work == 0) return;
  if (inner == 1) {
    // Of short rows as many as are taken together.
    const std::int64_t grain = (softmax_row_grain(n) + kLanes - 1) / kLanes * kLanes;
    parallel_pieces(outer, n <= kFlat ? grain : softmax_row_grain(n), work, threads,
                    [&](std::int64_t begin, std::int64_t end) { rows(begin * n, end - begin, n); });
    return;
  }
  const std::int64_t blocks = (inner + kAcross - 1) / kAcross;
  parallel_pieces(outer * blocks, 1, work, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = b % blocks * kAcross;
      lanes(b / blocks * n * inner + first, n, inner, inner - first < kAcross ? inner - first : kAcross);
    }
  });
}

template <class Form>
void softmax(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const View& in = args.in[0];
    const View& out = args.out[0];
    const T* x = in.as<const T>();
    T* y = out.as<T>();
    along_axis(
        in, args.attributes<SoftmaxAttrs>().axis, args.threads,
        [=, &in, &out](std::int64_t offset, std::int64_t rows, std::int64_t n) {
          softmax_rows<Form>(x + offset, y + offset, rows, n, Traffic(in, out, n));
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
    const View& in = args.in[0];
    const View& out = args.out[0];
    const T* dy = in.as<const T>();
    const T* y = args.in[1].as<const T>();
    T* dx = out.as<T>();
    along_axis(
        in, args.attributes<SoftmaxAttrs>().axis, args.threads,
        [=, &in, &out](std::int64_t offset, std::int64_t rows, std::int64_t n) {
          Traffic traffic(in, out, n);
          traffic.past = traffic.past && y != dx;
          softmax_rows_backward<Form>(dy + offset, y + offset, dx + offset, rows, n, traffic);
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
