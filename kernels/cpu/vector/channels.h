// Sums and maps over the channels of dense data (images, rows, channels), for normalizations. Channels are the
// innermost axis, so a sum over the rows of a channel runs down a column; narrow rows are taken several at a time.
#pragma once

#include <cstdint>

#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/storage.h"
#include "kernels/cpu/vector/stream.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// Channels whose sums are combined at a time, in double.
inline constexpr std::int64_t kChannelBlock = 64;

struct Channels {
  // Wide rows have about this many elements or more, and at most kMostWide if they are several rows.
  static constexpr std::int64_t kWide = 256;
  static constexpr std::int64_t kMostWide = 1024;
  // Elements of a piece, whose sums are taken in float32: few enough for the second cache.
  static constexpr std::int64_t kPieceElements = 16384;

  std::int64_t images;
  std::int64_t rows;  // of an image
  std::int64_t columns;
  std::int64_t fold;    // rows in a wide row
  std::int64_t width;   // elements of a wide row
  std::int64_t grain;   // rows of a piece, a multiple of fold
  std::int64_t pieces;  // of an image

  Channels(const TensorDesc& t, std::int64_t image_count) : images(image_count), columns(t.shape[t.rank - 1]) {
    std::int64_t elements = 1;
    for (int i = 0; i < t.rank; ++i) elements *= t.shape[i];
    rows = elements / columns / images;
    fold = 1;
    // The least number of rows that fill whole vectors of 16.
    while (fold * columns % 16 != 0) fold *= 2;
    if (fold * columns > kMostWide) fold = 1;
    if (columns < kWide) fold *= (kWide + fold * columns - 1) / (fold * columns);
    width = fold * columns;
    const std::int64_t fitting = kPieceElements / width;
    grain = fold * (fitting < 16 ? 16 : fitting);
    pieces = (rows + grain - 1) / grain;
  }

  std::int64_t all_pieces() const { return images * pieces; }
  std::int64_t elements() const { return images * rows * columns; }
  // Rows of piece `p` of an image.
  std::int64_t piece_rows(std::int64_t p) const { return rows - p * grain < grain ? rows - p * grain : grain; }

  // Calls f(image, piece, first element, number of elements); `piece` counts through all images.
  template <class F>
  void for_each_piece(int threads, const F& f) const {
    visit_pieces<false>(threads, f);
  }
  // The same from each thread's last piece to its first: after for_each_piece the last ones are those in the caches.
  template <class F>
  void for_each_piece_reversed(int threads, const F& f) const {
    visit_pieces<true>(threads, f);
  }

  // Repeats the first `columns` elements up to the width of a wide row.
  void spread(float* v) const {
    for (std::int64_t i = columns; i < width; ++i) v[i] = v[i - columns];
  }

  // out[i] = f(i, j) for the elements i of a piece, j being the place in a wide row.
  template <class T, class F>
  [[gnu::always_inline]] void write_elements(T* out, std::int64_t count, bool past, const F& f) const {
    alignas(64) T block[kPastBlock];
    const std::int64_t step = past ? kPastBlock : width;
    for (std::int64_t i = 0; i < count; i += width) {
      const std::int64_t row = count - i < width ? count - i : width;
      for (std::int64_t first = 0; first < row; first += step) {
        const std::int64_t n = row - first < step ? row - first : step;
        T* const to = past ? block : out + i + first;
#pragma omp simd
        for (std::int64_t j = 0; j < n; ++j) to[j] = from_f32<T>(f(i + first + j, first + j));
        if (past) write_past(out + i + first, block, n);
      }
      keep_rows_apart();
    }
    finish_writes_past(past);
  }

  // Sums of the two values of f(i, j) over the rows of a piece, one for each channel. f may write element i.
  template <class F>
  [[gnu::always_inline]] void piece_sums(std::int64_t count, float* first, float* second, const F& f) const {
    float wide[2 * kMostWide];
    float* __restrict a = fold == 1 ? first : wide;
    float* __restrict b = fold == 1 ? second : wide + kMostWide;
    for (std::int64_t j = 0; j < width; ++j) a[j] = b[j] = 0;
    // Four quarters side by side: memory is read faster in several long runs than in one, or in short ones.
    const std::int64_t quarter = count / width / 4 * width;
    for (std::int64_t i = 0; i < quarter; i += width) {
#pragma omp simd
      for (std::int64_t j = 0; j < width; ++j) {
        const TwoSums s = f(i + j, j);
        const TwoSums t = f(i + quarter + j, j);
        const TwoSums u = f(i + 2 * quarter + j, j);
        const TwoSums v = f(i + 3 * quarter + j, j);
        a[j] += (s.first + t.first) + (u.first + v.first);
        b[j] += (s.second + t.second) + (u.second + v.second);
      }
      keep_rows_apart();
    }
    for (std::int64_t i = 4 * quarter; i < count; i += width) {
      const std::int64_t n = count - i < width ? count - i : width;
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) {
        const TwoSums s = f(i + j, j);
        a[j] += s.first;
        b[j] += s.second;
      }
      keep_rows_apart();
    }
    if (fold == 1) return;
    for (std::int64_t c = 0; c < columns; ++c) first[c] = second[c] = 0;
    for (std::int64_t k = 0; k < width; k += columns) {
      for (std::int64_t c = 0; c < columns; ++c) {
        first[c] += a[k + c];
        second[c] += b[k + c];
      }
    }
  }

 private:
  template <bool kReversed, class F>
  void visit_pieces(int threads, const F& f) const {
    const std::int64_t all = all_pieces();
    parallel_ranges(all, elements(), threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) {
        const std::int64_t piece = kReversed ? begin + end - 1 - k : k;
        const std::int64_t image = piece / pieces;
        const std::int64_t p = piece % pieces;
        f(image, piece, (image * rows + p * grain) * columns, piece_rows(p) * columns);
      }
    });
  }

  // Keeps the compiler from merging the loops over several rows into one, which it then cannot vectorise.
  [[gnu::always_inline]] static void keep_rows_apart() { asm volatile("" ::: "memory"); }
};

// ---- moments ----

// Means, and sums of squared distances from them, of a block of channels of one image.
struct Moments {
  double mean[kChannelBlock] = {};
  double squares[kChannelBlock] = {};
};

// Writes (pieces, 3, columns): an origin for each channel, and the sums of d and d^2 with d = x - origin. The origin is
// the mean of the first eighth of the piece's n rows: as a mean of m of the n data its squared distance from their mean
// is at most S / m (Cauchy and Schwarz), S being the sum of squares around the mean. So the squares around the origin
// are at most 1 + n / m = 9 times S, and taking S from them loses no more than log2(9) bits.
template <class T>
void piece_moments(const T* x, const Channels& m, float* partial, int threads) {
  m.for_each_piece(threads, [&](std::int64_t, std::int64_t piece, std::int64_t first, std::int64_t count) {
    const T* in = x + first;
    float* origin = partial + piece * 3 * m.columns;
    float* sums = origin + m.columns;
    const std::int64_t eighth = (count / m.width + 7) / 8 * m.width;
    const std::int64_t head = eighth == 0 ? count : eighth;
    m.piece_sums(head, origin, sums, [=](std::int64_t i, std::int64_t) { return TwoSums{to_f32(in[i]), 0}; });
    const float inverse = 1.0f / static_cast<float>(head / m.columns);
    for (std::int64_t c = 0; c < m.columns; ++c) origin[c] *= inverse;
    float wide[Channels::kMostWide];
    const float* __restrict from = origin;
    if (m.fold > 1) {
      for (std::int64_t c = 0; c < m.columns; ++c) wide[c] = origin[c];
      m.spread(wide);
      from = wide;
    }
    m.piece_sums(count, sums, sums + m.columns, [=](std::int64_t i, std::int64_t j) {
      const float d = to_f32(in[i]) - from[j];
      return TwoSums{d, d * d};
    });
  });
}

// Combines the pieces of one image for `width` channels from `first` on. `partial` is the image's part.
// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979), (2.1).
inline void combine_moments(const float* partial, const Channels& m, std::int64_t first, std::int64_t width,
                            Moments& all) {
  double n = 0;
  for (std::int64_t p = 0; p < m.pieces; ++p) {
    const float* piece = partial + p * 3 * m.columns + first;
    const double added = static_cast<double>(m.piece_rows(p));
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

// Calls f(first channel, channels) for each block.
template <class F>
void for_each_channel_block(std::int64_t columns, const F& f) {
  for (std::int64_t c = 0; c < columns; c += kChannelBlock) {
    f(c, columns - c < kChannelBlock ? columns - c : kChannelBlock);
  }
}

// Adds `pieces` pairs of sums, (pieces, 2, columns), in order: first[c] and second[c].
inline void combine_pairs(const float* partial, std::int64_t pieces, std::int64_t columns, float* first,
                          float* second) {
  for_each_channel_block(columns, [=](std::int64_t c, std::int64_t width) {
    double a[kChannelBlock] = {};
    double b[kChannelBlock] = {};
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

// ---- the last steps ----

// Three numbers for each channel, each as long as a wide row. Images may have their own.
struct ChannelVectors {
  float* data;
  std::int64_t width;
  std::int64_t image_stride;  // 0: all images have the same

  float* of(std::int64_t image, int k) const { return data + image * image_stride + k * width; }
};

// Channel by channel: y = relu((x - center) * scale + shift + residual), in place if wanted. Vectors 0 to 2 are center,
// scale and shift.
template <class T, bool kRelu, bool kResidual>
void normalize_channels(const Channels& m, const T* x, const T* residual, const View& result,
                        const ChannelVectors& vectors, int threads) {
  T* const y = result.as<T>();
  const bool past = writes_past_caches(result, x) && y != residual;
  m.for_each_piece_reversed(threads, [&](std::int64_t image, std::int64_t, std::int64_t first, std::int64_t count) {
    const float* __restrict center = vectors.of(image, 0);
    const float* __restrict scale = vectors.of(image, 1);
    const float* __restrict shift = vectors.of(image, 2);
    const T* in = x + first;
    const T* added = kResidual ? residual + first : nullptr;
    m.write_elements(y + first, count, past, [=](std::int64_t i, std::int64_t j) {
      float v = (to_f32(in[i]) - center[j]) * scale[j] + shift[j];
      if constexpr (kResidual) v += to_f32(added[i]);
      if constexpr (kRelu) v = v <= 0.0f ? 0.0f : v;  // NaN stays
      return v;
    });
  });
}

// dx = g * of_dy + ((x - center) * of_x + shift), g being dy where y is positive. Vectors 0 to 3 are center, of_dy,
// of_x and shift.
template <class T, bool kRelu>
void channel_gradients(const Channels& m, const T* dy, const T* x, const T* y, const View& result,
                       const ChannelVectors& vectors, int threads) {
  T* const dx = result.as<T>();
  const bool past = writes_past_caches(result, x) && dx != dy && dx != y;
  m.for_each_piece_reversed(threads, [&](std::int64_t image, std::int64_t, std::int64_t first, std::int64_t count) {
    const float* __restrict center = vectors.of(image, 0);
    const float* __restrict of_dy = vectors.of(image, 1);
    const float* __restrict of_x = vectors.of(image, 2);
    const float* __restrict shift = vectors.of(image, 3);
    const T* gradient = dy + first;
    const T* in = x + first;
    const T* active = kRelu ? y + first : nullptr;
    m.write_elements(dx + first, count, past, [=](std::int64_t i, std::int64_t j) {
      float g = to_f32(gradient[i]);
      if constexpr (kRelu) g = to_f32(active[i]) <= 0.0f ? 0.0f : g;
      return g * of_dy[j] + ((to_f32(in[i]) - center[j]) * of_x[j] + shift[j]);
    });
  });
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
