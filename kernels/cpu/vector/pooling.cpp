// Pooling of images (N, D, H, W, C), vectorised over the channels. Images with fewer spatial axes have axes of size 1
// in front.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/lanes.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/stream.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_pooling.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

constexpr int kAxes = 3;

// Divisions by 1 are the rule, and a division takes as long as ten additions.
TRIVET_INLINE std::int64_t floor_div(std::int64_t a, std::int64_t b) { return b == 1 ? a : a / b; }
TRIVET_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return b == 1 ? a : (a + b - 1) / b; }

// Consecutive items from `first` to `last`, the latter excluded; `step` apart.
struct Range {
  std::int64_t first = 0;
  std::int64_t last = 1;
  std::int64_t step = 1;

  TRIVET_INLINE std::int64_t final() const { return first + floor_div(last - 1 - first, step) * step; }
};

// The windows along one spatial axis.
struct Axis {
  std::int64_t image = 1;
  std::int64_t pooled = 1;
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t before = 0;
  std::int64_t after = 0;
  std::int64_t dilation = 1;
  bool adaptive = false;

  // The positions of window `o` in the image.
  TRIVET_INLINE Range window(std::int64_t o) const {
    if (adaptive) return {o * image / pooled, ((o + 1) * image + pooled - 1) / pooled, 1};
    const std::int64_t start = o * stride - before;
    const std::int64_t end = start + (kernel - 1) * dilation + 1;
    const std::int64_t first = start >= 0 ? start : start + ceil_div(-start, dilation) * dilation;
    return {first, end < image ? end : image, dilation};
  }
  // How many places average pooling divides by.
  TRIVET_INLINE std::int64_t places(std::int64_t o, bool with_pads) const {
    const Range inside = window(o);
    if (adaptive || !with_pads) return ceil_div(inside.last - inside.first, inside.step);
    const std::int64_t room = ceil_div(image + after - (o * stride - before), dilation);
    return room < kernel ? room : kernel;
  }
  // The windows that may hold position i; with dilations some of them do not.
  TRIVET_INLINE Range windows_at(std::int64_t i) const {
    if (adaptive) return {i * pooled / image, ((i + 1) * pooled + image - 1) / image, 1};
    const std::int64_t place = i + before;
    const std::int64_t reach = (kernel - 1) * dilation;
    const std::int64_t first = place > reach ? ceil_div(place - reach, stride) : 0;
    const std::int64_t last = floor_div(place, stride) + 1;
    return {first, last < pooled ? last : pooled, 1};
  }
  // Moves on from the windows at i - 1, or from none for i = 0, to those at i: a division less for each pixel.
  TRIVET_INLINE void advance(Range& windows, std::int64_t i) const {
    const std::int64_t place = i + before;
    const std::int64_t reach = (kernel - 1) * dilation;
    if (adaptive) {
      while ((windows.first + 1) * image <= i * pooled) ++windows.first;
      while (windows.last < pooled && windows.last * image < (i + 1) * pooled) ++windows.last;
    } else {
      while (windows.first * stride + reach < place) ++windows.first;
      while (windows.last < pooled && windows.last * stride <= place) ++windows.last;
    }
  }
  TRIVET_INLINE bool holds(std::int64_t o, std::int64_t i) const {
    return adaptive || dilation == 1 || (i + before - o * stride) % dilation == 0;
  }
};

struct Geometry {
  std::int64_t images = 1;
  std::int64_t channels = 1;
  Axis axis[kAxes];

  // `window` is null for adaptive pools.
  Geometry(const TensorDesc& image, const TensorDesc& pooled, const PoolWindow* window)
      : images(image.shape[0]), channels(image.shape[image.rank - 1]) {
    const int axes = image.rank - 2;
    for (int i = 0; i < axes; ++i) {
      Axis& a = axis[kAxes - axes + i];
      a.image = image.shape[i + 1];
      a.pooled = pooled.shape[i + 1];
      a.adaptive = window == nullptr;
      if (window == nullptr) continue;
      a.kernel = window->kernel.v[i];
      a.stride = window->strides.n == 0 ? a.kernel : window->strides.v[i];
      a.before = window->pads.n == 0 ? 0 : window->pads.v[i];
      a.after = window->pads.n == 0 ? 0 : window->pads.v[i + axes];
      a.dilation = window->dilations.n == 0 ? 1 : window->dilations.v[i];
    }
  }

  std::int64_t image_size() const { return axis[0].image * axis[1].image * axis[2].image * channels; }
  std::int64_t pooled_size() const { return axis[0].pooled * axis[1].pooled * axis[2].pooled * channels; }
  // About the number of elements visited.
  std::int64_t work() const { return images * (image_size() > pooled_size() ? image_size() : pooled_size()); }

  // Whether windows of 2 x 2 neither overlap nor leave the image.
  bool is_2x2() const {
    bool result = axis[0].image == 1 && axis[0].kernel == 1 && axis[0].before + axis[0].after == 0;
    for (int i = 1; i < kAxes; ++i) {
      const Axis& a = axis[i];
      result = result && !a.adaptive && a.kernel == 2 && a.stride == 2 && a.dilation == 1 && a.before + a.after == 0 &&
               2 * a.pooled <= a.image;
    }
    return result;
  }
};

// Channels that belong to one piece of work, at most: a whole image that becomes one pixel is shared by several
// threads.
constexpr std::int64_t kChannels = 256;

// A row of pixels along the innermost axis, for some channels.
struct Run {
  std::int64_t image;
  std::int64_t z;
  std::int64_t y;
  std::int64_t channel;  // the first one
  std::int64_t channels;
};

// Calls f for each row of pixels of the images, or of their pools: these are independent of each other.
template <class F>
void for_each_run(const Geometry& g, bool pooled, int threads, const F& f) {
  const std::int64_t rows = pooled ? g.axis[1].pooled : g.axis[1].image;
  const std::int64_t planes = pooled ? g.axis[0].pooled : g.axis[0].image;
  const std::int64_t blocks = (g.channels + kChannels - 1) / kChannels;
  parallel_pieces(g.images * planes * rows * blocks, 1, g.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t row = unit / blocks;
      const std::int64_t channel = unit % blocks * kChannels;
      const std::int64_t left = g.channels - channel;
      f(Run{row / rows / planes, row / rows % planes, row % rows, channel, left < kChannels ? left : kChannels});
    }
  });
}

// Calls f(pixel, element) for each pixel of a window; `element` is the first of its channels, counted within the image.
template <class F>
TRIVET_INLINE void for_each_pixel(const Geometry& g, const Range& z, const Range& y, const Range& x, const F& f) {
  for (std::int64_t iz = z.first; iz < z.last; iz += z.step) {
    for (std::int64_t iy = y.first; iy < y.last; iy += y.step) {
      const std::int64_t row = (iz * g.axis[1].image + iy) * g.axis[2].image;
      for (std::int64_t ix = x.first; ix < x.last; ix += x.step) f(row + ix, (row + ix) * g.channels);
    }
  }
}

// The same from the last pixel to the first.
template <class F>
TRIVET_INLINE void for_each_pixel_reversed(const Geometry& g, const Range& z, const Range& y, const Range& x,
                                           const F& f) {
  for (std::int64_t iz = z.final(); iz >= z.first; iz -= z.step) {
    for (std::int64_t iy = y.final(); iy >= y.first; iy -= y.step) {
      const std::int64_t row = (iz * g.axis[1].image + iy) * g.axis[2].image;
      for (std::int64_t ix = x.final(); ix >= x.first; ix -= x.step) f(row + ix, (row + ix) * g.channels);
    }
  }
}

// ---- forward ----

// NaN if either is. Written as two selections, which the compiler can vectorise when they are nested.
template <class Float>
TRIVET_INLINE Float larger(Float x, Float y) {
  const Float maximum = x > y ? x : y;
  return x != x ? x : maximum;
}

// Of a float that a T holds exactly: the largest of several T is one of them.
template <class T>
TRIVET_INLINE T exactly(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else {
    return {static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, x) >> 16)};
  }
}

template <class T>
void max_2x2(const T* __restrict upper, const T* __restrict lower, T* __restrict out, std::int64_t c) {
#pragma omp simd
  for (std::int64_t i = 0; i < c; ++i) {
    // Loaded without a condition, or the loop would not vectorise.
    const float a = to_f32(upper[i]);
    const float b = to_f32(upper[c + i]);
    const float d = to_f32(lower[i]);
    const float e = to_f32(lower[c + i]);
    out[i] = exactly<T>(larger(larger(d, e), larger(a, b)));
  }
}

template <class T>
void max_pool_2x2(const Geometry& g, const T* x, T* y, int threads) {
  const Axis& rows = g.axis[1];
  const Axis& columns = g.axis[2];
  const std::int64_t line = columns.image * g.channels;
  const auto size = static_cast<std::int64_t>(sizeof(T));
  const bool ahead = static_cast<std::size_t>(g.images * g.image_size() * size) >= kLeastAhead;
  parallel_pieces(g.images * rows.pooled, 1, g.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t in = (row / rows.pooled * rows.image + row % rows.pooled * 2) * line;
      for (std::int64_t ox = 0; ox < columns.pooled; ++ox) {
        const T* upper = x + in + 2 * ox * g.channels;
        if (ahead) {  // the next two lines
          read_ahead(upper, 2 * line * size, 2 * g.channels * size);
          read_ahead(upper + line, 2 * line * size, 2 * g.channels * size);
        }
        max_2x2(upper, upper + line, y + (row * columns.pooled + ox) * g.channels, g.channels);
      }
    }
  });
}

// The largest elements of a window in kCount vectors of channels.
template <class Lanes, int kCount>
struct Max {
  typename Lanes::Float best[kCount];

  TRIVET_INLINE Max() {
    for (auto& v : best) v = typename Lanes::Float{} - detail::kInfinity;
  }
  template <class T>
  TRIVET_INLINE void add(const T* pixel) {
    for (int k = 0; k < kCount; ++k) best[k] = larger(Lanes::load(pixel + k * Lanes::kLanes), best[k]);
  }
  template <class T>
  TRIVET_INLINE void store(T* out, float) const {
    for (int k = 0; k < kCount; ++k) Lanes::store(out + k * Lanes::kLanes, best[k]);
  }
};

// The same for bytes, u8 or i8: kCount vectors in one.
template <class T>
struct OfBytes {
  template <class Lanes, int kCount>
  struct Max {
    typedef T Vector __attribute__((vector_size(Lanes::kLanes * kCount)));
    static constexpr T kLowest = static_cast<T>(-1) < 0 ? -128 : 0;
    Vector best = Vector{} + kLowest;

    TRIVET_INLINE void add(const T* pixel) {
      Vector v;
      __builtin_memcpy(&v, pixel, sizeof(v));
      best = v > best ? v : best;
    }
    TRIVET_INLINE void store(T* out, float) const { __builtin_memcpy(out, &best, sizeof(best)); }
  };
};

// The sums. Added up in blocks, so that the rounding of a window of a whole image stays small.
template <class Lanes, int kCount>
struct Sum {
  static constexpr int kBlock = 64;

  typename Lanes::Float block[kCount] = {};
  typename Lanes::Float total[kCount] = {};
  int in_block = 0;

  template <class T>
  TRIVET_INLINE void add(const T* pixel) {
    for (int k = 0; k < kCount; ++k) block[k] += Lanes::load(pixel + k * Lanes::kLanes);
    if (++in_block < kBlock) return;
    for (int k = 0; k < kCount; ++k) {
      total[k] += block[k];
      block[k] = typename Lanes::Float{};
    }
    in_block = 0;
  }
  template <class T>
  TRIVET_INLINE void store(T* out, float scale) const {
    for (int k = 0; k < kCount; ++k) Lanes::store(out + k * Lanes::kLanes, (total[k] + block[k]) * scale);
  }
};

// Reduces every window with a Result, Max or Sum. A sum is divided by the window's places.
template <template <class, int> class Result, class T>
void pool(const Geometry& g, const T* x, T* y, bool with_pads, int threads) {
  for_each_run(g, true, threads, [&](const Run& run) {
    const T* in = x + run.image * g.image_size() + run.channel;
    const std::int64_t row = (run.image * g.axis[0].pooled + run.z) * g.axis[1].pooled + run.y;
    T* out = y + row * g.axis[2].pooled * g.channels + run.channel;
    const Range z = g.axis[0].window(run.z);
    const Range rows = g.axis[1].window(run.y);
    const std::int64_t places = g.axis[0].places(run.z, with_pads) * g.axis[1].places(run.y, with_pads);
    for (std::int64_t ox = 0; ox < g.axis[2].pooled; ++ox) {
      const Range columns = g.axis[2].window(ox);
      const float scale = 1.0f / static_cast<float>(places * g.axis[2].places(ox, with_pads));
      for_each_block(run.channels, [&](auto lanes, auto count, std::int64_t c) {
        Result<decltype(lanes), decltype(count)::value> result;
        for_each_pixel(g, z, rows, columns, [&](std::int64_t, std::int64_t element) { result.add(in + element + c); });
        result.store(out + ox * g.channels + c, scale);
      });
    }
  });
}

// ---- backward ----

// Where the maximum is NaN, the first NaN is the one that it came from; otherwise the window has no NaN.
TRIVET_INLINE bool is_maximum(float x, float y) { return x == y || x != x; }

// All bits where x is the maximum y, as a mask.
TRIVET_INLINE std::uint32_t maximum_mask(float x, float y) { return is_maximum(x, y) ? ~0U : 0U; }

TRIVET_INLINE float masked(float x, std::uint32_t mask) { return detail::from_bits(detail::to_bits(x) & mask); }
TRIVET_INLINE BFloat16 masked(BFloat16 x, std::uint32_t mask) { return {static_cast<std::uint16_t>(x.bits & mask)}; }

// One window of 2 x 2: the gradient goes to the first maximum, and zeros to the others.
template <class T>
void max_2x2_backward(std::int64_t below, std::int64_t channels, const T* __restrict dy, const T* __restrict x,
                      const T* __restrict y, T* __restrict dx) {
  const std::int64_t right = channels;
#pragma omp simd
  for (std::int64_t i = 0; i < channels; ++i) {
    const float maximum = to_f32(y[i]);
    const std::uint32_t first = maximum_mask(to_f32(x[i]), maximum);
    const std::uint32_t second = maximum_mask(to_f32(x[i + right]), maximum) & ~first;
    const std::uint32_t third = maximum_mask(to_f32(x[i + below]), maximum) & ~(first | second);
    const std::uint32_t fourth = maximum_mask(to_f32(x[i + below + right]), maximum) & ~(first | second | third);
    dx[i] = masked(dy[i], first);
    dx[i + right] = masked(dy[i], second);
    dx[i + below] = masked(dy[i], third);
    dx[i + below + right] = masked(dy[i], fourth);
  }
}

template <class T>
void max_pool_2x2_backward(const Geometry& g, const T* dy, const T* x, const T* y, T* dx, int threads) {
  const Axis& rows = g.axis[1];
  const Axis& columns = g.axis[2];
  const std::int64_t line = columns.image * g.channels;
  const std::int64_t covered = 2 * columns.pooled * g.channels;
  const auto clear = [=](T* from, std::int64_t n) {
    if (n > 0) __builtin_memset(from, 0, static_cast<std::size_t>(n) * sizeof(T));
  };
  parallel_pieces(g.images * rows.pooled, 1, g.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t oy = row % rows.pooled;
      const std::int64_t in = (row / rows.pooled * rows.image + 2 * oy) * line;
      for (std::int64_t ox = 0; ox < columns.pooled; ++ox) {
        const std::int64_t corner = in + 2 * ox * g.channels;
        const std::int64_t out = (row * columns.pooled + ox) * g.channels;
        max_2x2_backward(line, g.channels, dy + out, x + corner, y + out, dx + corner);
      }
      // What no window holds: an odd last column, and after the last window all further rows.
      clear(dx + in + covered, line - covered);
      clear(dx + in + line + covered, line - covered);
      if (oy == rows.pooled - 1) clear(dx + in + 2 * line, (rows.image - 2 * rows.pooled) * line);
    }
  });
}

// Writes the first pixel that equals each maximum, -1 if there is none. From the last to the first, so that it is the
// first that stays.
template <class T>
void find_maxima(const Geometry& g, const T* x, const T* y, std::int32_t* origin, int threads) {
  for_each_run(g, true, threads, [&](const Run& run) {
    const T* in = x + run.image * g.image_size() + run.channel;
    const std::int64_t row = (run.image * g.axis[0].pooled + run.z) * g.axis[1].pooled + run.y;
    const Range z = g.axis[0].window(run.z);
    const Range rows = g.axis[1].window(run.y);
    for (std::int64_t ox = 0; ox < g.axis[2].pooled; ++ox) {
      const Range columns = g.axis[2].window(ox);
      const std::int64_t out = (row * g.axis[2].pooled + ox) * g.channels + run.channel;
      for_each_block(run.channels, [&](auto lanes, auto count, std::int64_t c) {
        using Lanes = decltype(lanes);
        constexpr int kCount = decltype(count)::value;
        typename Lanes::Float maximum[kCount];
        typename Lanes::Integer from[kCount];
        for (int k = 0; k < kCount; ++k) {
          maximum[k] = Lanes::load(y + out + c + k * Lanes::kLanes);
          from[k] = typename Lanes::Integer{} - 1;
        }
        for_each_pixel_reversed(g, z, rows, columns, [&](std::int64_t pixel, std::int64_t element) {
          const auto number = typename Lanes::Integer{} + static_cast<std::int32_t>(pixel);
          for (int k = 0; k < kCount; ++k) {
            const auto value = Lanes::load(in + element + c + k * Lanes::kLanes);
            from[k] = value == maximum[k] ? number : from[k];
            from[k] = value != value ? number : from[k];
          }
        });
        for (int k = 0; k < kCount; ++k) Lanes::store(origin + out + c + k * Lanes::kLanes, from[k]);
      });
    }
  });
}

// Calls f(oz, oy, ox, element) for each window of these ranges; `element` is the first of its channels, counted within
// the pooled image.
template <class F>
TRIVET_INLINE void for_each_window(const Geometry& g, const Range& z, const Range& y, const Range& x, const F& f) {
  for (std::int64_t oz = z.first; oz < z.last; ++oz) {
    for (std::int64_t oy = y.first; oy < y.last; ++oy) {
      const std::int64_t row = (oz * g.axis[1].pooled + oy) * g.axis[2].pooled;
      for (std::int64_t ox = x.first; ox < x.last; ++ox) f(oz, oy, ox, (row + ox) * g.channels);
    }
  }
}

// Each pixel collects its gradient from the windows around it: nothing is written twice, in any number of threads.
// term(run, x, oz, oy, ox) says what that window adds to the pixel at x of the run: a function of the lanes and of the
// first element of dy.
// If kRepeats, pixels of a run that lie in the same windows have the same gradient.
template <bool kRepeats, class T, class Term>
void collect_gradients(const Geometry& g, T* dx, int threads, const Term& term) {
  for_each_run(g, false, threads, [&](const Run& run) {
    const std::int64_t row = (run.image * g.axis[0].image + run.z) * g.axis[1].image + run.y;
    const std::int64_t pooled = run.image * g.pooled_size() + run.channel;
    const Range z = g.axis[0].windows_at(run.z);
    const Range y = g.axis[1].windows_at(run.y);
    Range x = {0, 0, 1};
    for (std::int64_t ix = 0; ix < g.axis[2].image; ++ix) {
      T* out = dx + (row * g.axis[2].image + ix) * g.channels + run.channel;
      const Range windows_before = x;
      g.axis[2].advance(x, ix);
      if (kRepeats && ix > 0 && x.first == windows_before.first && x.last == windows_before.last) {
        __builtin_memcpy(out, out - g.channels, static_cast<std::size_t>(run.channels) * sizeof(T));
        continue;
      }
      for_each_block(run.channels, [&](auto lanes, auto count, std::int64_t c) {
        using Lanes = decltype(lanes);
        constexpr int kCount = decltype(count)::value;
        typename Lanes::Float sums[kCount] = {};
        for_each_window(g, z, y, x, [&](std::int64_t oz, std::int64_t oy, std::int64_t ox, std::int64_t element) {
          const auto of_window = term(run, ix, oz, oy, ox);
          for (int k = 0; k < kCount; ++k) sums[k] += of_window(lanes, pooled + element + c + k * Lanes::kLanes);
        });
        for (int k = 0; k < kCount; ++k) Lanes::store(out + c + k * Lanes::kLanes, sums[k]);
      });
    }
  });
}

template <class T>
void max_pool_backward(const Geometry& g, const T* dy, const T* x, const T* y, T* dx, std::int32_t* origin,
                       int threads) {
  find_maxima(g, x, y, origin, threads);
  collect_gradients<false>(
      g, dx, threads, [&](const Run& run, std::int64_t ix, std::int64_t, std::int64_t, std::int64_t) {
        const auto pixel = static_cast<std::int32_t>((run.z * g.axis[1].image + run.y) * g.axis[2].image + ix);
        return [=](auto lanes, std::int64_t element) {
          const auto gradient = lanes.load(dy + element);
          return lanes.load(origin + element) == pixel ? gradient : decltype(gradient){};
        };
      });
}

template <class T>
void average_pool_backward(const Geometry& g, const T* dy, T* dx, bool with_pads, int threads) {
  const Axis* a = g.axis;
  const auto term = [&](const Run& run, std::int64_t ix, std::int64_t oz, std::int64_t oy, std::int64_t ox) {
    const std::int64_t places = a[0].places(oz, with_pads) * a[1].places(oy, with_pads) * a[2].places(ox, with_pads);
    const bool held = a[0].holds(oz, run.z) && a[1].holds(oy, run.y) && a[2].holds(ox, ix);
    const float scale = 1.0f / static_cast<float>(places);
    return [=](auto lanes, std::int64_t element) {
      const auto share = lanes.load(dy + element) * scale;
      return held ? share : decltype(share){};
    };
  };
  if (a[2].dilation == 1) {
    collect_gradients<true>(g, dx, threads, term);
  } else {
    collect_gradients<false>(g, dx, threads, term);
  }
}

// ---- table ----

// `Attrs` is void for adaptive and global pools.
template <class Attrs>
const PoolWindow* window_of(const void* attrs) {
  return static_cast<const Attrs*>(attrs);
}
template <>
const PoolWindow* window_of<void>(const void*) {
  return nullptr;
}

template <class T>
void run_max_of_bytes(const KernelArgs& args) {
  const Geometry g(args.in[0], args.out[0], window_of<MaxPoolAttrs>(args.attrs));
  pool<OfBytes<T>::template Max>(g, args.in[0].as<const T>(), args.out[0].as<T>(), false, args.threads);
}

template <class Attrs>
void run_max(const KernelArgs& args) {
  const Geometry g(args.in[0], args.out[0], window_of<Attrs>(args.attrs));
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = args.in[0].as<const T>();
    T* y = args.out[0].as<T>();
    g.is_2x2() ? max_pool_2x2(g, x, y, args.threads) : pool<Max>(g, x, y, false, args.threads);
  });
}

template <class Attrs>
void run_max_backward(const KernelArgs& args) {
  const Geometry g(args.in[1], args.in[0], window_of<Attrs>(args.attrs));
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* dy = args.in[0].as<const T>();
    const T* x = args.in[1].as<const T>();
    const T* y = args.in[2].as<const T>();
    T* dx = args.out[0].as<T>();
    auto* origin = static_cast<std::int32_t*>(args.workspace);
    g.is_2x2() ? max_pool_2x2_backward(g, dy, x, y, dx, args.threads)
               : max_pool_backward(g, dy, x, y, dx, origin, args.threads);
  });
}

template <class Attrs>
bool includes_pads(const void* attrs) {
  return static_cast<const Attrs*>(attrs)->count_include_pad;
}
template <>
bool includes_pads<void>(const void*) {
  return false;
}

template <class Attrs>
void run_average(const KernelArgs& args) {
  const Geometry g(args.in[0], args.out[0], window_of<Attrs>(args.attrs));
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    pool<Sum>(g, args.in[0].as<const T>(), args.out[0].as<T>(), includes_pads<Attrs>(args.attrs), args.threads);
  });
}

template <class Attrs>
void run_average_backward(const KernelArgs& args) {
  const Geometry g(args.out[0], args.in[0], window_of<Attrs>(args.attrs));
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    average_pool_backward(g, args.in[0].as<const T>(), args.out[0].as<T>(), includes_pads<Attrs>(args.attrs),
                          args.threads);
  });
}

bool is_supported(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == spec.in[0].dtype;
}

void run_max_pool(const KernelArgs& args) {
  if (args.in[0].dtype == DType::u8) return run_max_of_bytes<std::uint8_t>(args);
  if (args.in[0].dtype == DType::i8) return run_max_of_bytes<std::int8_t>(args);
  run_max<MaxPoolAttrs>(args);
}

bool is_max_pool_supported(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return is_supported(spec) || ((type == DType::u8 || type == DType::i8) && spec.out[0].dtype == type);
}

// Pixels are numbered in 32 bits.
bool is_max_backward_supported(const KernelSpec& spec) {
  const Geometry g(spec.in[1], spec.in[0], nullptr);
  return is_supported(spec) && g.axis[0].image * g.axis[1].image * g.axis[2].image < 0x7fffffff;
}

template <class Attrs>
std::size_t max_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Geometry g(spec.in[1], spec.in[0], window_of<Attrs>(spec.attrs));
  return g.is_2x2() ? 0 : static_cast<std::size_t>(g.images * g.pooled_size()) * sizeof(std::int32_t);
}

constexpr KernelEntry kKernels[] = {
    {"max_pool", is_max_pool_supported, run_max_pool},
    {"max_pool_backward", is_max_backward_supported, run_max_backward<MaxPoolAttrs>, nullptr,
     max_backward_workspace<MaxPoolAttrs>},
    {"average_pool", is_supported, run_average<AveragePoolAttrs>},
    {"average_pool_backward", is_supported, run_average_backward<AveragePoolBackwardAttrs>},
    {"adaptive_max_pool", is_supported, run_max<void>},
    {"adaptive_max_pool_backward", is_max_backward_supported, run_max_backward<void>, nullptr,
     max_backward_workspace<void>},
    {"adaptive_average_pool", is_supported, run_average<void>},
    {"adaptive_average_pool_backward", is_supported, run_average_backward<void>},
    {"global_max_pool", is_supported, run_max<void>},
    {"global_average_pool", is_supported, run_average<void>},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> pooling_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
