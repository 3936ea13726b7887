// Pooling of images (N, H, W, C), vectorised over the channels.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_pooling.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

struct Geometry {
  std::int64_t n, h, w, c, oh, ow;
  std::int64_t kernel_h, kernel_w, stride_h, stride_w, top, left;
  bool is_2x2;  // windows of 2 x 2 that neither overlap nor leave the image

  Geometry(const View& image, const View& pooled, const PoolWindow& window)
      : n(image.shape[0]),
        h(image.shape[1]),
        w(image.shape[2]),
        c(image.shape[3]),
        oh(pooled.shape[1]),
        ow(pooled.shape[2]),
        kernel_h(window.kernel.v[0]),
        kernel_w(window.kernel.v[1]),
        stride_h(window.strides.n == 0 ? kernel_h : window.strides.v[0]),
        stride_w(window.strides.n == 0 ? kernel_w : window.strides.v[1]),
        top(window.pads.v[0]),
        left(window.pads.v[1]),
        is_2x2(kernel_h == 2 && kernel_w == 2 && stride_h == 2 && stride_w == 2 &&
               window.pads.v[0] + window.pads.v[1] + window.pads.v[2] + window.pads.v[3] == 0) {}

  std::int64_t work() const { return n * oh * ow * kernel_h * kernel_w * c; }
};

// The part of a window that lies in the image: rows [y0, y1), columns [x0, x1).
struct Window {
  std::int64_t y0, y1, x0, x1;

  Window(const Geometry& g, std::int64_t oy, std::int64_t ox) {
    const std::int64_t y = oy * g.stride_h - g.top;
    const std::int64_t x = ox * g.stride_w - g.left;
    y0 = y < 0 ? 0 : y;
    x0 = x < 0 ? 0 : x;
    y1 = y + g.kernel_h < g.h ? y + g.kernel_h : g.h;
    x1 = x + g.kernel_w < g.w ? x + g.kernel_w : g.w;
  }
  std::int64_t size() const { return (y1 - y0) * (x1 - x0); }
};

// Calls f(n, oy, ox) for each output pixel.
template <class F>
void for_each_output(const Geometry& g, int threads, const F& f) {
  parallel_pieces(g.n * g.oh, 1, g.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t ox = 0; ox < g.ow; ++ox) f(row / g.oh, row % g.oh, ox);
    }
  });
}

// The same for the backward ops, which add to dx. Windows may overlap, so each image belongs to one thread.
template <class F>
void for_each_gradient(const Geometry& g, float* dx, int threads, const F& f) {
  parallel_pieces(g.n, 1, g.work(), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t size = g.h * g.w * g.c;
      __builtin_memset(dx + n * size, 0, static_cast<std::size_t>(size) * sizeof(float));
      for (std::int64_t oy = 0; oy < g.oh; ++oy) {
        for (std::int64_t ox = 0; ox < g.ow; ++ox) f(n, oy, ox);
      }
    }
  });
}

// NaN if either is. Written as two selections, which the compiler can vectorise when they are nested.
inline float larger(float x, float y) {
  const float maximum = x > y ? x : y;
  return x != x ? x : maximum;
}

void max_2x2(const float* __restrict upper, const float* __restrict lower, float* __restrict out, std::int64_t c) {
#pragma omp simd
  for (std::int64_t i = 0; i < c; ++i) {
    // Loaded without a condition, or the loop would not vectorise.
    const float a = upper[i];
    const float b = upper[c + i];
    const float d = lower[i];
    const float e = lower[c + i];
    out[i] = larger(larger(d, e), larger(a, b));
  }
}

void max_pool(const KernelArgs& args) {
  const View& image = args.in[0];
  const View& pooled = args.out[0];
  const Geometry g(image, pooled, args.attributes<MaxPoolAttrs>());
  const float* x = static_cast<const float*>(image.data);
  float* y = static_cast<float*>(pooled.data);
  for_each_output(g, args.threads, [&](std::int64_t n, std::int64_t oy, std::int64_t ox) {
    float* __restrict out = y + ((n * g.oh + oy) * g.ow + ox) * g.c;
    const float* in = x + n * g.h * g.w * g.c;
    if (g.is_2x2) {
      const float* upper = in + (2 * oy * g.w + 2 * ox) * g.c;
      max_2x2(upper, upper + g.w * g.c, out, g.c);
      return;
    }
    const Window window(g, oy, ox);
    for (std::int64_t c = 0; c < g.c; ++c) out[c] = -detail::kInfinity;
    for (std::int64_t iy = window.y0; iy < window.y1; ++iy) {
      for (std::int64_t ix = window.x0; ix < window.x1; ++ix) {
        const float* __restrict pixel = in + (iy * g.w + ix) * g.c;
        for (std::int64_t c = 0; c < g.c; ++c) out[c] = larger(pixel[c], out[c]);
      }
    }
  });
}

// Where the maximum is NaN, the first NaN is the one that it came from; otherwise the window has no NaN.
inline bool is_maximum(float x, float y) { return x == y || x != x; }

void max_2x2_backward(const Geometry& g, const float* __restrict dy, const float* __restrict x,
                      const float* __restrict y, float* __restrict dx) {
  const std::int64_t right = g.c;
  const std::int64_t below = g.w * g.c;
#pragma omp simd
  for (std::int64_t i = 0; i < g.c; ++i) {
    const float maximum = y[i];
    const float gradient = dy[i];
    const bool first = is_maximum(x[i], maximum);
    const bool second = !first & is_maximum(x[i + right], maximum);
    const bool third = !(first | second) & is_maximum(x[i + below], maximum);
    const bool fourth = !(first | second | third) & is_maximum(x[i + below + right], maximum);
    dx[i] = first ? gradient : 0.0f;
    dx[i + right] = second ? gradient : 0.0f;
    dx[i + below] = third ? gradient : 0.0f;
    dx[i + below + right] = fourth ? gradient : 0.0f;
  }
}

// One window of the general case, `channels` at most kChannels of it. Pointers are at the first of these channels.
constexpr std::int64_t kChannels = 64;

void max_window_backward(const Geometry& g, const Window& window, std::int64_t channels, const float* __restrict dy,
                         const float* __restrict x, const float* __restrict y, float* __restrict dx) {
  std::int32_t open[kChannels];  // 1 until the maximum was met
  for (std::int64_t c = 0; c < channels; ++c) open[c] = 1;
  for (std::int64_t iy = window.y0; iy < window.y1; ++iy) {
    for (std::int64_t ix = window.x0; ix < window.x1; ++ix) {
      const std::int64_t pixel = (iy * g.w + ix) * g.c;
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int32_t hit = is_maximum(x[pixel + c], y[c]) ? open[c] : 0;
        dx[pixel + c] += hit != 0 ? dy[c] : 0.0f;
        open[c] -= hit;
      }
    }
  }
}

void max_pool_backward(const KernelArgs& args) {
  const View& out_gradient = args.in[0];
  const View& image = args.in[1];
  const View& pooled = args.in[2];
  const View& gradient = args.out[0];
  const Geometry g(image, pooled, args.attributes<MaxPoolAttrs>());
  const float* dy = static_cast<const float*>(out_gradient.data);
  const float* x = static_cast<const float*>(image.data);
  const float* y = static_cast<const float*>(pooled.data);
  float* dx = static_cast<float*>(gradient.data);
  for_each_gradient(g, dx, args.threads, [&](std::int64_t n, std::int64_t oy, std::int64_t ox) {
    const std::int64_t out = ((n * g.oh + oy) * g.ow + ox) * g.c;
    const std::int64_t in = n * g.h * g.w * g.c;
    if (g.is_2x2) {
      const std::int64_t corner = in + (2 * oy * g.w + 2 * ox) * g.c;
      max_2x2_backward(g, dy + out, x + corner, y + out, dx + corner);
      return;
    }
    const Window window(g, oy, ox);
    for (std::int64_t c = 0; c < g.c; c += kChannels) {
      const std::int64_t channels = g.c - c < kChannels ? g.c - c : kChannels;
      max_window_backward(g, window, channels, dy + out + c, x + in + c, y + out + c, dx + in + c);
    }
  });
}

float weight(const Geometry& g, const Window& window, bool count_include_pad) {
  return 1.0f / static_cast<float>(count_include_pad ? g.kernel_h * g.kernel_w : window.size());
}

void average_pool(const KernelArgs& args) {
  const View& image = args.in[0];
  const View& pooled = args.out[0];
  const auto& attrs = args.attributes<AveragePoolAttrs>();
  const Geometry g(image, pooled, attrs);
  const float* x = static_cast<const float*>(image.data);
  float* y = static_cast<float*>(pooled.data);
  for_each_output(g, args.threads, [&](std::int64_t n, std::int64_t oy, std::int64_t ox) {
    const Window window(g, oy, ox);
    float* __restrict out = y + ((n * g.oh + oy) * g.ow + ox) * g.c;
    for (std::int64_t c = 0; c < g.c; ++c) out[c] = 0;
    for (std::int64_t iy = window.y0; iy < window.y1; ++iy) {
      for (std::int64_t ix = window.x0; ix < window.x1; ++ix) {
        const float* __restrict pixel = x + ((n * g.h + iy) * g.w + ix) * g.c;
        for (std::int64_t c = 0; c < g.c; ++c) out[c] += pixel[c];
      }
    }
    const float scale = weight(g, window, attrs.count_include_pad);
    for (std::int64_t c = 0; c < g.c; ++c) out[c] *= scale;
  });
}

void average_pool_backward(const KernelArgs& args) {
  const View& pooled = args.in[0];
  const View& image = args.out[0];
  const auto& attrs = args.attributes<AveragePoolBackwardAttrs>();
  const Geometry g(image, pooled, attrs);
  const float* dy = static_cast<const float*>(pooled.data);
  float* dx = static_cast<float*>(image.data);
  for_each_gradient(g, dx, args.threads, [&](std::int64_t n, std::int64_t oy, std::int64_t ox) {
    const Window window(g, oy, ox);
    const float* __restrict gradient = dy + ((n * g.oh + oy) * g.ow + ox) * g.c;
    const float scale = weight(g, window, attrs.count_include_pad);
    for (std::int64_t iy = window.y0; iy < window.y1; ++iy) {
      for (std::int64_t ix = window.x0; ix < window.x1; ++ix) {
        float* __restrict pixel = dx + ((n * g.h + iy) * g.w + ix) * g.c;
        for (std::int64_t c = 0; c < g.c; ++c) pixel[c] += gradient[c] * scale;
      }
    }
  });
}

bool is_f32(const KernelSpec& spec) { return spec.in[0].dtype == DType::f32 && spec.out[0].dtype == DType::f32; }

constexpr KernelEntry kKernels[] = {
    {"max_pool", is_f32, max_pool},
    {"max_pool_backward", is_f32, max_pool_backward},
    {"average_pool", is_f32, average_pool},
    {"average_pool_backward", is_f32, average_pool_backward},
};

}  // namespace

std::span<const KernelEntry> pooling_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
