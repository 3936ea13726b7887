// Resizing is linear in the elements and goes along one axis after the other: each axis has a table that says, for each
// target position, which source positions count with which weight. The gradient is the same with the tables transposed.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/copy.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/attrs_resize.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

constexpr int kMostAxes = 3;
constexpr int kMostTaps = 4;

// Target t takes sources index[begins[t]] ... index[begins[t + 1] - 1].
struct Table {
  std::int64_t* begins = nullptr;
  std::int32_t* index = nullptr;
  float* weight = nullptr;
};

// Hands out pieces of the workspace; without memory it only counts.
struct Scratch {
  char* base = nullptr;
  std::size_t used = 0;

  template <class T>
  TRIVET_INLINE T* take(std::int64_t n) {
    T* const piece = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  TRIVET_INLINE Table take_table(std::int64_t targets, std::int64_t entries) {
    Table t;
    t.begins = take<std::int64_t>(targets + 1);
    t.index = take<std::int32_t>(entries);
    t.weight = take<float>(entries);
    return t;
  }
};

// --- the table of one axis ---

struct AxisMap {
  std::int64_t in = 1;
  std::int64_t out = 1;
  double scale = 0;  // 0: out / in
};

// Where output position o lies among the input's positions (ONNX Resize, coordinate_transformation_mode).
TRIVET_INLINE double source_position(const AxisMap& axis, ResizeCoordinates coordinates, std::int64_t o) {
  const auto in = static_cast<double>(axis.in);
  const auto out = static_cast<double>(axis.out);
  const auto x = static_cast<double>(o);
  if (coordinates == ResizeCoordinates::align_corners) return axis.out == 1 ? 0.0 : x * (in - 1.0) / (out - 1.0);
  if (coordinates == ResizeCoordinates::pytorch_half_pixel && axis.out == 1) return 0.0;
  // Multiplied first: exact halves stay exact.
  const double half = coordinates == ResizeCoordinates::asymmetric ? 0.0 : 0.5;
  return (axis.scale > 0 ? (x + half) / axis.scale : (x + half) * in / out) - half;
}

TRIVET_INLINE double nearest_position(double x, ResizeNearest mode) {
  switch (mode) {
    case ResizeNearest::round_prefer_floor:
      return __builtin_ceil(x - 0.5);
    case ResizeNearest::round_prefer_ceil:
      return __builtin_floor(x + 0.5);
    case ResizeNearest::floor:
      return __builtin_floor(x);
    default:
      return __builtin_ceil(x);
  }
}

// Cubic convolution (Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981).
TRIVET_INLINE void cubic_weights(double t, double a, double* w) {
  const double u = 1.0 - t;
  w[0] = ((a * (t + 1.0) - 5.0 * a) * (t + 1.0) + 8.0 * a) * (t + 1.0) - 4.0 * a;
  w[1] = ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
  w[2] = ((a + 2.0) * u - (a + 3.0)) * u * u + 1.0;
  w[3] = ((a * (u + 1.0) - 5.0 * a) * (u + 1.0) + 8.0 * a) * (u + 1.0) - 4.0 * a;
}

// The taps of one output position: the first position and the weights of it and the ones behind. Returns their number.
TRIVET_INLINE int taps_of(const ResizeAttrs& attrs, const AxisMap& axis, double x, double* first, double* w) {
  if (attrs.mode == ResizeMode::nearest) {
    *first = nearest_position(x, attrs.nearest_mode);
    w[0] = 1.0;
    return 1;
  }
  const double floor = __builtin_floor(x);
  const double t = x - floor;
  if (attrs.mode == ResizeMode::linear) {
    *first = floor;
    w[0] = 1.0 - t;
    w[1] = t;
    return 2;
  }
  *first = floor - 1.0;
  cubic_weights(t, attrs.cubic_coeff_a, w);
  if (attrs.exclude_outside) {
    double sum = 0;
    for (int k = 0; k < 4; ++k) {
      const double at = *first + k;
      if (at < 0 || at >= static_cast<double>(axis.in)) w[k] = 0;
      sum += w[k];
    }
    for (int k = 0; k < 4; ++k) w[k] /= sum;
  }
  return 4;
}

// Positions outside are the outermost ones. Taps that come to lie on one position are joined, and those without weight
// left out, so that an infinity or NaN that does not count does no harm.
void build_table(const ResizeAttrs& attrs, const AxisMap& axis, const Table& table) {
  std::int64_t entries = 0;
  for (std::int64_t o = 0; o < axis.out; ++o) {
    table.begins[o] = entries;
    double first = 0;
    double w[kMostTaps];
    const int taps = taps_of(attrs, axis, source_position(axis, attrs.coordinates, o), &first, w);
    std::int32_t pending = -1;
    double weight = 0;
    for (int k = 0; k <= taps; ++k) {
      const double at = first + k;
      const double last = static_cast<double>(axis.in - 1);
      const auto position = static_cast<std::int32_t>(at < 0 ? 0 : at > last ? last : at);
      if (k == taps || position != pending) {
        if (weight != 0) {
          table.index[entries] = pending;
          table.weight[entries++] = static_cast<float>(weight);
        }
        weight = 0;
        pending = position;
      }
      if (k < taps) weight += w[k];
    }
  }
  table.begins[axis.out] = entries;
}

// Entries keep their order: the sums of the gradient are made in the order of the output positions.
void transpose_table(const Table& from, std::int64_t targets, const Table& to, std::int64_t sources) {
  for (std::int64_t s = 0; s <= sources; ++s) to.begins[s] = 0;
  for (std::int64_t e = 0; e < from.begins[targets]; ++e) ++to.begins[from.index[e] + 1];
  for (std::int64_t s = 0; s < sources; ++s) to.begins[s + 1] += to.begins[s];
  for (std::int64_t t = 0; t < targets; ++t) {
    for (std::int64_t e = from.begins[t]; e < from.begins[t + 1]; ++e) {
      const std::int64_t at = to.begins[from.index[e]]++;
      to.index[at] = static_cast<std::int32_t>(t);
      to.weight[at] = from.weight[e];
    }
  }
  for (std::int64_t s = sources; s > 0; --s) to.begins[s] = to.begins[s - 1];
  to.begins[0] = 0;
}

// --- all axes ---

struct Resizing {
  int axes = 0;
  std::int64_t batch = 1;
  std::int64_t channels = 1;
  std::int64_t sources[kMostAxes] = {1, 1, 1};
  std::int64_t targets[kMostAxes] = {1, 1, 1};
  Table tables[kMostAxes];
  float* rows = nullptr;  // one row of the source's last axis for each thread
  std::int64_t row = 0;   // its elements
};

// `small` is resized to `large`, if forward; else the other way round.
TRIVET_INLINE Resizing plan_resizing(const ResizeAttrs& attrs, const TensorDesc& before, const TensorDesc& after,
                                     bool backward, int threads, Scratch& scratch) {
  Resizing r;
  r.axes = before.rank - 2;
  r.batch = before.shape[0];
  r.channels = before.shape[before.rank - 1];
  for (int d = 0; d < r.axes; ++d) {
    const AxisMap axis{before.shape[d + 1], after.shape[d + 1], attrs.scales.n == 0 ? 0.0 : attrs.scales.v[d]};
    const Table forward = scratch.take_table(axis.out, axis.out * kMostTaps);
    r.tables[d] = backward ? scratch.take_table(axis.in, axis.out * kMostTaps) : forward;
    r.sources[d] = backward ? axis.out : axis.in;
    r.targets[d] = backward ? axis.in : axis.out;
    if (scratch.base == nullptr) continue;
    build_table(attrs, axis, forward);
    if (backward) transpose_table(forward, axis.out, r.tables[d], axis.in);
  }
  r.row = (r.sources[r.axes - 1] * r.channels + 15) / 16 * 16;
  r.rows = scratch.take<float>(r.row * threads);
  return r;
}

// to[c] = sum of the first K weights times their pixels.
template <int K, class T>
TRIVET_INLINE void weigh(T* to, const float* from, const std::int32_t* index, const float* weight,
                         std::int64_t channels) {
  const float* pixel[K];
  float w[K];
  for (int k = 0; k < K; ++k) {
    pixel[k] = from + index[k] * channels;
    w[k] = weight[k];
  }
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) {
    float sum = w[0] * pixel[0][c];
    for (int k = 1; k < K; ++k) sum += w[k] * pixel[k][c];
    to[c] = from_f32<T>(sum);
  }
}

// Any number of weights, from none (zeros) on.
template <class T>
TRIVET_INLINE void weigh_many(T* to, const float* from, const std::int32_t* index, const float* weight, std::int64_t n,
                              std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; ++c) {
    float sum = 0;
    for (std::int64_t k = 0; k < n; ++k) sum += weight[k] * from[index[k] * channels + c];
    to[c] = from_f32<T>(sum);
  }
}

template <class T>
TRIVET_INLINE void weigh_row(T* to, const float* from, const Table& table, std::int64_t targets,
                             std::int64_t channels) {
  for (std::int64_t t = 0; t < targets; ++t) {
    const std::int64_t begin = table.begins[t];
    const std::int64_t n = table.begins[t + 1] - begin;
    const std::int32_t* const index = table.index + begin;
    const float* const weight = table.weight + begin;
    T* const pixel = to + t * channels;
    switch (n) {
      case 1:
        weigh<1>(pixel, from, index, weight, channels);
        break;
      case 2:
        weigh<2>(pixel, from, index, weight, channels);
        break;
      case 4:
        weigh<4>(pixel, from, index, weight, channels);
        break;
      default:
        weigh_many(pixel, from, index, weight, n, channels);
    }
  }
}

template <class T>
TRIVET_INLINE void add_weighted(float* to, const T* from, float weight, bool first, std::int64_t n) {
  if (first) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = weight * to_f32(from[i]);
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] += weight * to_f32(from[i]);
  }
}

// The weighted sum of the source rows that target row (n, outer, middle) takes; the axes are padded to three.
template <class T>
TRIVET_INLINE void gather_rows(const Resizing& r, const T* image, std::int64_t outer, std::int64_t middle, float* row) {
  const std::int64_t n = r.sources[r.axes - 1] * r.channels;
  const Table& last = r.tables[r.axes >= 2 ? r.axes - 2 : 0];
  const Table& first = r.tables[0];
  const std::int64_t outer_begin = r.axes == 3 ? first.begins[outer] : 0;
  const std::int64_t outer_end = r.axes == 3 ? first.begins[outer + 1] : 1;
  const std::int64_t begin = r.axes >= 2 ? last.begins[middle] : 0;
  const std::int64_t end = r.axes >= 2 ? last.begins[middle + 1] : 1;
  bool fresh = true;
  for (std::int64_t o = outer_begin; o < outer_end; ++o) {
    for (std::int64_t m = begin; m < end; ++m) {
      const std::int64_t plane = r.axes == 3 ? first.index[o] * r.sources[1] : 0;
      const std::int64_t line = plane + (r.axes >= 2 ? last.index[m] : 0);
      const float weight = (r.axes == 3 ? first.weight[o] : 1.0f) * (r.axes >= 2 ? last.weight[m] : 1.0f);
      add_weighted(row, image + line * n, weight, fresh, n);
      fresh = false;
    }
  }
  if (fresh) __builtin_memset(row, 0, static_cast<std::size_t>(n) * sizeof(float));
}

template <class T>
void resize(const View& from_view, const View& to_view, const Resizing& r, int threads) {
  const std::int64_t elements = element_count(to_view);
  if (elements == 0) return;
  const T* const from = from_view.as<const T>();
  T* const to = to_view.as<T>();
  const std::int64_t image = element_count(from_view) / r.batch;
  const std::int64_t width = r.targets[r.axes - 1];
  const std::int64_t middles = r.axes >= 2 ? r.targets[r.axes - 2] : 1;
  const std::int64_t outers = r.axes == 3 ? r.targets[0] : 1;
  const std::int64_t row = width * r.channels;
  const std::int64_t touched = row > r.row ? row : r.row;
  parallel_pieces_on_lanes(elements / row, touched < 8192 ? 8192 / touched : 1, elements / row * touched, threads,
                           [&](std::int64_t begin, std::int64_t end, int lane) {
                             float* const buffer = r.rows + r.row * lane;
                             for (std::int64_t t = begin; t < end; ++t) {
                               const std::int64_t middle = t % middles;
                               const std::int64_t outer = t / middles % outers;
                               const T* const source = from + t / middles / outers * image;
                               gather_rows(r, source, outer, middle, buffer);
                               weigh_row(to + t * row, buffer, r.tables[r.axes - 1], width, r.channels);
                             }
                           });
}

// Mode nearest moves elements of any dtype; each target has one source.
template <class T>
void pick(const View& from_view, const View& to_view, const Resizing& r, int threads) {
  const std::int64_t elements = element_count(to_view);
  if (elements == 0) return;
  const T* const from = from_view.as<const T>();
  T* const to = to_view.as<T>();
  const std::int64_t width = r.targets[r.axes - 1];
  const std::int64_t row = width * r.channels;
  const std::int32_t* const columns = r.tables[r.axes - 1].index;
  parallel_pieces(elements / row, row < 8192 ? 8192 / row : 1, elements, threads,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      std::int64_t line = 0;  // row of x
                      std::int64_t stride = 1;
                      std::int64_t rest = t;
                      for (int d = r.axes - 2; d >= 0; --d) {
                        line += r.tables[d].index[rest % r.targets[d]] * stride;
                        stride *= r.sources[d];
                        rest /= r.targets[d];
                      }
                      const T* const source = from + (rest * stride + line) * r.sources[r.axes - 1] * r.channels;
                      for (std::int64_t w = 0; w < width; ++w) {
                        if (r.channels == 1) {
                          to[t * row + w] = source[columns[w]];
                        } else {
                          copy_elements(to + t * row + w * r.channels, source + columns[w] * r.channels, r.channels);
                        }
                      }
                    }
                  });
}

void run_resize(const KernelArgs& args) {
  const auto& attrs = args.attributes<ResizeAttrs>();
  const View& x = args.in[0];
  const View& y = args.out[0];
  Scratch scratch{static_cast<char*>(args.workspace), 0};
  const Resizing r = plan_resizing(attrs, x, y, false, args.threads, scratch);
  if (attrs.mode == ResizeMode::nearest) {
    with_word(x.dtype, [&](auto word) { pick<decltype(word)>(x, y, r, args.threads); });
  } else {
    with_compute_type(x.dtype, [&](auto element) { resize<decltype(element)>(x, y, r, args.threads); });
  }
}

void run_resize_backward(const KernelArgs& args) {
  const View& dy = args.in[0];
  const View& dx = args.out[0];
  Scratch scratch{static_cast<char*>(args.workspace), 0};
  const Resizing r = plan_resizing(args.attributes<ResizeBackwardAttrs>(), dx, dy, true, args.threads, scratch);
  with_compute_type(dy.dtype, [&](auto element) { resize<decltype(element)>(dy, dx, r, args.threads); });
}

std::size_t resize_workspace(const KernelSpec& spec, const Prepared*) {
  Scratch scratch;
  plan_resizing(spec.attributes<ResizeAttrs>(), spec.in[0], spec.out[0], false, spec.threads, scratch);
  return scratch.used;
}

std::size_t resize_backward_workspace(const KernelSpec& spec, const Prepared*) {
  Scratch scratch;
  plan_resizing(spec.attributes<ResizeBackwardAttrs>(), spec.out[0], spec.in[0], true, spec.threads, scratch);
  return scratch.used;
}

bool forward_types(const KernelSpec& spec) {
  return spec.attributes<ResizeAttrs>().mode == ResizeMode::nearest || is_compute_type(spec.in[0].dtype);
}
bool compute_type(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"resize", forward_types, run_resize, nullptr, resize_workspace},
    {"resize_backward", compute_type, run_resize_backward, nullptr, resize_backward_workspace},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> resize_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
