// Layer and RMS normalization. Several rows are worked on together, so that their square roots and divisions, which
// take longer than all else in a narrow row, are done side by side.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/channels.h"
#include "kernels/cpu/vector/lanes.h"
#include "kernels/cpu/vector/stream.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

// Rows that are worked on together, at most.
constexpr std::int64_t kRows = 32;

struct Matrix {
  std::int64_t rows = 1;
  std::int64_t columns = 1;

  Matrix(const TensorDesc& t, std::int64_t axis_attribute) {
    const std::int64_t axis = axis_attribute < 0 ? t.rank + axis_attribute : axis_attribute;
    for (int i = 0; i < t.rank; ++i) (i < axis ? rows : columns) *= t.shape[i];
  }
  std::int64_t work() const { return rows * columns; }
  // Rows that fit the first cache.
  std::int64_t block(std::int64_t least) const {
    const std::int64_t fitting = 4096 / columns;
    return fitting < least ? least : (fitting > kRows ? kRows : fitting);
  }
  // Rows of a piece, whose sums over the rows are taken in float32: small enough for the cache and for the rounding.
  std::int64_t grain() const {
    const std::int64_t fitting = 16384 / columns;
    return fitting < 16 ? 16 : (fitting > 512 ? 512 : fitting);
  }
  std::int64_t pieces() const { return (rows + grain() - 1) / grain(); }
};

float* data_of(const View& v) { return static_cast<float*>(v.data); }

// ---- forward ----

struct RowStatistics {
  float mean[kRows];
  float rstd[kRows];
  float shift[kRows];       // what rounding took from the mean, times -rstd: at a mean of 1e4 it is half a thousandth
  float saved_mean[kRows];  // the mean with it
};

// Of the distances from the rounded mean, and their squares; without centering, of nothing and the squares of x.
template <bool kCentered, class T>
TwoSums row_moments(const T* x, std::int64_t n, float inverse, float& mean) {
  const auto moments_around = [=](float center) {
    return lane_sums(n, [=](auto lanes, std::int64_t i) {
      const auto d = lanes.load(x + i) - center;
      return Pair{d, d * d};
    });
  };
  mean = 0;
  if constexpr (kCentered) {
    mean = row_sum(n, [=](std::int64_t i) { return to_f32(x[i]); }) * inverse;
    return moments_around(mean);
  } else {
    return {0, row_sum(n, [=](std::int64_t i) { return to_f32(x[i]) * to_f32(x[i]); })};
  }
}

template <bool kCentered, class T>
void find_statistics(const T* x, std::int64_t rows, std::int64_t n, double epsilon, RowStatistics& s) {
  float sums[kRows];
  float squares[kRows];
  for (std::int64_t r = 0; r < rows; ++r) {
    const TwoSums moments = row_moments<kCentered>(x + r * n, n, 1.0f / static_cast<float>(n), s.mean[r]);
    sums[r] = moments.first;
    squares[r] = moments.second;
  }
  const double inverse = 1.0 / static_cast<double>(n);
#pragma omp simd
  for (std::int64_t r = 0; r < rows; ++r) {
    const double lost = static_cast<double>(sums[r]) * inverse;
    const double variance = static_cast<double>(squares[r]) * inverse - lost * lost;
    const double rstd = 1.0 / __builtin_sqrt((variance < 0 ? 0 : variance) + epsilon);
    s.rstd[r] = static_cast<float>(rstd);
    s.shift[r] = static_cast<float>(-lost * rstd);
    s.saved_mean[r] = static_cast<float>(static_cast<double>(s.mean[r]) + lost);
  }
}

// How the rows of a tensor are read and written. Rows shorter than this are best left to the processor.
constexpr std::int64_t kLeastPlanned = 256;

struct Traffic {
  bool ahead;
  bool past;

  Traffic(const View& in, const View& out, const Matrix& m)
      : ahead(m.columns >= kLeastPlanned && next_row_ahead(in, row_bytes(in, m)) != 0),
        past(m.columns >= kLeastPlanned && writes_rows_past(out, in.data, row_bytes(out, m))) {}

 private:
  static std::int64_t row_bytes(const View& tensor, const Matrix& m) {
    return m.columns * static_cast<std::int64_t>(dtype_size(tensor.dtype));
  }
};

template <class T>
struct ForwardRows {
  const T* x;
  const float* gamma;
  const float* beta;  // may be null
  T* y;               // may be x
  float* mean;        // null without centering
  float* rstd;
  std::int64_t n;
};

template <bool kCentered, bool kBias, class T>
[[gnu::always_inline]] inline void normalize_part(const ForwardRows<T>& f, const RowStatistics& s, std::int64_t r,
                                                  std::int64_t first, std::int64_t count, T* to) {
  const T* const in = f.x + r * f.n + first;
  const float* __restrict const gamma = f.gamma + first;
  const float* __restrict const beta = kBias ? f.beta + first : nullptr;
  const float center = s.mean[r];
  const float scale = s.rstd[r];
  const float shift = s.shift[r];
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    float v = to_f32(in[i]);
    v = kCentered ? ((v - center) * scale + shift) * gamma[i] : v * scale * gamma[i];
    if constexpr (kBias) v += beta[i];
    to[i] = from_f32<T>(v);
  }
}

template <bool kCentered, bool kBias, class T>
void normalize_rows(const ForwardRows<T>& f, std::int64_t rows, double epsilon, const Traffic& traffic) {
  RowStatistics s;
  find_statistics<kCentered>(f.x, rows, f.n, epsilon, s);
  const auto bytes = f.n * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t r = 0; r < rows; ++r) {
    // The next rows are read while these are written.
    if (traffic.ahead) read_ahead(f.x + r * f.n, rows * bytes, bytes);
    if (traffic.past) {
      write_piece(f.y + r * f.n, 0, f.n, true, [&](T* to, std::int64_t first, std::int64_t count) {
        normalize_part<kCentered, kBias>(f, s, r, first, count, to);
      });
    } else {
      normalize_part<kCentered, kBias>(f, s, r, 0, f.n, f.y + r * f.n);
    }
    if constexpr (kCentered) f.mean[r] = s.saved_mean[r];
    f.rstd[r] = s.rstd[r];
  }
  finish_writes_past(traffic.past);
}

template <bool kCentered>
void run_forward(const KernelArgs& args) {
  const auto& attrs = args.attributes<LayerNormAttrs>();
  const Matrix m(args.in[0], attrs.axis);
  const Traffic traffic(args.in[0], args.out[0], m);
  const float* gamma = data_of(args.in[1]);
  const float* beta = args.in.size() > 2 ? data_of(args.in[2]) : nullptr;
  float* mean = kCentered ? data_of(args.out[1]) : nullptr;
  float* rstd = data_of(args.out[kCentered ? 2 : 1]);
  const std::int64_t n = m.columns;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = args.in[0].as<const T>();
    T* y = args.out[0].as<T>();
    parallel_pieces(m.rows, m.block(1), m.work(), args.threads, [&](std::int64_t begin, std::int64_t end) {
      float* const means = kCentered ? mean + begin : nullptr;
      const ForwardRows<T> rows{x + begin * n, gamma, beta, y + begin * n, means, rstd + begin, n};
      const auto normalize = beta != nullptr ? normalize_rows<kCentered, true, T> : normalize_rows<kCentered, false, T>;
      normalize(rows, end - begin, attrs.epsilon, traffic);
    });
  });
}

// ---- backward ----

// One block of rows of the backward ops.
template <class T>
struct BackwardRows {
  const T* dy;
  const T* x;
  const float* gamma;
  const float* mean;  // null without centering
  const float* rstd;
  T* dx;  // may be dy or x
  float* dgamma;
  float* dbeta;
  std::int64_t n;
};

// Columns [first, first + count) of kCount rows together, from row r on; adds to dgamma and dbeta. With g = gamma dy
// and z = (x - mean) rstd, dx = rstd (g - average(g) - z average(g z)); without centering there is no average(g). Rows
// of dx are `distance` apart.
template <bool kCentered, int kCount, class T>
[[gnu::always_inline]] inline void write_gradients(const BackwardRows<T>& b, std::int64_t r, std::int64_t first,
                                                   std::int64_t count, const float* average, const float* slope, T* dx,
                                                   std::int64_t distance) {
  const float* __restrict gamma = b.gamma + first;
  float* __restrict dgamma = b.dgamma + first;
  float* __restrict dbeta = b.dbeta + first;
  const std::int64_t n = b.n;
  const T* dy = b.dy + r * n + first;
  const T* x = b.x + r * n + first;
  float mean[kCount];
  float rstd[kCount];
  for (int k = 0; k < kCount; ++k) {
    mean[k] = kCentered ? b.mean[r + k] : 0.0f;
    rstd[k] = b.rstd[r + k];
  }
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    float products = 0;
    float sums = 0;
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k) {
      const float d = to_f32(dy[k * n + i]);
      const float z = (to_f32(x[k * n + i]) - mean[k]) * rstd[k];
      products += d * z;
      sums += d;
      const float centered = kCentered ? d * gamma[i] - average[k] : d * gamma[i];
      dx[k * distance + i] = from_f32<T>((centered - z * slope[k]) * rstd[k]);
    }
    dgamma[i] += products;
    if constexpr (kCentered) dbeta[i] += sums;
  }
}

// The same for whole rows. If so planned, what lies `ahead` bytes behind is read meanwhile.
template <bool kCentered, int kCount, class T>
[[gnu::always_inline]] inline void write_rows(const BackwardRows<T>& b, std::int64_t r, const float* average,
                                              const float* slope, const Traffic& traffic, std::int64_t ahead) {
  const std::int64_t n = b.n;
  if (!traffic.ahead) {
    return write_gradients<kCentered, kCount>(b, r, 0, n, average, slope, b.dx + r * n, n);
  }
  alignas(64) T block[kCount * kPastBlock];
  for (std::int64_t first = 0; first < n; first += kPastBlock) {
    const std::int64_t count = n - first < kPastBlock ? n - first : kPastBlock;
    for (std::int64_t k = r; k < r + kCount; ++k) {
      read_ahead(b.dy + k * n + first, ahead, count * static_cast<std::int64_t>(sizeof(T)));
      read_ahead(b.x + k * n + first, ahead, count * static_cast<std::int64_t>(sizeof(T)));
    }
    T* const dx = b.dx + r * n + first;
    if (!traffic.past) {
      write_gradients<kCentered, kCount>(b, r, first, count, average, slope, dx, n);
      continue;
    }
    write_gradients<kCentered, kCount>(b, r, first, count, average, slope, block, kPastBlock);
    for (std::int64_t k = 0; k < kCount; ++k) write_past(dx + k * n, block + k * kPastBlock, count);
  }
}

template <bool kCentered, class T>
void rows_backward(const BackwardRows<T>& b, std::int64_t rows, const Traffic& traffic) {
  const std::int64_t n = b.n;
  const float* __restrict gamma = b.gamma;
  float average[kRows];
  float slope[kRows];
  const float inverse = 1.0f / static_cast<float>(n);
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* dy = b.dy + r * n;
    const T* x = b.x + r * n;
    const float mean = kCentered ? b.mean[r] : 0.0f;
    const TwoSums sums = lane_sums(n, [=](auto lanes, std::int64_t i) {
      const auto g = lanes.load(dy + i) * lanes.load(gamma + i);
      return Pair{g, g * (lanes.load(x + i) - mean)};
    });
    average[r] = sums.first * inverse;
    slope[r] = sums.second * b.rstd[r] * inverse;
  }
  std::int64_t r = 0;
  const std::int64_t ahead = rows * n * static_cast<std::int64_t>(sizeof(T));  // the next rows
  for (; r + 4 <= rows; r += 4) write_rows<kCentered, 4>(b, r, average + r, slope + r, traffic, ahead);
  for (; r < rows; ++r) write_rows<kCentered, 1>(b, r, average + r, slope + r, traffic, ahead);
  finish_writes_past(traffic.past);
}

// (dy, x, gamma, mean, rstd) -> (dx, dgamma, dbeta), or without centering (dy, x, gamma, rstd) -> (dx, dgamma).
template <bool kCentered>
void run_backward(const KernelArgs& args) {
  const Matrix m(args.in[0], args.attributes<LayerNormBackwardAttrs>().axis);
  const std::int64_t n = m.columns;
  const float* gamma = data_of(args.in[2]);
  const float* mean = kCentered ? data_of(args.in[3]) : nullptr;
  const float* rstd = data_of(args.in[kCentered ? 4 : 3]);
  float* partial = static_cast<float*>(args.workspace);  // (pieces, 2, columns)
  Traffic traffic(args.in[0], args.out[0], m);
  traffic.past = traffic.past && args.out[0].data != args.in[1].data;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* dy = args.in[0].as<const T>();
    const T* x = args.in[1].as<const T>();
    T* dx = args.out[0].as<T>();
    parallel_pieces(m.rows, m.grain(), m.work(), args.threads, [&](std::int64_t begin, std::int64_t end) {
      float* dgamma = partial + begin / m.grain() * 2 * n;
      for (std::int64_t i = 0; i < 2 * n; ++i) dgamma[i] = 0;
      const std::int64_t block = m.block(4);
      for (std::int64_t r = begin; r < end; r += block) {
        const BackwardRows<T> rows{dy + r * n, x + r * n,  gamma, kCentered ? mean + r : nullptr, rstd + r, dx + r * n,
                                   dgamma,     dgamma + n, n};
        rows_backward<kCentered>(rows, end - r < block ? end - r : block, traffic);
      }
    });
  });
  float* dbeta = kCentered ? data_of(args.out[2]) : partial + m.pieces() * 2 * n;
  combine_pairs(partial, m.pieces(), n, data_of(args.out[1]), dbeta);
}

// ---- table ----

// x and dy are f32 or bf16; the others are f32.
bool is_supported(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

// Two sums for each piece, and sums that nobody wants.
std::size_t backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Matrix m(spec.in[0], spec.attributes<LayerNormBackwardAttrs>().axis);
  return static_cast<std::size_t>((2 * m.pieces() + 1) * m.columns) * sizeof(float);
}

constexpr KernelEntry kKernels[] = {
    {"layer_norm", is_supported, run_forward<true>},
    {"layer_norm_backward", is_supported, run_backward<true>, nullptr, backward_workspace},
    {"rms_norm", is_supported, run_forward<false>},
    {"rms_norm_backward", is_supported, run_backward<false>, nullptr, backward_workspace},
};

}  // namespace

std::span<const KernelEntry> row_normalization_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
