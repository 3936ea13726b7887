#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/copy.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/attrs_padding.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// One dimension: `size` elements, `before` of them added in front, `total` after padding.
struct Axis {
  std::int64_t size = 1;
  std::int64_t before = 0;
  std::int64_t total = 1;
};

// The dimensions up to the last padded one; the `inner` elements behind it are moved together.
struct Padding {
  Axis axes[kMaxRank];
  int last = 0;
  std::int64_t inner = 1;
  PadMode mode = PadMode::constant;
};

// `small`: the tensor without padding, `large`: with it.
TRIVET_INLINE Padding plan_padding(const TensorDesc& small, const TensorDesc& large, PadMode mode) {
  Padding p;
  p.mode = mode;
  for (int d = 0; d < small.rank; ++d) {
    p.axes[d] = {small.shape[d], 0, large.shape[d]};
    if (small.shape[d] != large.shape[d]) p.last = d;
  }
  for (int d = p.last + 1; d < small.rank; ++d) p.inner *= small.shape[d];
  return p;
}

TRIVET_INLINE void set_pads(Padding& p, const PadAttrs& attrs, int rank) {
  for (int i = 0; i < attrs.pads.n / 2; ++i) {
    const std::int64_t axis = attrs.axes.n == 0 ? i : attrs.axes.v[i] < 0 ? attrs.axes.v[i] + rank : attrs.axes.v[i];
    p.axes[axis].before = attrs.pads.v[i];
  }
}

// The element that stands at place `at` of the padded dimension; -1 for the constant.
TRIVET_INLINE std::int64_t source_of(const Axis& axis, PadMode mode, std::int64_t at) {
  const std::int64_t i = at - axis.before;
  if (i >= 0 && i < axis.size) return i;
  switch (mode) {
    case PadMode::reflect:
      return i < 0 ? -i : 2 * (axis.size - 1) - i;
    case PadMode::edge:
      return i < 0 ? 0 : axis.size - 1;
    case PadMode::wrap:
      return (i % axis.size + axis.size) % axis.size;
    default:
      return -1;
  }
}

// --- pad, tile ---

// Places [begin, end) of the last padded dimension, which lie before or behind its own elements.
template <class T>
TRIVET_INLINE void write_border(T* to, const T* from, const Padding& p, std::int64_t begin, std::int64_t end, T value) {
  const Axis& axis = p.axes[p.last];
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t i = source_of(axis, p.mode, at);
    std::int64_t n = 1;
    if (i < 0) {
      n = end - at;
      for (std::int64_t k = 0; k < n * p.inner; ++k) to[at * p.inner + k] = value;
    } else {
      if (p.mode == PadMode::wrap) n = axis.size - i < end - at ? axis.size - i : end - at;
      copy_elements(to + at * p.inner, from + i * p.inner, n * p.inner);
    }
    at += n;
  }
}

template <class T>
void pad(const View& x, const View& y, const Padding& p, T value, int threads) {
  const Axis& axis = p.axes[p.last];
  const std::int64_t row = axis.total * p.inner;
  const std::int64_t elements = element_count(y);
  if (elements == 0) return;
  const T* const from = x.as<const T>();
  T* const to = y.as<T>();
  parallel_pieces(elements / row, row < 8192 ? 8192 / row : 1, elements, threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      std::int64_t source = 0;  // row of x
                      std::int64_t stride = 1;
                      bool outside = false;
                      std::int64_t rest = r;
                      for (int d = p.last - 1; d >= 0; --d) {
                        const std::int64_t i = source_of(p.axes[d], p.mode, rest % p.axes[d].total);
                        outside = outside || i < 0;
                        source += i * stride;
                        stride *= p.axes[d].size;
                        rest /= p.axes[d].total;
                      }
                      T* const out = to + r * row;
                      if (outside) {
                        for (std::int64_t k = 0; k < row; ++k) out[k] = value;
                        continue;
                      }
                      const T* const in = from + source * axis.size * p.inner;
                      write_border(out, in, p, 0, axis.before, value);
                      copy_elements(out + axis.before * p.inner, in, axis.size * p.inner);
                      write_border(out, in, p, axis.before + axis.size, axis.total, value);
                    }
                  });
}

void run_pad(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const auto& attrs = args.attributes<PadAttrs>();
  Padding p = plan_padding(x, y, attrs.mode);
  set_pads(p, attrs, x.rank);
  const std::uint64_t bits = attrs.mode == PadMode::constant ? element_bits(x.dtype, attrs.value) : 0;
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    pad(x, y, p, word_of<T>(bits), args.threads);
  });
}

// Repeating is padding behind, from the other end.
void run_tile(const KernelArgs& args) {
  const View& x = args.in[0];
  const View& y = args.out[0];
  const Padding p = plan_padding(x, y, PadMode::wrap);
  with_word(x.dtype, [&](auto word) {
    using T = decltype(word);
    pad(x, y, p, T{0}, args.threads);
  });
}

// --- pad_backward ---

// Where an element of one dimension was copied to, in ascending order: some places, or first, first + step, ...
struct Places {
  std::int64_t count = 0;
  std::int64_t first = 0;
  std::int64_t step = 0;  // 0: listed
  std::int64_t list[3] = {};

  TRIVET_INLINE std::int64_t operator[](std::int64_t k) const { return step == 0 ? list[k] : first + k * step; }
};

TRIVET_INLINE Places places_of(const Axis& axis, PadMode mode, std::int64_t i) {
  Places p;
  const std::int64_t middle = axis.before + i;
  if (mode == PadMode::wrap) {
    p.first = middle % axis.size;
    p.step = axis.size;
    p.count = (axis.total - p.first + axis.size - 1) / axis.size;
  } else if (mode == PadMode::edge) {
    p.first = i == 0 ? 0 : middle;
    p.step = 1;
    p.count = (i == axis.size - 1 ? axis.total : middle + 1) - p.first;
  } else {
    const bool mirrored = mode == PadMode::reflect;
    const std::int64_t behind = axis.before + 2 * (axis.size - 1) - i;
    if (mirrored && i >= 1 && axis.before >= i) p.list[p.count++] = axis.before - i;
    p.list[p.count++] = middle;
    if (mirrored && i <= axis.size - 2 && behind < axis.total) p.list[p.count++] = behind;
  }
  return p;
}

// Calls f(offset) for each combination of the dimensions' places, in their order; offset counts groups of `inner`.
template <class F>
TRIVET_INLINE void for_each_place(const Padding& p, const Places* places, const F& f) {
  std::int64_t index[kMaxRank] = {};
  for (;;) {
    std::int64_t offset = 0;
    for (int d = 0; d <= p.last; ++d) offset = offset * p.axes[d].total + places[d][index[d]];
    f(offset);
    int d = p.last;
    while (d >= 0 && ++index[d] == places[d].count) index[d--] = 0;
    if (d < 0) return;
  }
}

// dx = the sum of dy over the places.
template <class T>
TRIVET_INLINE void sum_places(T* dx, const T* dy, const Padding& p, const Places* places) {
  constexpr std::int64_t kColumns = 256;
  for (std::int64_t c = 0; c < p.inner; c += kColumns) {
    const std::int64_t n = p.inner - c < kColumns ? p.inner - c : kColumns;
    double sums[kColumns];
    for (std::int64_t j = 0; j < n; ++j) sums[j] = 0;
    for_each_place(p, places, [&](std::int64_t offset) {
      const T* const from = dy + offset * p.inner + c;
      for (std::int64_t j = 0; j < n; ++j) sums[j] += static_cast<double>(to_f32(from[j]));
    });
    for (std::int64_t j = 0; j < n; ++j) dx[c + j] = from_f32<T>(static_cast<float>(sums[j]));
  }
}

// Row by row of the last padded dimension. Its elements with one place only, which are most, are copied together.
template <class T>
void pad_backward(const View& dy_view, const View& dx_view, const Padding& p, int threads) {
  const std::int64_t elements = element_count(dx_view);
  if (elements == 0) return;
  const T* const dy = dy_view.as<const T>();
  T* const dx = dx_view.as<T>();
  const Axis& axis = p.axes[p.last];
  const std::int64_t row = axis.size * p.inner;
  parallel_pieces(elements / row, row < 2048 ? 2048 / row : 1, element_count(dy_view), threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      Places places[kMaxRank];
                      std::int64_t rest = r;
                      bool single = true;
                      for (int d = p.last - 1; d >= 0; --d) {
                        places[d] = places_of(p.axes[d], p.mode, rest % p.axes[d].size);
                        single = single && places[d].count == 1;
                        rest /= p.axes[d].size;
                      }
                      std::int64_t line = 0;  // of dy
                      for (int d = 0; d < p.last; ++d) line = line * p.axes[d].total + places[d][0];
                      T* const to = dx + r * row;
                      for (std::int64_t i = 0; i < axis.size;) {
                        std::int64_t end_of_run = i;
                        while (single && end_of_run < axis.size &&
                               (places[p.last] = places_of(axis, p.mode, end_of_run)).count == 1) {
                          ++end_of_run;
                        }
                        if (end_of_run > i) {
                          copy_elements(to + i * p.inner, dy + (line * axis.total + axis.before + i) * p.inner,
                                        (end_of_run - i) * p.inner);
                          i = end_of_run;
                          continue;
                        }
                        places[p.last] = places_of(axis, p.mode, i);
                        sum_places(to + i * p.inner, dy, p, places);
                        ++i;
                      }
                    }
                  });
}

void run_pad_backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<PadAttrs>();
  Padding p = plan_padding(args.out[0], args.in[0], attrs.mode);
  set_pads(p, attrs, args.in[0].rank);
  with_compute_type(args.in[0].dtype,
                    [&](auto element) { pad_backward<decltype(element)>(args.in[0], args.out[0], p, args.threads); });
}

bool any_type(const KernelSpec&) { return true; }
bool compute_type(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"pad", any_type, run_pad},
    {"pad_backward", compute_type, run_pad_backward},
    {"tile", any_type, run_tile},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> padding_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
