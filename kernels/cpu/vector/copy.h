// Moving elements of any dtype, as words of their size: from any strides to any strides.
#pragma once

#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_loop.h"
#include "kernels/cpu/vector/stream.h"
#include "kernels/math/small_float.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// Elements are moved as words of their size; may_alias, because they were written as floats or integers.
struct [[gnu::may_alias]] Word1 {
  std::uint8_t bits;
};
struct [[gnu::may_alias]] Word2 {
  std::uint16_t bits;
};
struct [[gnu::may_alias]] Word4 {
  std::uint32_t bits;
};
struct [[gnu::may_alias]] Word8 {
  std::uint64_t bits;
};

// Calls f with a word of the dtype's size.
template <class F>
TRIVET_INLINE void with_word(DType type, const F& f) {
  switch (dtype_size(type)) {
    case 1:
      return f(Word1{});
    case 2:
      return f(Word2{});
    case 4:
      return f(Word4{});
    default:
      return f(Word8{});
  }
}

// --- one copy for all: from any strides to any strides ---

inline constexpr int kTo = 0;
inline constexpr int kFrom = 1;

// A memcpy whose call costs nothing for a few bytes: rows of images have 3 channels, rows of heads 64.
TRIVET_INLINE void copy_bytes(void* to, const void* from, std::size_t bytes) {
  char* const a = static_cast<char*>(to);
  const char* const b = static_cast<const char*>(from);
  if (bytes > 256) {
    __builtin_memcpy(a, b, bytes);
  } else if (bytes >= 16) {
    for (std::size_t i = 0; i + 16 < bytes; i += 16) {
      __builtin_memcpy(a + i, b + i, 16);
      asm volatile("" ::: "memory");  // keeps the compiler from making a call of it
    }
    __builtin_memcpy(a + bytes - 16, b + bytes - 16, 16);
  } else if (bytes >= 8) {
    __builtin_memcpy(a, b, 8);
    __builtin_memcpy(a + bytes - 8, b + bytes - 8, 8);
  } else if (bytes >= 4) {
    __builtin_memcpy(a, b, 4);
    __builtin_memcpy(a + bytes - 4, b + bytes - 4, 4);
  } else {
    for (std::size_t i = 0; i < bytes; ++i) a[i] = b[i];
  }
}

template <class T>
TRIVET_INLINE void copy_elements(T* to, const T* from, std::int64_t n) {
  copy_bytes(to, from, static_cast<std::size_t>(n) * sizeof(T));
}

template <class T>
TRIVET_INLINE void copy_row(T* to, std::int64_t to_stride, const T* from, std::int64_t from_stride, std::int64_t n) {
  if (to_stride == 1 && from_stride == 1) {
    copy_elements(to, from, n);
  } else if (to_stride == 1 && from_stride == 0) {
    const T value = *from;
    for (std::int64_t i = 0; i < n; ++i) to[i] = value;
  } else if (to_stride == 1 && from_stride == -1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[-i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

// --- transposing by tiles whose rows are cache lines (half ones for bytes) ---

template <class T>
inline constexpr std::int64_t kTile = sizeof(T) == 1 ? 32 : static_cast<std::int64_t>(64 / sizeof(T));

// to[r][c] = from[c][r] for a block of 4 x 4 elements of 4 bytes, in registers; rows of both are kTile long.
TRIVET_INLINE void transpose_block(Word4* to, const Word4* from) {
  typedef std::uint32_t Vector __attribute__((vector_size(16)));
  Vector in[4];
  for (int c = 0; c < 4; ++c) __builtin_memcpy(&in[c], from + c * kTile<Word4>, sizeof(Vector));
  const Vector low01 = __builtin_shuffle(in[0], in[1], Vector{0, 4, 1, 5});
  const Vector high01 = __builtin_shuffle(in[0], in[1], Vector{2, 6, 3, 7});
  const Vector low23 = __builtin_shuffle(in[2], in[3], Vector{0, 4, 1, 5});
  const Vector high23 = __builtin_shuffle(in[2], in[3], Vector{2, 6, 3, 7});
  const Vector out[4] = {
      __builtin_shuffle(low01, low23, Vector{0, 1, 4, 5}), __builtin_shuffle(low01, low23, Vector{2, 3, 6, 7}),
      __builtin_shuffle(high01, high23, Vector{0, 1, 4, 5}), __builtin_shuffle(high01, high23, Vector{2, 3, 6, 7})};
  for (int r = 0; r < 4; ++r) __builtin_memcpy(to + r * kTile<Word4>, &out[r], sizeof(Vector));
}

// The same for 8 x 8 elements of 2 bytes: pairs, pairs of pairs and so on are interleaved.
TRIVET_INLINE void transpose_block(Word2* to, const Word2* from) {
  typedef std::uint16_t Vector __attribute__((vector_size(16)));
  Vector a[8];
  Vector b[8];
  for (int c = 0; c < 8; ++c) __builtin_memcpy(&a[c], from + c * kTile<Word2>, sizeof(Vector));
  for (int k = 0; k < 4; ++k) {
    b[k] = __builtin_shuffle(a[2 * k], a[2 * k + 1], Vector{0, 8, 1, 9, 2, 10, 3, 11});
    b[k + 4] = __builtin_shuffle(a[2 * k], a[2 * k + 1], Vector{4, 12, 5, 13, 6, 14, 7, 15});
  }
  for (int k = 0; k < 4; ++k) {  // b: columns 0-3 of rows 01, 23, 45, 67, then columns 4-7
    const int pair = 2 * (k % 2) + 4 * (k / 2);
    a[2 * k] = __builtin_shuffle(b[pair], b[pair + 1], Vector{0, 1, 8, 9, 2, 3, 10, 11});
    a[2 * k + 1] = __builtin_shuffle(b[pair], b[pair + 1], Vector{4, 5, 12, 13, 6, 7, 14, 15});
  }
  for (int k = 0; k < 2; ++k) {  // a: columns 01 and 23 of rows 0-3, then of rows 4-7, then columns 45 and 67
    for (int j = 0; j < 2; ++j) {
      const int left = 4 * k + j;
      b[4 * k + 2 * j] = __builtin_shuffle(a[left], a[left + 2], Vector{0, 1, 2, 3, 8, 9, 10, 11});
      b[4 * k + 2 * j + 1] = __builtin_shuffle(a[left], a[left + 2], Vector{4, 5, 6, 7, 12, 13, 14, 15});
    }
  }
  for (int r = 0; r < 8; ++r) __builtin_memcpy(to + r * kTile<Word2>, &b[r], sizeof(Vector));
}

template <class T>
TRIVET_INLINE void transpose_block(T* to, const T* from) {
  *to = *from;
}

// to[r * to_stride + c] = from[c * from_stride + r]. A whole tile is copied line by line to and from dense ones: rows
// whose distance is a power of two would otherwise drive each other out of the cache before they are used up.
template <class T>
TRIVET_INLINE void transpose_tile(T* to, std::int64_t to_stride, const T* from, std::int64_t from_stride,
                                  std::int64_t rows, std::int64_t columns, bool ahead, bool past) {
  constexpr std::int64_t n = kTile<T>;
  constexpr std::int64_t block = sizeof(T) == 4 ? 4 : sizeof(T) == 2 ? 8 : 1;
  if (rows != n || columns != n) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) to[r * to_stride + c] = from[c * from_stride + r];
    }
    return;
  }
  alignas(64) T in[n * n];
  alignas(64) T out[n * n];
  for (std::int64_t c = 0; c < n; ++c) {
    __builtin_memcpy(in + c * n, from + c * from_stride, n * sizeof(T));
    if (ahead) __builtin_prefetch(from + (c + n) * from_stride, 0, 2);  // of the next tile
  }
  for (std::int64_t r = 0; r < n; r += block) {
    for (std::int64_t c = 0; c < n; c += block) transpose_block(out + r * n + c, in + c * n + r);
  }
  for (std::int64_t r = 0; r < n; ++r) {
    if (past) {
      write_past(to + r * to_stride, out + r * n, n);
    } else {
      __builtin_memcpy(to + r * to_stride, out + r * n, n * sizeof(T));
    }
  }
}

// The output is dense along the last dimension, the input along dimension `dense_from`: by tiles of both, so that
// each cache line that is touched is used whole. A few tiles side by side in the input make one unit of work.
template <class T>
void copy_tiled(T* to, const T* from, RowLoop<2> loop, int dense_from, int threads) {
  constexpr std::int64_t n = kTile<T>;
  constexpr std::int64_t kDown = 4 * n;
  const std::int64_t elements = loop.elements();
  const std::int64_t rows = loop.size(dense_from);
  const std::int64_t columns = loop.size(loop.rank() - 1);
  const std::int64_t to_stride = loop.stride(dense_from, kTo);
  const std::int64_t from_stride = loop.stride(loop.rank() - 1, kFrom);
  loop.remove_dimension(loop.rank() - 1);
  loop.remove_dimension(dense_from);
  const std::int64_t down = (rows + kDown - 1) / kDown;
  const std::int64_t across = (columns + n - 1) / n;
  const bool ahead = static_cast<std::size_t>(elements) * sizeof(T) >= kLeastAhead;
  // Rows of the output that begin with a line: what is written is whole lines.
  const bool past = static_cast<std::size_t>(elements) * sizeof(T) >= kLeastPast && sizeof(T) > 1 &&
                    to_stride * static_cast<std::int64_t>(sizeof(T)) % 64 == 0;
  parallel_pieces(loop.elements() * across * down, 8, elements, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      std::int64_t index[kMaxRank];
      std::int64_t offsets[2];
      loop.seek(unit / (across * down), loop.rank(), index, offsets);
      const std::int64_t first = unit / across % down * kDown;
      const std::int64_t c = unit % across * n;
      for (std::int64_t r = first; r < rows && r < first + kDown; r += n) {
        transpose_tile(to + offsets[kTo] + r * to_stride + c, to_stride, from + offsets[kFrom] + c * from_stride + r,
                       from_stride, rows - r < n ? rows - r : n, columns - c < n ? columns - c : n, ahead, past);
      }
    }
    finish_writes_past(past);
  });
}

template <class T>
void copy_strided(T* to, const T* from, const RowLoop<2>& loop, int threads) {
  if (loop.elements() == 0) return;
  if (loop.inner_stride(kTo) == 1 && loop.inner_stride(kFrom) > 1) {
    for (int d = 0; d + 1 < loop.rank(); ++d) {
      if (loop.stride(d, kFrom) == 1) return copy_tiled(to, from, loop, d, threads);
    }
  }
  const std::int64_t to_stride = loop.inner_stride(kTo);
  const std::int64_t from_stride = loop.inner_stride(kFrom);
  loop.for_each_row(threads, [=](const std::int64_t* offsets, std::int64_t n) {
    copy_row(to + offsets[kTo], to_stride, from + offsets[kFrom], from_stride, n);
  });
}

// Sizes of a tensor before, along and behind one dimension.
struct Extents {
  std::int64_t outer = 1;
  std::int64_t size = 1;
  std::int64_t inner = 1;
};

TRIVET_INLINE Extents extents_of(const TensorDesc& t, std::int64_t given_axis) {
  const int axis = static_cast<int>(given_axis < 0 ? given_axis + t.rank : given_axis);
  Extents e;
  for (int d = 0; d < axis; ++d) e.outer *= t.shape[d];
  e.size = t.shape[axis];
  for (int d = axis + 1; d < t.rank; ++d) e.inner *= t.shape[d];
  return e;
}

template <class T>
void fill(T* to, T value, std::int64_t n, int threads) {
  parallel_pieces(n, 16384, n, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] = value;
  });
}

// Strides of a dense tensor.
TRIVET_INLINE void dense_strides(const TensorDesc& t, std::int64_t* strides) {
  std::int64_t stride = 1;
  for (int d = t.rank - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= t.shape[d];
  }
}

// A number as the element of a dtype, in the low bytes. The op's shape rule has checked that it is representable.
TRIVET_INLINE std::uint64_t element_bits(DType type, double value) {
  switch (type) {
    case DType::f32:
      return __builtin_bit_cast(std::uint32_t, static_cast<float>(value));
    case DType::f64:
      return __builtin_bit_cast(std::uint64_t, value);
    case DType::bf16:
      return from_f32<BFloat16>(static_cast<float>(value)).bits;
    case DType::f16:
      return from_f32<Float16>(static_cast<float>(value)).bits;
    case DType::boolean:
      return value != 0 ? 1 : 0;
    default:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
  }
}

template <class T>
TRIVET_INLINE T word_of(std::uint64_t bits) {
  T word;
  word.bits = static_cast<decltype(word.bits)>(bits);
  return word;
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
